/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways by which a stream may go into the guest: the session over the virtio port, which always
 * stands, or a vsock connection of its own. Both are measured once the guest is ready, and then
 * each kind of stream takes the better one. What vsock does not do is done by the session at once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "peer/client.h"
#include "util/value.h"

/* What a stream is for. */
enum way_kind {
    WAY_KIND_CONTROL,     /* calls and events: always the session */
    WAY_KIND_INTERACTIVE, /* short answers matter */
    WAY_KIND_BULK,        /* bytes per second matter */
    WAY_KIND_PROBE,       /* vsock or nothing: measuring, for this folder alone */
};

/* What one exchange over a way has shown. */
struct way_figures {
    unsigned open_us;       /* from nothing to the answer of a call */
    unsigned round_trip_us; /* of one byte, the best */
    unsigned kib_per_s;     /* of a burst that comes back, counted once */
};

/* Pure: whether @vsock shall carry @kind. */
bool way_prefers_vsock(enum way_kind kind, const struct way_figures *session,
                       const struct way_figures *vsock);

enum way_policy {
    WAY_POLICY_AUTO,
    WAY_POLICY_SESSION, /* vsock is not used */
    WAY_POLICY_VSOCK,   /* wherever it works */
};

/* Of LIMA_GUEST_TRANSPORT: "auto", "virtio", "vsock". Errors: EINVAL. NULL and "" mean auto. */
int way_policy_parse(const char *text, enum way_policy *ret, struct error *err);

/*
 * Connects to vsock port @port of the guest: a non-blocking socket, connected or being connected.
 * *@ret_line: "OK PORT\n" will come first. Errors: EOPNOTSUPP (there is no vsock).
 */
typedef int (*way_connect_fn)(unsigned port, int *ret_fd, bool *ret_line, void *arg,
                              struct error *err);

/* Before any connection. Without it there is but the session. */
void peer_set_vsock(struct peer *peer, enum way_policy policy, way_connect_fn connect, void *arg);
/*
 * Looks for vsock, measures both ways and decides, once a session: the guest is ready and has time.
 * Takes some 100 ms, in the loop.
 */
void peer_measure(struct peer *peer);
/* For people and scripts: {"interactive": "virtio-serial", "bulk": "vsock", "measured": {...}}. */
jv peer_describe_transport(const struct peer *peer);

/* ---- for this folder ---- */

struct ways;
struct way_dial; /* a connection that is being made */

/* @stream is the callee's, who sets its ops at once; NULL: vsock did not do it. */
typedef void (*way_dial_fn)(struct mux_stream *stream, void *arg);

struct ways *ways_new(struct peer *peer, struct loop *loop);
/* Streams get closed(MUX_RESET_SESSION), dials are dropped. */
void ways_free(struct ways *ways);
/* The session has ended: what it told of vsock is void. Streams that are open live on. */
void ways_reset(struct ways *ways);
/*
 * A stream for @kind by vsock; @done comes once and never before this has returned. NULL: the
 * session is the way, and @done does not come.
 */
struct way_dial *ways_dial(struct ways *ways, enum way_kind kind, way_dial_fn done, void *arg);
/* Before @done came: drops the connection, and @done does not come. NULL is fine. */
void way_dial_cancel(struct way_dial *dial);
