/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user's descriptors may be shared with other programs, so their flags are left alone: they
 * are polled, then read and written in pieces that do not block, a pipe's worth at most. Memory is
 * bounded both ways: nothing is read from the guest while output waits, nor from stdin without
 * room.
 *
 * Signals. With a terminal in the guest the keys travel as bytes, and a signal from outside ends
 * us. Without one INT, TERM and HUP are passed on; the third ends us, for commands that do not
 * listen.
 */
#include "cmd/shell_agent.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "cmd/shell_escape.h"
#include "util/file.h"
#include "util/tty.h"

#define STATUS_BROKEN 255
#define READ_SIZE     65536
#define WRITE_SIZE    4096 /* PIPE_BUF: what a pipe takes whole when it takes any */
#define SIGNALS_MAX   3

struct output {
    int fd;
    struct buf data;
    bool broken; /* nobody reads it */
};

struct shell {
    const char *name;
    struct peer_exec *exec;
    int sock;
    bool sock_open;
    bool stdin_open;
    bool pty;
    struct tty_raw raw;
    struct shell_escape escape;
    struct output out, err;
    unsigned signals; /* passed on so far */
    int killed_by;    /* a signal that is to end us */
    bool left;        /* the user wants out */
    bool exited;
    struct peer_exec_exit end;
    char *buf; /* READ_SIZE + 1 */
};

static int signal_pipe[2] = {-1, -1}; /* of the handler */

static void on_signal(int signo)
{
    int saved = errno;
    unsigned char byte = (unsigned char)signo;

    if (write(signal_pipe[1], &byte, 1) < 0) {
        /* Full: there is enough to be woken by. */
    }
    errno = saved;
}

static void take_signals(void)
{
    static const int wanted[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGCONT};
    struct sigaction action = {.sa_handler = on_signal};
    struct sigaction old;

    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        sigaction(wanted[i], NULL, &old);
        if (old.sa_handler != SIG_IGN) { /* as nohup(1) wants it */
            sigaction(wanted[i], &action, NULL);
        }
    }
    signal(SIGPIPE, SIG_IGN);
}

/* ---- events of the call ---- */

static void on_accepted(void *arg)
{
    struct shell *shell = arg;

    shell->stdin_open = true;
    if (shell->pty) {
        tty_raw_enter(&shell->raw, STDIN_FILENO);
    }
}

static void on_output(bool is_stderr, const void *data, size_t len, void *arg)
{
    struct shell *shell = arg;
    struct output *output = is_stderr ? &shell->err : &shell->out;

    if (!output->broken) {
        buf_put(&output->data, data, len);
    }
}

static void on_exited(const struct peer_exec_exit *end, void *arg)
{
    struct shell *shell = arg;

    shell->exited = true;
    shell->end = *end;
}

static const struct peer_exec_events exec_events = {
    .accepted = on_accepted,
    .output = on_output,
    .exited = on_exited,
};

/* ---- our own streams ---- */

static void write_output(struct output *output)
{
    ssize_t n = write(output->fd, output->data.data, MIN(output->data.len, WRITE_SIZE));

    if (n > 0) {
        buf_drop(&output->data, (size_t)n);
    } else if (n < 0 && errno != EINTR && errno != EAGAIN) {
        output->broken = true;
        buf_done(&output->data);
    }
}

static void read_keys(struct shell *shell, size_t len)
{
    char *keys = shell->buf + len;

    shell->left = shell_escape_filter(&shell->escape, shell->buf, len, keys, &len);
    peer_exec_send(shell->exec, keys, len);
}

static void read_stdin(struct shell *shell)
{
    /* An escape may bring one key more than was read. */
    size_t room = MIN(peer_exec_room(shell->exec) - 1, READ_SIZE / 2);
    ssize_t n = read(STDIN_FILENO, shell->buf, room);

    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return;
    }
    if (n <= 0) {
        shell->stdin_open = false;
        peer_exec_send_end(shell->exec);
    } else if (shell->pty) {
        read_keys(shell, (size_t)n);
    } else {
        peer_exec_send(shell->exec, shell->buf, (size_t)n);
    }
}

/* ---- the connection ---- */

static void write_sock(struct shell *shell)
{
    struct buf *pending = peer_exec_pending(shell->exec);
    ssize_t n = send(shell->sock, pending->data, pending->len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n > 0) {
        buf_drop(pending, (size_t)n);
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        buf_truncate(pending, 0); /* what the other side still says is read first */
    }
}

static int read_sock(struct shell *shell, struct error *err)
{
    ssize_t n = recv(shell->sock, shell->buf, READ_SIZE, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    if (n <= 0) {
        shell->sock_open = false;
        return 0;
    }
    return peer_exec_take(shell->exec, shell->buf, (size_t)n, err);
}

static void pass_signal(struct shell *shell, int signo)
{
    unsigned rows, columns;

    if (signo == SIGCONT) {
        tty_raw_again(&shell->raw);
    } else if (signo == SIGWINCH) {
        if (shell->pty && tty_size(STDIN_FILENO, &rows, &columns)) {
            peer_exec_send_size(shell->exec, rows, columns);
        }
    } else if (shell->pty || !peer_exec_accepted(shell->exec) || shell->exited ||
               !shell->sock_open || ++shell->signals == SIGNALS_MAX) {
        shell->killed_by = signo;
    } else {
        peer_exec_send_signal(shell->exec, (unsigned)signo);
    }
}

static void read_signals(struct shell *shell)
{
    unsigned char bytes[64];
    ssize_t n = read(signal_pipe[0], bytes, sizeof(bytes));

    for (ssize_t i = 0; i < n; i++) {
        pass_signal(shell, bytes[i]);
    }
}

/* All that is left; blocks, until a signal ends us. */
static void flush_output(struct shell *shell, struct output *output)
{
    struct pollfd p[] = {{.fd = output->fd, .events = POLLOUT},
                         {.fd = signal_pipe[0], .events = POLLIN}};

    while (output->data.len && !output->broken && !shell->killed_by) {
        if (poll(p, ARRAY_LEN(p), -1) <= 0) {
            continue;
        }
        if (p[1].revents) {
            read_signals(shell);
        } else {
            write_output(output);
        }
    }
}

/* ---- the loop ---- */

enum source {
    SOURCE_SIGNALS,
    SOURCE_SOCK,
    SOURCE_STDIN,
    SOURCE_STDOUT,
    SOURCE_STDERR,
    SOURCES,
};

static struct pollfd source(int fd, bool wanted, short events)
{
    return (struct pollfd){.fd = wanted ? fd : -1, .events = events};
}

static void choose(struct shell *shell, struct pollfd p[SOURCES])
{
    bool waiting = shell->out.data.len > 0 || shell->err.data.len > 0;
    short sock =
        (short)((waiting ? 0 : POLLIN) | (peer_exec_pending(shell->exec)->len > 0 ? POLLOUT : 0));
    bool input = shell->stdin_open && peer_exec_room(shell->exec) > 1 &&
                 peer_exec_pending(shell->exec)->len < READ_SIZE;

    p[SOURCE_SIGNALS] = source(signal_pipe[0], true, POLLIN);
    p[SOURCE_SOCK] = source(shell->sock, sock != 0, sock);
    p[SOURCE_STDIN] = source(STDIN_FILENO, input, POLLIN);
    p[SOURCE_STDOUT] = source(shell->out.fd, shell->out.data.len > 0, POLLOUT);
    p[SOURCE_STDERR] = source(shell->err.fd, shell->err.data.len > 0, POLLOUT);
}

static int handle(struct shell *shell, const struct pollfd p[SOURCES], struct error *err)
{
    int r = 0;

    if (p[SOURCE_SIGNALS].revents) {
        read_signals(shell);
    }
    if (p[SOURCE_STDOUT].revents) {
        write_output(&shell->out);
    }
    if (p[SOURCE_STDERR].revents) {
        write_output(&shell->err);
    }
    if (p[SOURCE_SOCK].revents & (POLLIN | POLLHUP | POLLERR) && !shell->out.data.len &&
        !shell->err.data.len) {
        r = read_sock(shell, err);
    }
    if (r == 0 && p[SOURCE_STDIN].revents && peer_exec_room(shell->exec) > 1) {
        read_stdin(shell);
    }
    if (peer_exec_pending(shell->exec)->len > 0) {
        write_sock(shell);
    }
    return r;
}

/* Until the command has ended, the connection breaks, or we are to end. */
static int run_loop(struct shell *shell, struct error *err)
{
    struct pollfd p[SOURCES];
    int r = 0;

    while (r == 0 && shell->sock_open && !shell->exited && !shell->killed_by && !shell->left &&
           !shell->out.broken) {
        choose(shell, p);
        if (poll(p, SOURCES, -1) > 0) {
            r = handle(shell, p, err);
        }
        if (peer_exec_input_closed(shell->exec)) {
            shell->stdin_open = false;
        }
    }
    return r;
}

static _noreturn_ void die_by(int signo)
{
    signal(signo, SIG_DFL);
    raise(signo);
    _exit(128 + signo);
}

/* The status to end with, once the terminal is what it was. */
static int conclude(struct shell *shell)
{
    if (shell->killed_by) {
        die_by(shell->killed_by);
    }
    if (shell->out.broken) {
        die_by(SIGPIPE); /* as a command here would */
    }
    if (shell->exited) {
        return shell->end.status;
    }
    if (shell->left) {
        log_info("connection to instance `%s` closed", shell->name);
    } else {
        log_error("the connection to instance `%s` broke before the command ended", shell->name);
    }
    return STATUS_BROKEN;
}

static int run(struct shell *shell, const struct peer_exec_request *request, struct error *err)
{
    int r = peer_exec_new(request, &exec_events, shell, &shell->exec, err);

    if (r < 0) {
        return r;
    }
    if (pipe(signal_pipe) < 0) {
        return error_errno(err, errno, "opening a pipe");
    }
    fd_set_nonblock(signal_pipe[0]);
    fd_set_nonblock(signal_pipe[1]);
    take_signals();
    r = run_loop(shell, err);
    flush_output(shell, &shell->out);
    flush_output(shell, &shell->err);
    tty_raw_leave(&shell->raw);
    if (r == -ENOTCONN && !peer_exec_accepted(shell->exec)) {
        return error_set(err, EOPNOTSUPP, "the guest agent is not connected");
    }
    if (r == -EPROTO) {
        log_error("instance `%s`: %s", shell->name, error_text(err));
        r = 0;
    }
    return r < 0 ? r : conclude(shell);
}

/* So that none of our descriptors becomes one of the three. */
static void ensure_standard_fds(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) {
            return;
        }
    }
}

int shell_agent_run(const char *path, const char *name, const struct peer_exec_request *request,
                    struct error *err)
{
    struct shell shell = {.name = name,
                          .sock = -1,
                          .sock_open = true,
                          .pty = request->pty,
                          .out.fd = STDOUT_FILENO,
                          .err.fd = STDERR_FILENO};
    scoped(error_done) struct error local = ERROR_INIT;
    int r;

    ensure_standard_fds();
    r = file_connect_unix(path, &shell.sock, &local);
    if (r < 0) {
        return error_set(err, EOPNOTSUPP, "%s", error_text(&local));
    }
    shell.buf = xmalloc(READ_SIZE + 1);
    r = run(&shell, request, err);
    peer_exec_free(shell.exec);
    fd_close(shell.sock);
    buf_done(&shell.out.data);
    buf_done(&shell.err.data);
    free(shell.buf);
    return r;
}
