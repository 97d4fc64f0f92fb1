/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec of QMP, QEMU's JSON control protocol: one object a line. Bytes in, messages out, cut
 * anywhere; no I/O. Lines are bounded, whatever the other side sends.
 */
#pragma once

#include <jv.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

#define QMP_WIRE_LINE_MAX (1u << 20) /* the longest answer that we ask for takes some 200 KB */

struct qmp_wire {
    struct buf in;
    size_t scanned; /* bytes at the front that hold no line end */
};

void qmp_wire_init(struct qmp_wire *wire);
void qmp_wire_done(struct qmp_wire *wire);
SCOPED_VAL(struct qmp_wire, qmp_wire_done)

enum qmp_kind {
    QMP_KIND_GREETING,
    QMP_KIND_RETURN,
    QMP_KIND_ERROR,
    QMP_KIND_EVENT,
};

struct qmp_message {
    enum qmp_kind kind;
    uint64_t id; /* of a return or error; 0: none */
    char *text;  /* an event's name, an error's description; else NULL */
    jv data;     /* greeting: version object; return: value; event: its data */
};

#define QMP_MESSAGE_INIT ((struct qmp_message){.data = {0}})
void qmp_message_done(struct qmp_message *message);
SCOPED_VAL(struct qmp_message, qmp_message_done)

/* Takes bytes. Errors: EMSGSIZE (a line beyond the limit); the codec is then of no further use. */
int qmp_wire_feed(struct qmp_wire *wire, const void *data, size_t len, struct error *err);
/*
 * Takes the next whole message out. 1: @ret is filled and the caller's; 0: more bytes are needed.
 * Errors: EBADMSG (not JSON, or not QMP).
 */
int qmp_wire_next(struct qmp_wire *wire, struct qmp_message *ret, struct error *err);
/* One command as a line; @args is consumed and may be jv_invalid(). The caller frees. */
char *qmp_wire_command(const char *name, jv args, uint64_t id) _nonnull_;
