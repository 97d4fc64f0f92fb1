/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest agent as the host sees it: one mux session over a stream, the calls and events of
 * guest.proto, checked (the guest is hostile: lengths, counts, addresses, UTF-8) before they are
 * handed up.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "config/config.h"
#include "mux/mux.h"
#include "util/loop.h"

struct peer; /* survives any number of connections */

enum peer_stage { /* lima.guest.v1.Stage.Name */
                  PEER_STAGE_UNKNOWN,
                  PEER_STAGE_AGENT,
                  PEER_STAGE_CLOUD_INIT,
                  PEER_STAGE_SSH,
                  PEER_STAGE_PROVISION,
                  PEER_STAGE_PROBES,
                  PEER_STAGE_READY,
                  PEER_STAGE_FAILED,
};

enum peer_origin {                         /* lima.guest.v1.Port.Origin */
                   PEER_ORIGIN_SOCKET,     /* a process of the guest's own network listens */
                   PEER_ORIGIN_CONTAINER,  /* an address translation leads to a container */
                   PEER_ORIGIN_KUBERNETES, /* a NodePort or LoadBalancer service */
};

struct peer_port {
    enum config_proto proto; /* TCP or UDP */
    struct config_address address;
    uint16_t port;
    enum peer_origin origin;
};

struct peer_info { /* all strings printable, borrowed during the call */
    const char *agent_version, *boot_id, *instance_id, *hostname, *os, *kernel, *arch;
    uint64_t uptime_ms;
    const char *const *features;
    size_t feature_count;
};

struct peer_script { /* strings as above; never NULL */
    const char *name;
    bool running;     /* it has begun; the rest says nothing then */
    int exit_status;  /* as the guest says: any number */
    const char *tail; /* the last lines of its output */
    const char *hint; /* what its author says to a failure */
};

/* Upward calls. None may free the peer. */
struct peer_events {
    void (*connected)(const struct peer_info *info, void *arg);
    /* The session is lost; its streams were closed before. Those by vsock live on. */
    void (*disconnected)(void *arg);
    /*
     * The transport ended (end-of-file, error, a guest that breaks the protocol) and was closed;
     * never after peer_detach().
     */
    void (*closed)(void *arg);
    /* @uptime_us: of the guest, when it happened. */
    void (*stage)(enum peer_stage stage, const char *detail, const char *instance_id,
                  uint64_t uptime_us, void *arg);
    void (*script)(const struct peer_script *script, void *arg);
    /* @snapshot: @added is everything. It may name a known port, whose origin has changed. */
    void (*ports)(bool snapshot, const struct peer_port *added, size_t added_count,
                  const struct peer_port *removed, size_t removed_count, void *arg);
};

/* @loop and @events are borrowed, @events is constant. Detached until peer_attach(). */
struct peer *peer_new(struct loop *loop, const struct peer_events *events, void *events_arg);
/* Closes the transport; no event comes, streams get closed(MUX_RESET_SESSION). */
void peer_free(struct peer *peer);
SCOPED_PTR(struct peer, peer_free)

#define PEER_WANTED_MAX 64 /* as guest.options has it */

struct peer_range { /* inclusive, 1..65535 */
    uint16_t first, last;
};

/*
 * UDP ports that rules name one by one: reported even where the guest would take the socket for a
 * client's or for one of its system. Kept for later sessions; one that is up begins its events
 * anew. What is beyond PEER_WANTED_MAX is left out.
 */
void peer_want_udp(struct peer *peer, const struct peer_range *ranges, size_t count);

/* Uses @take_fd (non-blocking stream) from now on; an older one is closed. @pad as in mux_start().
 */
void peer_attach(struct peer *peer, int take_fd, bool pad);
/*
 * The transport says that the other end has opened it: asks for a session again on the same fd, in
 * case that what was sent so far went nowhere. A session that is up stays: an end that has really
 * restarted announces itself, and that ends the old session.
 */
void peer_restart(struct peer *peer);
/*
 * The transport says that the other end has closed it, though our end stays: a session that was up
 * ends now, not when its end happens to show. Another is asked for on the same fd.
 */
void peer_interrupted(struct peer *peer);
/* Closes the transport: disconnected() comes if a session was up, closed() does not. */
void peer_detach(struct peer *peer);
/* Between connected() and disconnected(). */
bool peer_is_up(const struct peer *peer);
struct peer_ping;
typedef void (*peer_ping_fn)(bool answered, void *arg);
/*
 * Asks the guest for a sign of life. @done comes once, never before this returns, within
 * @timeout_ms; not answered: then, or with the end of the session. The handle is gone then.
 */
struct peer_ping *peer_ping(struct peer *peer, unsigned timeout_ms, peer_ping_fn done, void *arg);
/* @done does not come any more. NULL is fine. */
void peer_ping_cancel(struct peer_ping *ping);
/* The guest has named this service or event among its features. False while it is not up. */
bool peer_has(const struct peer *peer, const char *feature);
