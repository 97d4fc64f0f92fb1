/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections into the guest over ssh, without an ssh process: an ssh session that is kept up by
 * itself, reconnecting after 50 to 700 ms (2 s where the login was refused), and the channels in
 * it. Whoever opens one while the session is down waits for it, up to 10 s; a channel that a
 * session has left behind is reset.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/macros.h"
#include "mux/mux.h"
#include "util/loop.h"

#define SSH_SESSION_CHANNELS_MAX 4000 /* being opened, open, being closed */

struct ssh_session;

/* Copied. */
struct ssh_session_options {
    int port; /* on 127.0.0.1 */
    const char *user;
    const char *key; /* file with the private key, no passphrase */
};

struct ssh_session_events {
    /*
     * It is up; or it went down, or could not come up, for the reason @why, and will try again.
     * EACCES: the login was refused. Streams were closed before. Must not free the session.
     */
    void (*changed)(bool up, const struct error *why, void *arg);
};

/* Idle until it is started. */
struct ssh_session *ssh_session_new(struct loop *loop, const struct ssh_session_options *options,
                                    const struct ssh_session_events *events, void *arg) _nonnull_;
/* Streams get closed(MUX_RESET_CONNECTION), what is being opened gets no done(). */
void ssh_session_free(struct ssh_session *session);
SCOPED_PTR(struct ssh_session, ssh_session_free)
/*
 * The other end is (again) known to be there: connects now. Of a session that is up it wants a sign
 * of life, and connects anew if none comes within 5 s.
 */
void ssh_session_start(struct ssh_session *session);
/*
 * The other end is known to be gone: drops the session with its streams, without a call of
 * changed(), and idles until it is started. What is being opened waits for that.
 */
void ssh_session_stop(struct ssh_session *session);
bool ssh_session_is_up(const struct ssh_session *session);

struct ssh_target {
    const char *host; /* an address as text; NULL with a path */
    uint16_t port;
    const char *path; /* a Unix socket; NULL with a host */
};

struct ssh_dialing;
/*
 * 0 and the connected stream, whose ops the callee sets at once, or -errno: ECONNREFUSED (nobody
 * listens), EACCES (forbidden by the server), ETIMEDOUT (no answer, or no session).
 */
typedef void (*ssh_dialing_fn)(int r, struct mux_stream *stream, void *arg);

/*
 * Opens a channel; @to is copied. @done comes once, never before this has returned. NULL: there are
 * too many, and then @done does not come.
 */
struct ssh_dialing *ssh_session_open(struct ssh_session *session, const struct ssh_target *to,
                                     ssh_dialing_fn done, void *arg);
/* Before @done came; it does not come then. */
void ssh_dialing_cancel(struct ssh_dialing *dialing);
/* For tests and reports. */
size_t ssh_session_channels(const struct ssh_session *session);
