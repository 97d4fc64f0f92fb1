/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/exec.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include "base/alloc.h"
#include "guest.pb-c.h"
#include "mux/delimited.h"
#include "peer/wire.h"

#define OUTPUT_MAX (PEER_EXEC_CHUNK_MAX + 64) /* bytes of an ExecOutput */
#define SIGNAL_MAX 64

typedef Lima__Guest__V1__ExecInput input_msg;
typedef Lima__Guest__V1__ExecOutput output_msg;
typedef Lima__Guest__V1__ExecRequest request_msg;

struct peer_exec {
    const struct peer_exec_events *events;
    void *arg;
    struct buf pending;
    struct delimited in;
    bool accepted;
    bool exited;
    bool input_closed;
    uint64_t sent, taken; /* bytes of input */
};

/* ---- to the guest ---- */

static size_t count_texts(const char *const *texts, size_t *bytes)
{
    size_t n = 0;

    for (; texts && texts[n]; n++) {
        *bytes += strlen(texts[n]);
    }
    return n;
}

/* The texts as protobuf's byte strings, borrowed. Caller frees. */
static ProtobufCBinaryData *binaries_of(const char *const *texts, size_t count)
{
    ProtobufCBinaryData *list = xnew_n(ProtobufCBinaryData, count + 1);

    for (size_t i = 0; i < count; i++) {
        list[i] = (ProtobufCBinaryData){.data = (uint8_t *)texts[i], .len = strlen(texts[i])};
    }
    return list;
}

static int put_request(struct buf *out, const struct peer_exec_request *request, struct error *err)
{
    request_msg message = LIMA__GUEST__V1__EXEC_REQUEST__INIT;
    size_t bytes = 0;
    size_t argc = count_texts(request->argv, &bytes);
    size_t envc = count_texts(request->env, &bytes);
    scoped(free) ProtobufCBinaryData *argv = binaries_of(request->argv, argc);
    scoped(free) ProtobufCBinaryData *env = binaries_of(request->env, envc);

    message.argv = argv;
    message.n_argv = argc;
    message.env = env;
    message.n_env = envc;
    message.user = (char *)request->user;
    message.dir.data = (uint8_t *)request->dir;
    message.dir.len = strlen(request->dir);
    message.pty = request->pty;
    message.rows = request->rows;
    message.columns = request->columns;
    if (protobuf_c_message_get_packed_size(&message.base) > PEER_EXEC_REQUEST_MAX ||
        envc > PEER_EXEC_ENV_MAX) {
        error_set(
            err, E2BIG,
            "arguments and environment are %zu bytes in %zu words, more than fits one request",
            bytes, argc + envc);
        return error_hint(err, "pass long data on standard input");
    }
    wire_put_open(out, "Exec");
    wire_put_message(out, &message.base);
    return 0;
}

int peer_exec_new(const struct peer_exec_request *request, const struct peer_exec_events *events,
                  void *arg, struct peer_exec **ret, struct error *err)
{
    scoped(peer_exec_free) struct peer_exec *exec = xnew(struct peer_exec);
    int r;

    *exec =
        (struct peer_exec){.events = events, .arg = arg, .in = DELIMITED_INIT(WIRE_MESSAGE_MAX)};
    r = put_request(&exec->pending, request, err);
    if (r < 0) {
        return r;
    }
    *ret = steal(exec);
    return 0;
}

void peer_exec_free(struct peer_exec *exec)
{
    if (!exec) {
        return;
    }
    buf_done(&exec->pending);
    delimited_done(&exec->in);
    free(exec);
}

struct buf *peer_exec_pending(struct peer_exec *exec)
{
    return &exec->pending;
}

bool peer_exec_accepted(const struct peer_exec *exec)
{
    return exec->accepted;
}

size_t peer_exec_room(const struct peer_exec *exec)
{
    uint64_t open = exec->sent - exec->taken;

    return exec->input_closed || exec->exited || open >= PEER_EXEC_WINDOW
               ? 0
               : (size_t)(PEER_EXEC_WINDOW - open);
}

bool peer_exec_input_closed(const struct peer_exec *exec)
{
    return exec->input_closed;
}

void peer_exec_send(struct peer_exec *exec, const void *data, size_t len)
{
    const uint8_t *p = data;

    assert(len <= peer_exec_room(exec));
    exec->sent += len;
    while (len) {
        input_msg message = LIMA__GUEST__V1__EXEC_INPUT__INIT;
        size_t n = MIN(len, PEER_EXEC_CHUNK_MAX);

        message.kind_case = LIMA__GUEST__V1__EXEC_INPUT__KIND_DATA;
        message.data = (ProtobufCBinaryData){.data = (uint8_t *)p, .len = n};
        wire_put_message(&exec->pending, &message.base);
        p += n;
        len -= n;
    }
}

void peer_exec_send_end(struct peer_exec *exec)
{
    input_msg message = LIMA__GUEST__V1__EXEC_INPUT__INIT;

    message.kind_case = LIMA__GUEST__V1__EXEC_INPUT__KIND_END;
    message.end = true;
    wire_put_message(&exec->pending, &message.base);
}

void peer_exec_send_signal(struct peer_exec *exec, unsigned signal)
{
    input_msg message = LIMA__GUEST__V1__EXEC_INPUT__INIT;

    message.kind_case = LIMA__GUEST__V1__EXEC_INPUT__KIND_SIGNAL;
    message.signal = signal;
    wire_put_message(&exec->pending, &message.base);
}

void peer_exec_send_size(struct peer_exec *exec, unsigned rows, unsigned columns)
{
    Lima__Guest__V1__WindowSize size = LIMA__GUEST__V1__WINDOW_SIZE__INIT;
    input_msg message = LIMA__GUEST__V1__EXEC_INPUT__INIT;

    size.rows = rows;
    size.columns = columns;
    message.kind_case = LIMA__GUEST__V1__EXEC_INPUT__KIND_SIZE;
    message.size = &size;
    wire_put_message(&exec->pending, &message.base);
}

/* ---- from the guest ---- */

static int take_reply(struct peer_exec *exec, const uint8_t *data, size_t len, struct error *err)
{
    struct wire_stream_reply reply;
    int r = wire_stream_reply_decode(data, len, &reply);

    if (r < 0) {
        return error_set(err, EPROTO, "the guest's reply makes no sense");
    }
    if (reply.error) {
        r = error_set(err, reply.error, "%s",
                      reply.message && *reply.message ? reply.message : strerror(reply.error));
    }
    wire_stream_reply_done(&reply);
    if (r == 0) {
        exec->accepted = true;
        exec->in.max = OUTPUT_MAX;
        exec->events->accepted(exec->arg);
    }
    return r;
}

static bool take_exit(struct peer_exec *exec, const Lima__Guest__V1__ExecExit *m)
{
    const struct peer_exec_exit end = {
        .status = (int)m->status, .signal = (int)m->signal, .core = m->core};

    if (m->status > UINT8_MAX || m->signal > SIGNAL_MAX ||
        (m->signal && m->status != 128 + m->signal)) {
        return false;
    }
    exec->exited = true;
    exec->events->exited(&end, exec->arg);
    return true;
}

/* False: it makes no sense. */
static bool take_output(struct peer_exec *exec, const output_msg *m)
{
    switch (m->kind_case) {
    case LIMA__GUEST__V1__EXEC_OUTPUT__KIND_OUT:
        exec->events->output(false, m->out.data, m->out.len, exec->arg);
        return true;
    case LIMA__GUEST__V1__EXEC_OUTPUT__KIND_ERR:
        exec->events->output(true, m->err.data, m->err.len, exec->arg);
        return true;
    case LIMA__GUEST__V1__EXEC_OUTPUT__KIND_EXIT:
        return take_exit(exec, m->exit);
    case LIMA__GUEST__V1__EXEC_OUTPUT__KIND_TAKEN:
        if (m->taken < exec->taken || m->taken > exec->sent) {
            return false;
        }
        exec->taken = m->taken;
        return true;
    case LIMA__GUEST__V1__EXEC_OUTPUT__KIND_CLOSED:
        exec->input_closed |= m->closed;
        return true;
    default:
        return true; /* a kind of later times */
    }
}

static int take_message(struct peer_exec *exec, const uint8_t *data, size_t len, struct error *err)
{
    output_msg *m;
    bool ok;

    if (!exec->accepted) {
        return take_reply(exec, data, len, err);
    }
    m = lima__guest__v1__exec_output__unpack(NULL, len, data);
    ok = m && take_output(exec, m);
    lima__guest__v1__exec_output__free_unpacked(m, NULL);
    return ok ? 0 : error_set(err, EPROTO, "the guest's answer makes no sense");
}

int peer_exec_take(struct peer_exec *exec, const void *data, size_t len, struct error *err)
{
    const uint8_t *p = data, *body = NULL;
    size_t used = 0, body_len = 0;
    int r;

    while (len && !exec->exited) {
        r = delimited_next(&exec->in, p, len, &used, &body, &body_len);
        if (r < 0) {
            return error_set(err, EPROTO, "the guest's answer makes no sense");
        }
        p += used;
        len -= used;
        if (r > 0 && (r = take_message(exec, body, body_len, err)) < 0) {
            return r;
        }
    }
    return 0;
}
