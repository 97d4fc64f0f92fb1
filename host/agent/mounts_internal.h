/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mounts.c (the states of mounts), mounts_guest.c (what the guest is asked, and their
 * streams), mounts_device.c (their devices) and mounts_api.c (what is asked at ha.sock) share.
 * Nobody else includes it.
 */
#pragma once

#include "agent/mount_watch.h"
#include "agent/mounts.h"
#include "base/ration.h"
#include "mount/server.h"
#include "mux/join.h"
#include "peer/link.h"
#include "peer/mount.h"

#define MOUNTS_MAX        32 /* as many as a guest takes */
#define MOUNTS_RESTART_MS 1000

enum mounts_state {
    MOUNTS_STATE_WAITING,
    MOUNTS_STATE_SERVING,
    MOUNTS_STATE_MOUNTING,
    MOUNTS_STATE_MOUNTED,
    MOUNTS_STATE_UNMOUNTED,
    MOUNTS_STATE_REMOVING,
    MOUNTS_STATE_FAILED,
};

extern const char *const mounts_state_names[];

struct mount {
    struct mounts *mounts;
    struct mount *next;
    struct config_mount config;
    enum config_mount_type type; /* as it is made */
    char *tag;
    bool temporary;
    bool device_new;  /* the guest may not have seen it yet */
    bool device_dead; /* its server has ended */
    enum mounts_state state;
    char *reason; /* NULL: none */
    struct mount_server *server;
    bool server_ready;
    struct ration restarts;
    struct loop_timer *again; /* see on_again() */
    bool unmounted;           /* by the guest; on_again() says so */
    struct peer_mount *call;
    struct peer_follow *follow; /* of a mount by sshfs: what becomes of it */
    bool swapping;              /* its server ends, for one of another type */
    struct link *link;          /* to the server */
    struct join *join;
    struct mount_watch *watch;     /* of a mount with a device; NULL: none */
    struct api_exchange *exchange; /* waits for what becomes of it; NULL: nobody */
};

struct mounts_query; /* of mounts_api.c */

struct mounts {
    struct mounts_options options;
    struct mount *list; /* by mount point */
    size_t count;
    char *boot_id;              /* of the last session; NULL: none yet */
    bool guest_ready;           /* of this session */
    struct peer_mount *settled; /* the call */
    bool is_settled;            /* was told, in this session */
    bool was_settled;           /* in any */
    struct mounts_query *queries;
};

/* ---- mounts.c ---- */

struct mount *mounts_add(struct mounts *mounts, const struct config_mount *config, bool temporary);
void mounts_free_one(struct mount *mount);
/* Does what can be done next. Mounts that fail while they are added are freed. */
void mounts_step(struct mounts *mounts);

/* Its streams and calls end. */
void mounts_drop_carriers(struct mount *mount);
void mounts_set_reason(struct mount *mount, const char *reason);

/* Frees one that was added just now; else it stays, to be seen and tried again. */
void mounts_fail(struct mount *mount, const char *reason);
void mounts_mounted(struct mount *mount, bool resumed);

/* ---- mounts_guest.c ---- */

/* For the mount, whose server is ready if it has one: the answer leads on. */
void mounts_ask_guest(struct mount *mount);
/* With a file server of its own. */
bool mounts_is_served(const struct mount *mount);
/* It is not removed after all: what was lost meanwhile comes again, as if it were lost now. */
void mounts_check_carriers(struct mount *mount);

/* ---- mounts_device.c ---- */

/* It cannot be made as its type says: the guest agent makes it. */
void mounts_fall_back(struct mount *mount, const char *why);
/* Of one that waits: it needs a device, which is on its way now, or else it falls back. */
bool mounts_need_device(struct mount *mount);
/* Of one that the guest agent has mounted: its dead device goes, for which the guest waits. */
void mounts_drop_dead_device(struct mount *mount);
/* False: there is no device that could be taken out; else its end follows. */
bool mounts_take_device_out(struct mount *mount);

/* ---- mounts_api.c ---- */

/* Answers with all mounts as they are known to be. */
void mounts_answer(const struct mounts *mounts, struct api_exchange *take_exchange);
/* Answers those who wait for the guest's sign of life without it. */
void mounts_drop_queries(struct mounts *mounts);
/* What was asked of it is over, and so is the mount. */
void mounts_end_removal(struct mount *mount);

void mounts_refuse(struct api_exchange *take_exchange, int code, const char *why);
