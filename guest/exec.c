/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a command:
 *
 *   STARTING  forked; the status pipe tells whether the program runs, then the reply goes out
 *   RUNNING   bytes both ways, until it has ended and nobody holds its outputs
 *   ENDING    ExecExit waits for room in the stream
 *   OVER      only the opener's end of the stream is awaited
 *
 * What finds no room in the stream waits in `unsent`, and no output is read meanwhile: so a slow
 * opener stops the command, and memory is bounded. What the command does not read waits in
 * `pending`, which the opener keeps below EXEC_WINDOW; the stream itself is always read, so signals
 * and sizes get through.
 */
#include "exec.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "execstart.h"
#include "execwire.h"
#include "mux/delimited.h"
#include "pty.h"

#define TURN_CHUNKS   4           /* of output, before others have their turn */
#define TAKEN_STEP    (32u << 10) /* of input, between two reports */
#define SIGNAL_MAX    64
#define STATUS_ABSENT 127
#define STATUS_NOEXEC 126

enum exec_state {
    EXEC_STATE_STARTING,
    EXEC_STATE_RUNNING,
    EXEC_STATE_ENDING,
    EXEC_STATE_OVER,
};

struct channel {
    int fd; /* -1: closed */
    struct loop_watch *watch;
};

struct exec {
    struct execs *execs;
    struct exec *next, **link;
    struct mux_stream *stream;
    enum exec_state state;
    struct process *process; /* NULL: released */
    char *name;              /* of the program, for messages */
    char *dir;
    bool pty;
    struct channel status, in, out, err;
    bool started; /* the status pipe has ended */
    struct spawn_failure failure;
    uint64_t early_signals; /* to be sent once it is started */
    struct delimited input;
    struct buf pending; /* input that the command has yet to read */
    bool line_open;     /* what was written last does not end a line */
    bool end_wanted;    /* of its input */
    uint64_t taken, taken_told;
    bool closed_due, closed_told; /* its input is no more */
    bool ended;
    struct process_end end;
    struct buf unsent;
};

struct execs {
    struct execs_options options;
    struct exec *list;
    uint8_t *copy; /* room for one ExecOutput, shared: never holds bytes between callbacks */
};

static void pump(struct exec *exec);

struct execs *execs_new(const struct execs_options *options)
{
    struct execs *execs = xnew(struct execs);

    execs->options = *options;
    execs->copy = xmalloc(EXEC_HEADER_MAX + EXEC_CHUNK_MAX);
    return execs;
}

static void channel_close(struct channel *channel)
{
    loop_watch_free(channel->watch);
    fd_close(channel->fd);
    *channel = (struct channel){.fd = -1};
}

static void channel_watch(struct channel *channel, short events)
{
    if (channel->watch) {
        loop_watch_set(channel->watch, events);
    }
}

static void exec_free(struct exec *exec)
{
    channel_close(&exec->status);
    channel_close(&exec->in);
    channel_close(&exec->out);
    channel_close(&exec->err);
    if (exec->process) {
        process_release(exec->process);
    }
    *exec->link = exec->next;
    if (exec->next) {
        exec->next->link = exec->link;
    }
    delimited_done(&exec->input);
    buf_done(&exec->pending);
    buf_done(&exec->unsent);
    free(exec->name);
    free(exec->dir);
    free(exec);
}

/* The opener is gone: what it has started should know, as on a line that drops. */
static void hang_up(struct exec *exec)
{
    if (exec->process) {
        process_kill(exec->process, SIGHUP);
        process_kill(exec->process, SIGCONT);
    }
    exec_free(exec);
}

void execs_free(struct execs *execs)
{
    if (!execs) {
        return;
    }
    while (execs->list) {
        mux_stream_reset(execs->list->stream, MUX_RESET_CANCEL);
        hang_up(execs->list);
    }
    free(execs->copy);
    free(execs);
}

/* ---- to the opener ---- */

static void send_frame(struct exec *exec, const uint8_t *frame, size_t len)
{
    size_t n = exec->unsent.len ? 0 : mux_stream_write(exec->stream, frame, len);

    buf_put(&exec->unsent, frame + n, len - n);
}

static bool flush_unsent(struct exec *exec)
{
    if (exec->unsent.len) {
        buf_drop(&exec->unsent,
                 mux_stream_write(exec->stream, exec->unsent.data, exec->unsent.len));
    }
    if (!exec->unsent.len) {
        buf_done(&exec->unsent); /* an idle command holds no memory */
    }
    return !exec->unsent.len;
}

/* A line of our own, where the command's errors would be. */
static void send_notice(struct exec *exec, const char *text)
{
    uint8_t *data = exec->execs->copy + EXEC_HEADER_MAX;
    size_t len = MIN(strlen(text), EXEC_CHUNK_MAX);
    const uint8_t *frame;

    memcpy(data, text, len);
    frame = exec_output_frame(exec->pty ? EXEC_OUTPUT_OUT : EXEC_OUTPUT_ERR, data, len, &len);
    send_frame(exec, frame, len);
}

static void report_input(struct exec *exec)
{
    uint8_t frame[EXEC_CONTROL_MAX];

    if (exec->taken - exec->taken_told >= TAKEN_STEP) {
        exec->taken_told = exec->taken;
        send_frame(exec, frame, exec_taken_encode(exec->taken, frame));
    }
    if (exec->closed_due && !exec->closed_told) {
        exec->closed_told = true;
        send_frame(exec, frame, exec_closed_encode(frame));
    }
}

/* One read's worth of @channel. False when there is nothing to read now. */
static bool pass_output(struct exec *exec, struct channel *channel, enum exec_output_kind kind)
{
    uint8_t *data = exec->execs->copy + EXEC_HEADER_MAX;
    const uint8_t *frame;
    size_t len;
    ssize_t n;

    do {
        n = read(channel->fd, data, EXEC_CHUNK_MAX);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) {
        return false;
    }
    if (n <= 0) { /* a terminal that nobody holds gives EIO */
        channel_close(channel);
        return false;
    }
    frame = exec_output_frame(kind, data, (size_t)n, &len);
    send_frame(exec, frame, len);
    return true;
}

static void on_output_ready(struct exec *exec, struct channel *channel, enum exec_output_kind kind)
{
    for (int i = 0; i < TURN_CHUNKS && !exec->unsent.len; i++) {
        if (!pass_output(exec, channel, kind)) {
            break;
        }
    }
    pump(exec);
}

static void on_out_readable(int fd, short revents, void *arg)
{
    struct exec *exec = arg;

    on_output_ready(exec, &exec->out, EXEC_OUTPUT_OUT);
}

static void on_err_readable(int fd, short revents, void *arg)
{
    struct exec *exec = arg;

    on_output_ready(exec, &exec->err, EXEC_OUTPUT_ERR);
}

/* ---- to the command ---- */

static void input_broken(struct exec *exec)
{
    channel_close(&exec->in);
    exec->taken += exec->pending.len;
    buf_done(&exec->pending);
    exec->closed_due = true;
}

/* A terminal has no end: a character says so, at once at the beginning of a line only. */
static void end_terminal_input(struct exec *exec)
{
    char c = pty_end_of_input(exec->in.fd);
    const char text[] = {c, c};
    size_t len = c == '\0' ? 0 : exec->line_open ? 2 : 1;

    if (write(exec->in.fd, text, len) < 0) {
        log_debug("ending the input of '%s': %s", exec->name, strerror(errno));
    }
}

static void write_input(struct exec *exec)
{
    while (exec->in.fd >= 0 && exec->pending.len) {
        ssize_t n = write(exec->in.fd, exec->pending.data, exec->pending.len);

        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            break;
        }
        if (n < 0) {
            input_broken(exec);
            return;
        }
        exec->line_open = exec->pending.data[n - 1] != '\n';
        exec->taken += (size_t)n;
        buf_drop(&exec->pending, (size_t)n);
    }
    if (exec->in.fd < 0 || exec->pending.len) {
        return;
    }
    buf_done(&exec->pending); /* an idle command holds no memory */
    if (exec->end_wanted) {
        if (exec->pty) {
            exec->end_wanted = false;
            end_terminal_input(exec);
        } else {
            channel_close(&exec->in);
        }
    }
}

static void on_in_writable(int fd, short revents, void *arg)
{
    struct exec *exec = arg;

    write_input(exec);
    pump(exec);
}

static void send_signal(struct exec *exec, uint32_t signal)
{
    if (signal == 0 || signal > SIGNAL_MAX || !exec->process) {
        return;
    }
    if (!exec->started) {
        exec->early_signals |= 1ull << (signal - 1);
    } else if (!exec->pty || !pty_signal(exec->out.fd, (int)signal)) {
        process_kill(exec->process, (int)signal);
    }
}

static void send_early_signals(struct exec *exec)
{
    for (uint32_t signal = 1; signal <= SIGNAL_MAX; signal++) {
        if (exec->early_signals & 1ull << (signal - 1)) {
            send_signal(exec, signal);
        }
    }
    exec->early_signals = 0;
}

/* False: more data than the opener may send. */
static bool take_data(struct exec *exec, const struct exec_input *input)
{
    if (exec->in.fd < 0 || exec->end_wanted) {
        exec->taken += input->len;
        return true;
    }
    if (exec->pending.len + input->len > EXEC_WINDOW) {
        return false;
    }
    buf_put(&exec->pending, input->data, input->len);
    return true;
}

/* False: against the protocol. */
static bool take_input(struct exec *exec, const uint8_t *body, size_t len)
{
    struct exec_input input;

    if (!exec_input_decode(body, len, &input)) {
        return false;
    }
    switch (input.kind) {
    case EXEC_INPUT_DATA:
        return take_data(exec, &input);
    case EXEC_INPUT_END:
        exec->end_wanted = true;
        break;
    case EXEC_INPUT_SIGNAL:
        send_signal(exec, input.signal);
        break;
    case EXEC_INPUT_SIZE:
        if (exec->pty && exec->out.fd >= 0) {
            pty_resize(exec->out.fd, input.rows, input.columns);
        }
        break;
    case EXEC_INPUT_NOTHING:
        break;
    }
    return true;
}

static void on_stream_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct exec *exec = arg;
    const uint8_t *p = data, *body = NULL;
    size_t used = 0, body_len = 0;
    bool ok = true;
    int r;

    mux_stream_consumed(stream, len);
    if (exec->state >= EXEC_STATE_ENDING) {
        return;
    }
    while (len && ok) {
        r = delimited_next(&exec->input, p, len, &used, &body, &body_len);
        ok = r >= 0 && (r == 0 || take_input(exec, body, body_len));
        p += used;
        len -= used;
    }
    if (!ok) {
        log_debug("input of '%s' that is none", exec->name);
        mux_stream_reset(stream, MUX_RESET_PROTOCOL);
        hang_up(exec);
        return;
    }
    write_input(exec);
    pump(exec);
}

static void on_stream_fin(struct mux_stream *stream, void *arg)
{
    struct exec *exec = arg;

    if (exec->state < EXEC_STATE_OVER) {
        mux_stream_reset(stream, MUX_RESET_CANCEL);
        hang_up(exec);
    }
}

static void on_stream_writable(struct mux_stream *stream, void *arg)
{
    pump(arg);
}

static void on_stream_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    hang_up(arg);
}

static const struct mux_stream_ops stream_ops = {
    .data = on_stream_data,
    .fin = on_stream_fin,
    .writable = on_stream_writable,
    .closed = on_stream_closed,
};

/* ---- beginning and end ---- */

static void refuse(struct exec *exec)
{
    scoped(free) char *text = NULL;
    int error = exec->failure.error;

    switch (exec->failure.step) {
    case SPAWN_STEP_DIR:
        text = xasprintf("entering '%s': %s", exec->dir, strerror(error));
        break;
    case SPAWN_STEP_TERMINAL:
        text = xasprintf("taking the terminal: %s", strerror(error));
        break;
    case SPAWN_STEP_FDS:
        text = xasprintf("passing its descriptors on: %s", strerror(error));
        break;
    default:
        text = xasprintf("becoming the user: %s", strerror(error));
        break;
    }
    rpc_refuse(exec->stream, error, text);
    exec_free(exec);
}

/* The program could not be executed: said as a shell would. */
static void say_why(struct exec *exec)
{
    scoped(free) char *text = xasprintf("lima-guestagent: %s: %s%s\n", exec->name,
                                        strerror(exec->failure.error), exec->pty ? "\r" : "");

    send_notice(exec, text);
}

static void answer(struct exec *exec)
{
    bool absent = exec->failure.error == ENOENT || exec->failure.error == ENOTDIR;

    if (exec->failure.step && exec->failure.step != SPAWN_STEP_EXEC) {
        refuse(exec);
        return;
    }
    if (!rpc_reply(exec->stream, 0, NULL)) {
        return; /* writable() comes */
    }
    exec->state = EXEC_STATE_RUNNING;
    if (exec->failure.step) {
        exec->end.status = absent ? STATUS_ABSENT : STATUS_NOEXEC;
        say_why(exec);
    }
    send_early_signals(exec);
    pump(exec);
}

static void on_status_readable(int fd, short revents, void *arg)
{
    struct exec *exec = arg;
    ssize_t n = read(fd, &exec->failure, sizeof(exec->failure));

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n != sizeof(exec->failure)) {
        exec->failure = (struct spawn_failure){0};
    }
    channel_close(&exec->status);
    exec->started = true;
    pump(exec);
}

static void on_program_ended(const struct process_end *end, void *arg)
{
    struct exec *exec = arg;

    exec->ended = true;
    if (!exec->end.status) {
        exec->end = *end;
    }
    pump(exec);
}

static void send_exit(struct exec *exec)
{
    uint8_t frame[EXEC_CONTROL_MAX];
    size_t len = exec_exit_encode((uint32_t)exec->end.status, (uint32_t)exec->end.signal,
                                  exec->end.core, frame);

    exec->state = EXEC_STATE_ENDING;
    send_frame(exec, frame, len);
}

static void finish(struct exec *exec)
{
    exec->state = EXEC_STATE_OVER;
    channel_close(&exec->in);
    process_release(steal(exec->process));
    mux_stream_finish(exec->stream);
}

static void update_watches(struct exec *exec)
{
    short output = exec->state == EXEC_STATE_RUNNING && !exec->unsent.len ? POLLIN : 0;

    channel_watch(&exec->out, output);
    channel_watch(&exec->err, output);
    channel_watch(&exec->in, exec->pending.len ? POLLOUT : 0);
}

/* Goes on as far as it can. The command may be gone afterwards. */
static void pump(struct exec *exec)
{
    if (exec->state == EXEC_STATE_STARTING && exec->started) {
        answer(exec);
        return;
    }
    if (exec->state == EXEC_STATE_RUNNING && flush_unsent(exec)) {
        report_input(exec);
        if (exec->ended && exec->out.fd < 0 && exec->err.fd < 0 && !exec->unsent.len) {
            send_exit(exec);
        }
    }
    if (exec->state == EXEC_STATE_ENDING && flush_unsent(exec)) {
        finish(exec);
    }
    update_watches(exec);
}

static void watch_all(struct exec *exec)
{
    struct loop *loop = exec->execs->options.loop;

    exec->status.watch = loop_watch_new(loop, exec->status.fd, POLLIN, on_status_readable, exec);
    exec->in.watch = loop_watch_new(loop, exec->in.fd, 0, on_in_writable, exec);
    exec->out.watch = loop_watch_new(loop, exec->out.fd, 0, on_out_readable, exec);
    if (!exec->pty) {
        exec->err.watch = loop_watch_new(loop, exec->err.fd, 0, on_err_readable, exec);
    }
}

static struct exec *exec_new(struct execs *execs, struct mux_stream *stream)
{
    struct exec *exec = xnew(struct exec);

    *exec = (struct exec){.execs = execs,
                          .next = execs->list,
                          .link = &execs->list,
                          .stream = stream,
                          .status.fd = -1,
                          .in.fd = -1,
                          .out.fd = -1,
                          .err.fd = -1,
                          .input = DELIMITED_INIT(EXEC_INPUT_MAX)};
    if (exec->next) {
        exec->next->link = &exec->next;
    }
    execs->list = exec;
    return exec;
}

static int start(struct exec *exec, const struct exec_request *request, struct error *err)
{
    const struct execs_options *options = &exec->execs->options;
    struct exec_process process;
    int r = exec_process_start(options, request, on_program_ended, exec, &process, err);

    if (r < 0) {
        return r;
    }
    exec->process = process.process;
    exec->name = process.name;
    exec->dir = process.dir;
    exec->pty = request->pty;
    exec->status.fd = process.status;
    exec->in.fd = process.in;
    exec->out.fd = process.out;
    exec->err.fd = process.err;
    watch_all(exec);
    return 0;
}

int execs_serve(const struct rpc_call *call, void *arg, struct error *err)
{
    scoped(exec_request_done) struct exec_request request = {0};
    struct exec *exec;
    int r = exec_request_decode(call->request, call->request_len, &request, err);

    if (r < 0) {
        return r;
    }
    exec = exec_new(arg, call->stream);
    r = start(exec, &request, err);
    if (r < 0) {
        exec_free(exec);
        return r;
    }
    mux_stream_set_ops(call->stream, &stream_ops, exec);
    if (call->rest_len) {
        on_stream_data(call->stream, call->rest, call->rest_len, exec);
    }
    return 0;
}
