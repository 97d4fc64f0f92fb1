/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GREETING --greeting--> CAPABILITIES --return--> READY; anything --error, end of file--> CLOSED
 *
 * GREETING, CAPABILITIES   commands are encoded into `held`
 * READY                    commands are written at once, the rest waits in `out`
 * CLOSED                   commands are refused
 *
 * A callback may free the client, so whoever calls one looks at its own `alive` flag afterwards,
 * which qmp_free() clears through client->alive.
 */
#include "driver/qemu/qmp.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "driver/qemu/qmp_wire.h"

#define CALLS_MAX       64
#define OUT_MAX         (256u << 10)
#define READ_SIZE       (16u << 10)
#define CAPABILITIES_ID 1

enum state {
    STATE_GREETING,
    STATE_CAPABILITIES,
    STATE_READY,
    STATE_CLOSED,
};

struct qmp_call {
    struct qmp_call *next;
    uint64_t id;
    qmp_reply_fn fn; /* NULL: dropped */
    void *arg;
};

struct qmp {
    enum state state;
    int fd;
    struct loop_io *io;
    struct loop_timer *failing; /* tells of a failed write from the loop, not from the writer */
    struct qmp_wire wire;
    struct buf out, held;
    struct qmp_call *calls;
    size_t call_count;
    uint64_t last_id;
    bool *alive; /* of the innermost caller up; NULL when none */
    const struct qmp_events *events;
    void *events_arg;
};

void qmp_free(struct qmp *qmp)
{
    struct qmp_call *next;

    if (!qmp) {
        return;
    }
    if (qmp->alive) {
        *qmp->alive = false;
    }
    for (struct qmp_call *call = qmp->calls; call; call = next) {
        next = call->next;
        free(call);
    }
    loop_timer_free(qmp->failing);
    loop_io_free(qmp->io);
    fd_close(qmp->fd);
    qmp_wire_done(&qmp->wire);
    buf_done(&qmp->out);
    buf_done(&qmp->held);
    free(qmp);
}

/* Ends one call. False when the callback freed the client. */
static bool call_end(struct qmp *qmp, struct qmp_call *take_call, enum qmp_outcome outcome,
                     jv value, const char *text)
{
    struct qmp_call call = *take_call;
    bool alive = true;

    free(take_call);
    qmp->call_count--;
    if (!call.fn) {
        return true;
    }
    qmp->alive = &alive;
    call.fn(outcome, value, text, call.arg);
    if (alive) {
        qmp->alive = NULL;
    }
    return alive;
}

/* The last thing that happens to a client; it may be freed in here. */
static void close_with(struct qmp *qmp, const struct error *reason)
{
    loop_io_free(qmp->io);
    qmp->io = NULL;
    qmp->state = STATE_CLOSED;
    while (qmp->calls) {
        struct qmp_call *call = qmp->calls;

        qmp->calls = call->next;
        if (!call_end(qmp, call, QMP_OUTCOME_LOST, jv_null(), NULL)) {
            return;
        }
    }
    qmp->events->closed(reason, qmp->events_arg);
}

static int flush(struct qmp *qmp)
{
    while (qmp->out.len > 0) {
        ssize_t n = send(qmp->fd, qmp->out.data, qmp->out.len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno != EAGAIN) {
            return -errno;
        }
        if (n < 0) {
            break;
        }
        buf_drop(&qmp->out, (size_t)n);
    }
    loop_io_want(qmp->io, qmp->out.len ? EV_READ | EV_WRITE : EV_READ);
    return 0;
}

static int send_line(struct qmp *qmp, struct buf *to, const char *name, jv args, uint64_t id)
{
    scoped(free) char *line = qmp_wire_command(name, args, id);

    return buf_puts(to, line);
}

static struct qmp_call *call_take(struct qmp *qmp, uint64_t id)
{
    for (struct qmp_call **at = &qmp->calls; *at; at = &(*at)->next) {
        if ((*at)->id == id) {
            struct qmp_call *call = *at;

            *at = call->next;
            return call;
        }
    }
    return NULL;
}

static int handle_greeting(struct qmp *qmp, struct error *err)
{
    if (qmp->state != STATE_GREETING) {
        return error_set(err, EBADMSG, "a second QMP greeting");
    }
    qmp->state = STATE_CAPABILITIES;
    send_line(qmp, &qmp->out, "qmp_capabilities", jv_invalid(), CAPABILITIES_ID);
    return 1;
}

/* 1 go on, 0 the client was freed. */
static int handle_capabilities(struct qmp *qmp, const struct qmp_message *message,
                               struct error *err)
{
    bool alive = true;

    if (message->kind == QMP_KIND_ERROR || qmp->state != STATE_CAPABILITIES) {
        return error_set(err, EPROTO, "QMP capabilities: %s",
                         message->text ? message->text : "an answer to no question");
    }
    qmp->state = STATE_READY;
    buf_put(&qmp->out, buf_str(&qmp->held), qmp->held.len);
    buf_done(&qmp->held);
    qmp->held = BUF_INIT_CAP(OUT_MAX);
    qmp->alive = &alive;
    qmp->events->ready(qmp->events_arg);
    if (alive) {
        qmp->alive = NULL;
    }
    return alive;
}

static int handle_reply(struct qmp *qmp, const struct qmp_message *message, struct error *err)
{
    struct qmp_call *call;

    if (message->id == CAPABILITIES_ID) {
        return handle_capabilities(qmp, message, err);
    }
    call = call_take(qmp, message->id);
    if (!call) {
        log_debug("a QMP reply that nobody asked for, ignoring");
        return 1;
    }
    return call_end(qmp, call,
                    message->kind == QMP_KIND_RETURN ? QMP_OUTCOME_DONE : QMP_OUTCOME_REFUSED,
                    message->data, message->text);
}

static int handle_event(struct qmp *qmp, const struct qmp_message *message)
{
    bool alive = true;

    qmp->alive = &alive;
    qmp->events->event(message->text, message->data, qmp->events_arg);
    if (alive) {
        qmp->alive = NULL;
    }
    return alive;
}

static int handle(struct qmp *qmp, const struct qmp_message *message, struct error *err)
{
    switch (message->kind) {
    case QMP_KIND_GREETING:
        return handle_greeting(qmp, err);
    case QMP_KIND_EVENT:
        return handle_event(qmp, message);
    default:
        return handle_reply(qmp, message, err);
    }
}

/* Handles what has arrived. 1 go on, 0 the client was freed, or an error. */
static int drain(struct qmp *qmp, struct error *err)
{
    for (;;) {
        scoped(qmp_message_done) struct qmp_message message = QMP_MESSAGE_INIT;
        int r = qmp_wire_next(&qmp->wire, &message, err);

        if (r <= 0) {
            return r < 0 ? r : 1;
        }
        r = handle(qmp, &message, err);
        if (r <= 0) {
            return r;
        }
    }
}

enum received {
    RECEIVED_FREED, /* by a callback */
    RECEIVED_SOME,
    RECEIVED_NOTHING, /* for now */
    RECEIVED_END,
};

/* One read; what it brought is handled. A negative result is an error. */
static int receive(struct qmp *qmp, struct error *err)
{
    char data[READ_SIZE];
    ssize_t n = recv(qmp->fd, data, sizeof(data), 0);
    int r;

    if (n == 0) {
        return RECEIVED_END;
    }
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? RECEIVED_NOTHING
                                                 : error_errno(err, errno, "reading QMP");
    }
    r = qmp_wire_feed(&qmp->wire, data, (size_t)n, err);
    if (r == 0) {
        r = drain(qmp, err);
    }
    return r > 0 ? RECEIVED_SOME : r < 0 ? r : RECEIVED_FREED;
}

static int receive_and_flush(struct qmp *qmp, bool readable, struct error *err)
{
    int got = readable ? receive(qmp, err) : RECEIVED_NOTHING;

    if (got == RECEIVED_SOME || got == RECEIVED_NOTHING) {
        int r = flush(qmp);

        return r < 0 ? error_errno(err, -r, "writing QMP") : got;
    }
    return got;
}

/* False when nothing more can come: the client was freed or is closed now. */
static bool step(struct qmp *qmp, bool readable, int *ret_got)
{
    scoped(error_done) struct error err = ERROR_INIT;

    *ret_got = receive_and_flush(qmp, readable, &err);
    if (*ret_got == RECEIVED_FREED) {
        return false;
    }
    if (*ret_got < 0 || *ret_got == RECEIVED_END) {
        close_with(qmp, &err);
        return false;
    }
    return true;
}

static void on_qmp_io(evutil_socket_t fd, short what, void *arg)
{
    int got;

    step(arg, what & EV_READ, &got);
}

bool qmp_pump(struct qmp *qmp)
{
    int got = RECEIVED_SOME;

    while (got == RECEIVED_SOME) {
        if (qmp->state == STATE_CLOSED || !step(qmp, true, &got)) {
            return false;
        }
    }
    return true;
}

static void on_qmp_failing(void *arg)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct qmp *qmp = arg;

    if (qmp->state != STATE_CLOSED) {
        error_set(&err, EPIPE, "writing QMP failed");
        close_with(qmp, &err);
    }
}

struct qmp *qmp_new(struct loop *loop, int take_fd, const struct qmp_events *events,
                    void *events_arg)
{
    struct qmp *qmp = xnew(struct qmp);

    qmp->fd = take_fd;
    qmp->events = events;
    qmp->events_arg = events_arg;
    qmp->last_id = CAPABILITIES_ID;
    qmp->out = BUF_INIT_CAP(OUT_MAX);
    qmp->held = BUF_INIT_CAP(OUT_MAX);
    qmp_wire_init(&qmp->wire);
    qmp->failing = loop_timer_new(loop, on_qmp_failing, qmp);
    qmp->io = loop_io_new(loop, take_fd, EV_READ, on_qmp_io, qmp);
    return qmp;
}

int qmp_command(struct qmp *qmp, const char *name, jv args, qmp_reply_fn fn, void *arg,
                struct qmp_call **ret, struct error *err)
{
    struct qmp_call *call;

    if (qmp->state == STATE_CLOSED || qmp->call_count == CALLS_MAX) {
        jv_free(args);
        return qmp->state == STATE_CLOSED
                   ? error_set(err, ENOTCONN, "the QMP connection is closed")
                   : error_set(err, EBUSY, "%d QMP commands are under way", CALLS_MAX);
    }
    if (send_line(qmp, qmp->state == STATE_READY ? &qmp->out : &qmp->held, name, args,
                  qmp->last_id + 1) < 0) {
        return error_set(err, EBUSY, "QEMU does not read its QMP commands");
    }
    call = xnew(struct qmp_call);
    *call = (struct qmp_call){.next = qmp->calls, .id = ++qmp->last_id, .fn = fn, .arg = arg};
    qmp->calls = call;
    qmp->call_count++;
    if (qmp->state == STATE_READY && flush(qmp) < 0) {
        loop_timer_set(qmp->failing, 0);
    }
    if (ret) {
        *ret = call;
    }
    return 0;
}

void qmp_call_drop(struct qmp_call *call)
{
    if (call) {
        call->fn = NULL;
    }
}
