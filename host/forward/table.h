/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port forwards of one VM: guest listeners and rules in, host listeners out. The desired set is
 * computed anew at every change and compared with the live one. Where several guest listeners want
 * one host address, the first has it and the next takes over without a gap.
 */
#pragma once

#include "config/config.h"
#include "forward/listener.h"
#include "peer/client.h"
#include "util/loop.h"
#include "util/strv.h"

struct forward_table;

enum forward_event {
    FORWARD_EVENT_FORWARDING,     /* the host listens now; @error: it is another port than wanted */
    FORWARD_EVENT_NOT_FORWARDING, /* a rule says so, or none fits, or nothing can carry it */
    FORWARD_EVENT_STOPPING,       /* the host listens no longer */
    FORWARD_EVENT_FAILED,         /* @error says why; tried again later */
};

/* Borrowed during the call. */
struct forward_news {
    enum forward_event event;
    enum config_proto proto;
    const char *guest; /* "127.0.0.1:8080", "[::1]:80" or a socket's path */
    const char *host;  /* the same; NULL with NOT_FORWARDING */
    const char *error; /* or NULL */
    bool quiet;        /* nobody asked for this forward by a rule */
};

/* Upward call; must not free the table. Comes when it has happened, not before. */
struct forward_events {
    void (*changed)(const struct forward_news *news, void *arg);
};

/*
 * @rules are the user's, copied; the implicit ones (22, @ssh_port, fallback) are added. What @env
 * names is borrowed.
 */
struct forward_table *forward_table_new(const struct forward_env *env,
                                        const struct config_port_forward *rules, size_t rule_count,
                                        int ssh_port, const struct forward_events *events,
                                        void *events_arg);
void forward_table_free(struct forward_table *table);
SCOPED_PTR(struct forward_table, forward_table_free)
/*
 * The guest can be reached: what needs no listener in it is forwarded from now on, at once. Also
 * the first update does that.
 */
void forward_table_start(struct forward_table *table);
/*
 * From peer_events.ports. Takes effect from the loop, together with all that comes until then;
 * changed() is called from there, never from here. When the session is lost nothing needs to be
 * said: the tunnels end by themselves, the listeners stay until the next snapshot.
 */
void forward_table_update(struct forward_table *table, bool snapshot, const struct peer_port *added,
                          size_t added_count, const struct peer_port *removed,
                          size_t removed_count);

/*
 * Puts @rule in front of the others, at once. With onConflict "fail" it is only kept if its
 * forwards work now. A temporary one may become a lasting one so.
 * Errors: EEXIST (there is the same one), EADDRINUSE (they do not work).
 */
int forward_table_add(struct forward_table *table, const struct config_port_forward *rule,
                      bool temporary, struct error *err);
/* Takes the first rule out that leads from and to the same. Errors: ENOENT. */
int forward_table_remove(struct forward_table *table, const struct config_port_forward *rule,
                         struct error *err);

/* ---- looking at it ---- */

enum forward_state {
    FORWARD_STATE_FORWARDING,
    FORWARD_STATE_OPENING,   /* a socket in the guest that waits for the guest */
    FORWARD_STATE_STANDBY,   /* takes over when another guest listener lets go */
    FORWARD_STATE_CONFLICT,  /* the host's address is taken */
    FORWARD_STATE_FAILED,    /* for another reason */
    FORWARD_STATE_IGNORED,   /* a rule says so */
    FORWARD_STATE_UNMATCHED, /* no rule fits */
    FORWARD_STATE_CLOSING,   /* the host listens no longer, connections are left */
    FORWARD_STATE_COUNT,
};

extern const char *const forward_state_names[]; /* "forwarding", ... */

/* One line; borrowed during the call. */
struct forward_status {
    enum forward_state state;
    enum config_proto proto;
    bool sockets;       /* Unix ones, at either end */
    const char *guest;  /* as in struct forward_news */
    const char *host;   /* where the host listens, or should; NULL: nowhere */
    const char *reason; /* or NULL */
    const char *rule;   /* "portForwards[2]", "added", "built-in" */
    const char *origin; /* "socket", "container", "kubernetes"; "rule": no listener is needed */
    bool temporary, is_static, reverse, remapped;
    bool trouble;       /* something that was asked for does not work */
    size_t connections; /* now */
};

/*
 * Calls @each for everything that is known, rules first. @each must not touch the table. @holders:
 * reasons name who has an address that is taken, which takes a look at all processes.
 */
void forward_table_list(struct forward_table *table, bool holders,
                        void (*each)(const struct forward_status *status, void *arg), void *arg);
/* Appends what does not work of rules with onConflict "fail", a line each. */
void forward_table_failures(struct forward_table *table, struct strv *ret);
