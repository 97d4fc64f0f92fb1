/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An asynchronous QMP client on the loop. It negotiates capabilities by itself; commands given
 * before that wait. Each command ends in exactly one named outcome, unless its handle was dropped.
 * Callbacks may free the client.
 */
#pragma once

#include <jv.h>
#include <stdbool.h>
#include "base/error.h"
#include "util/loop.h"

struct qmp;
struct qmp_call; /* handle of a command under way */

enum qmp_outcome {
    QMP_OUTCOME_DONE,    /* @value: what the command returned */
    QMP_OUTCOME_REFUSED, /* @text: QEMU's description of the error */
    QMP_OUTCOME_LOST,    /* the connection ended first; whether it was executed is unknown */
};

/* @value and @text are borrowed. The handle is gone. */
typedef void (*qmp_reply_fn)(enum qmp_outcome outcome, jv value, const char *text, void *arg);

struct qmp_events {
    /* Capabilities are negotiated: the machine's main loop runs. Once. */
    void (*ready)(void *arg);
    /* @data is borrowed. */
    void (*event)(const char *name, jv data, void *arg);
    /*
     * No more messages come; each open command has ended as LOST before. @reason->code is 0 at an
     * orderly end of file. Once, last.
     */
    void (*closed)(const struct error *reason, void *arg);
};

/* Takes @take_fd, a connected stream socket. */
struct qmp *qmp_new(struct loop *loop, int take_fd, const struct qmp_events *events,
                    void *events_arg) _nonnull_;
/* Closes the connection; no callback is called any more. */
void qmp_free(struct qmp *qmp);
SCOPED_PTR(struct qmp, qmp_free)

/*
 * Sends a command; @args is consumed and may be jv_invalid(). @ret may be NULL. Never calls back
 * before it returns. Errors: ENOTCONN (closed), EBUSY (too many are under way).
 */
int qmp_command(struct qmp *qmp, const char *name, jv args, qmp_reply_fn fn, void *arg,
                struct qmp_call **ret, struct error *err);
/*
 * Handles all messages that have arrived by now, as the loop would; for the moment in which the
 * process is known to have ended. False when a callback freed the client, or it is closed.
 */
bool qmp_pump(struct qmp *qmp);
/* Forgets the command: its callback is not called. NULL is fine. */
void qmp_call_drop(struct qmp_call *call);
