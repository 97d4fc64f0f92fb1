/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   connecting -> handshake -> login -> control -> up     any of them -> down
 *
 * The control channel is a session channel on which nothing is ever started. With it libssh2 can be
 * made to read while no other channel is open, and an environment variable that no server accepts
 * is a question that every server answers (the reply to a global request would stay in libssh2's
 * queue for good). A server that refuses such a channel is done without.
 */
#include "ssh/link.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdalign.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "util/file.h"

#define SETUP_PATIENCE_MS 20000        /* from connect() to login, with a slow guest */
#define READ_BUDGET       (256u << 10) /* before other events of the loop get their turn */
#define OUTPUT_LIMIT      (256u << 10) /* what ssh_link_room() fills */
#define OUTPUT_MAX        (1u << 20)   /* with what libssh2 says by itself */
#define MEMORY_BASE       (8u << 20)
#define MEMORY_CHANNEL    (1u << 20) /* a window, in the worst cutting into packets */
#define QUESTION          "LIMA_ALIVE"
#define FREE_TRIES        1000 /* one a packet that is left, at most */

/*
 * libssh2 has GCM since 1.11.1; what it does not know must not be in the list, as older ones move
 * memory wrongly when they strike a name out.
 */
#define GCM_VERSION 0x010b01
#define CIPHERS     "aes128-ctr,aes256-ctr,aes192-ctr"
#define CIPHERS_GCM "aes128-gcm@openssh.com,aes256-gcm@openssh.com," CIPHERS

#if LIBSSH2_VERSION_NUM >= 0x010b01
#define SESSION_CALLBACK_SET libssh2_session_callback_set2
#else
typedef void libssh2_cb_generic(void);
#define SESSION_CALLBACK_SET(ssh, which, fn) libssh2_session_callback_set(ssh, which, (void *)(fn))
#endif

enum link_state {
    LINK_STATE_CONNECTING,
    LINK_STATE_HANDSHAKE,
    LINK_STATE_LOGIN,
    LINK_STATE_CONTROL,
    LINK_STATE_UP,
    LINK_STATE_DOWN,
};

struct ssh_link {
    struct loop *loop;
    const struct ssh_link_options *options;
    const struct ssh_link_events *events;
    void *arg;
    enum link_state state;
    struct error error; /* set: down is due */
    int fd;
    struct loop_io *io;
    struct event *kick;
    struct loop_timer *patience; /* of the setup, later of a question */
    int64_t patience_end_ms;

    LIBSSH2_SESSION *ssh;
    LIBSSH2_CHANNEL *control;
    bool asking;   /* a question is being sent or open */
    size_t budget; /* bytes that may still be read in this turn */
    uint64_t received;
    bool drained;              /* the socket had no more */
    bool overflow;             /* the other end makes us answer and does not read */
    int read_error;            /* errno; EPIPE: end of file */
    struct buf out;            /* for the socket */
    LIST_HEAD(, block) blocks; /* libssh2's memory */
    size_t memory, memory_max;
};

/*
 * ---- libssh2's memory ----
 * Each block is preceded by its size and is in a list, by which what libssh2 loses (a host key at
 * each change of the keys) is freed with the link.
 */

struct block {
    alignas(max_align_t) LIST_ENTRY(block) entry;
    size_t size;
};

static void *on_realloc(void *ptr, size_t size, void **abstract)
{
    struct ssh_link *link = *abstract;
    struct block *block = ptr ? (struct block *)ptr - 1 : NULL;
    size_t old_size = block ? block->size : 0;

    if (size > link->memory_max || link->memory - old_size > link->memory_max - size) {
        return NULL;
    }
    if (block) {
        LIST_REMOVE(block, entry);
    }
    block = xrealloc(block, 1, sizeof(*block) + size);
    block->size = size;
    LIST_INSERT_HEAD(&link->blocks, block, entry);
    link->memory = link->memory - old_size + size;
    return block + 1;
}

static void *on_alloc(size_t size, void **abstract)
{
    return on_realloc(NULL, size, abstract);
}

static void block_free(struct ssh_link *link, struct block *block)
{
    LIST_REMOVE(block, entry);
    link->memory -= block->size;
    free(block);
}

static void on_free(void *ptr, void **abstract)
{
    if (ptr) {
        block_free(*abstract, (struct block *)ptr - 1);
    }
}

/* ---- its input and output ---- */

static ssize_t on_recv(libssh2_socket_t fd, void *data, size_t len, int flags, void **abstract)
{
    struct ssh_link *link = *abstract;
    ssize_t n;

    if (link->state == LINK_STATE_DOWN) {
        return -ENOTCONN;
    }
    if (link->drained || link->budget == 0) {
        return -EAGAIN;
    }
    n = recv(fd, data, MIN(len, link->budget), 0);
    if (n < 0) {
        int code = errno == EINTR ? EAGAIN : errno;

        link->drained = code == EAGAIN;
        link->read_error = code == EAGAIN ? 0 : code;
        return -code;
    }
    if (n == 0) {
        link->read_error = EPIPE;
    }
    link->budget -= (size_t)n;
    link->received += (uint64_t)n;
    link->drained = (size_t)n < len;
    return n;
}

static ssize_t on_send(libssh2_socket_t fd, const void *data, size_t len, int flags,
                       void **abstract)
{
    struct ssh_link *link = *abstract;

    if (link->state == LINK_STATE_DOWN) {
        return -ENOTCONN;
    }
    if (buf_put(&link->out, data, len) < 0) {
        link->overflow = true;
        return -ENOBUFS;
    }
    return (ssize_t)len;
}

/* 0, or -errno. */
static int flush(struct ssh_link *link)
{
    size_t done = 0;

    while (done < link->out.len) {
        ssize_t n = send(link->fd, link->out.data + done, link->out.len - done, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno != EAGAIN) {
            return -errno;
        }
        if (n < 0) {
            break;
        }
        done += (size_t)n;
    }
    buf_drop(&link->out, done);
    loop_io_want(link->io, (short)(EV_READ | (link->out.len > 0 ? EV_WRITE : 0)));
    return 0;
}

/* ---- states ---- */

/* libssh2's words for what went wrong. */
static const char *last_words(struct ssh_link *link)
{
    char *text = NULL;

    if (link->read_error) {
        return link->read_error == EPIPE ? "the other end has closed the connection"
                                         : strerror(link->read_error);
    }
    libssh2_session_last_error(link->ssh, &text, NULL, 0);
    return text && *text ? text : "no reason given";
}

static int fail(struct ssh_link *link, int code, const char *what)
{
    return error_set(&link->error, code, "ssh at 127.0.0.1:%d: %s: %s", link->options->port, what,
                     last_words(link));
}

static int step_connecting(struct ssh_link *link)
{
    socklen_t len = sizeof(int);
    int code = 0, on = 1;

    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0) {
        code = errno;
    }
    if (code) {
        return error_errno(&link->error, code, "connecting to ssh at 127.0.0.1:%d",
                           link->options->port);
    }
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    link->state = LINK_STATE_HANDSHAKE;
    return 0;
}

static int step_handshake(struct ssh_link *link)
{
    int r = libssh2_session_handshake(link->ssh, link->fd);

    if (r == LIBSSH2_ERROR_EAGAIN) {
        return -EAGAIN;
    }
    if (r < 0) {
        return fail(link, r == LIBSSH2_ERROR_METHOD_NONE ? EPROTO : ECONNRESET, "handshake");
    }
    link->state = LINK_STATE_LOGIN;
    return 0;
}

static int step_login(struct ssh_link *link)
{
    const struct ssh_link_options *o = link->options;
    int r = libssh2_userauth_publickey_fromfile_ex(link->ssh, o->user, (unsigned)strlen(o->user),
                                                   NULL, o->key, NULL);

    if (r == LIBSSH2_ERROR_EAGAIN) {
        return -EAGAIN;
    }
    if (r == LIBSSH2_ERROR_AUTHENTICATION_FAILED || r == LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED ||
        r == LIBSSH2_ERROR_METHOD_NOT_SUPPORTED) {
        error_set(&link->error, EACCES,
                  "ssh at 127.0.0.1:%d does not let '%s' in with the key '%s': %s", o->port,
                  o->user, o->key, last_words(link));
        return error_hint(&link->error, "'%s.pub' must be in ~%s/.ssh/authorized_keys in the guest",
                          o->key, o->user);
    }
    if (r == LIBSSH2_ERROR_FILE) {
        return error_set(&link->error, EINVAL, "'%s' cannot be used as an ssh key: %s", o->key,
                         last_words(link));
    }
    if (r < 0) {
        return fail(link, ECONNRESET, "login");
    }
    link->state = LINK_STATE_CONTROL;
    return 0;
}

static int step_control(struct ssh_link *link)
{
    int r;

    link->control = libssh2_channel_open_session(link->ssh);
    r = link->control ? 0 : libssh2_session_last_errno(link->ssh);
    if (r == LIBSSH2_ERROR_EAGAIN) {
        return -EAGAIN;
    }
    if (r < 0 && r != LIBSSH2_ERROR_CHANNEL_FAILURE) {
        return fail(link, ECONNRESET, "first channel");
    }
    link->state = LINK_STATE_UP;
    loop_timer_set(link->patience, -1);
    link->events->up(link->arg);
    return 0;
}

/* The question goes out, its answer comes in; both by the same call. */
static void step_asking(struct ssh_link *link)
{
    if (libssh2_channel_eof(link->control) == 1 ||
        libssh2_channel_setenv_ex(link->control, QUESTION, strlen(QUESTION), "1", 1) !=
            LIBSSH2_ERROR_EAGAIN) {
        link->asking = false; /* whatever the answer is: a broken connection shows in the read */
        loop_timer_set(link->patience, -1);
    }
}

static int step_up(struct ssh_link *link)
{
    char byte;
    ssize_t n;

    if (link->asking) {
        step_asking(link);
    }
    n = link->control ? libssh2_channel_read(link->control, &byte, 1) : LIBSSH2_ERROR_EAGAIN;
    if (n < 0 && n != LIBSSH2_ERROR_EAGAIN) {
        return fail(link, ECONNRESET, "reading");
    }
    link->events->drive(link->arg);
    return link->error.code ? -link->error.code : -EAGAIN;
}

/* -EAGAIN: needs input. */
static int step(struct ssh_link *link)
{
    static int (*const steps[])(struct ssh_link *) = {
        [LINK_STATE_CONNECTING] = step_connecting,
        [LINK_STATE_HANDSHAKE] = step_handshake,
        [LINK_STATE_LOGIN] = step_login,
        [LINK_STATE_CONTROL] = step_control,
        [LINK_STATE_UP] = step_up,
    };

    return steps[link->state](link);
}

static void go_down(struct ssh_link *link)
{
    link->state = LINK_STATE_DOWN;
    event_del(link->kick);
    loop_timer_set(link->patience, -1);
    if (link->io) {
        loop_io_want(link->io, 0);
    }
    link->events->down(&link->error, link->arg); /* may free the link */
}

/* All that can be done now, then what was written in one go. */
static void advance(struct ssh_link *link)
{
    bool full;
    int r;

    do {
        r = step(link);
    } while (r == 0);
    if (r != -EAGAIN) {
        return;
    }
    if (link->overflow) {
        error_set(&link->error, ENOBUFS, "ssh at 127.0.0.1:%d asks and does not read",
                  link->options->port);
        return;
    }
    full = ssh_link_room(link) == 0;
    r = flush(link);
    if (r < 0) {
        error_errno(&link->error, -r, "writing to ssh at 127.0.0.1:%d", link->options->port);
    } else if (full && ssh_link_room(link) > 0) {
        ssh_link_kick(link);
    }
}

static void run(struct ssh_link *link)
{
    if (link->state == LINK_STATE_DOWN) {
        return;
    }
    if (!link->error.code) {
        advance(link);
    }
    if (link->error.code) {
        go_down(link);
    }
}

static void on_link_ready(evutil_socket_t fd, short what, void *arg)
{
    struct ssh_link *link = arg;

    if (what & EV_READ) {
        link->drained = false;
        link->budget = READ_BUDGET;
    }
    if ((what & EV_WRITE) && link->state > LINK_STATE_CONNECTING) {
        (void)flush(link); /* what is wrong shows again behind the step */
    }
    run(link);
}

static void on_kick(evutil_socket_t fd, short what, void *arg)
{
    run(arg);
}

static void on_patience_end(void *arg)
{
    struct ssh_link *link = arg;

    error_set(&link->error, ETIMEDOUT, "ssh at 127.0.0.1:%d does not answer", link->options->port);
    go_down(link);
}

/* ---- life ---- */

static LIBSSH2_SESSION *session_new(struct ssh_link *link)
{
    LIBSSH2_SESSION *ssh = libssh2_session_init_ex(on_alloc, on_free, on_realloc, link);
    const char *ciphers = libssh2_version(GCM_VERSION) ? CIPHERS_GCM : CIPHERS;

    if (!ssh) {
        error_set(&link->error, ENOTSUP, "libssh2 cannot be initialised");
        return NULL;
    }
    libssh2_session_set_blocking(ssh, 0);
    SESSION_CALLBACK_SET(ssh, LIBSSH2_CALLBACK_SEND, (libssh2_cb_generic *)on_send);
    SESSION_CALLBACK_SET(ssh, LIBSSH2_CALLBACK_RECV, (libssh2_cb_generic *)on_recv);
    libssh2_session_method_pref(ssh, LIBSSH2_METHOD_CRYPT_CS, ciphers);
    libssh2_session_method_pref(ssh, LIBSSH2_METHOD_CRYPT_SC, ciphers);
    return ssh;
}

/* The socket, connecting. A failure at once shows in the same way as a later one. */
static int start_connecting(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 &&
        errno != EINPROGRESS) {
        int code = errno;

        fd_close(fd);
        return -code;
    }
    return fd < 0 ? -errno : fd;
}

struct ssh_link *ssh_link_new(struct loop *loop, const struct ssh_link_options *options,
                              const struct ssh_link_events *events, void *arg)
{
    struct ssh_link *link = xnew(struct ssh_link);

    link->loop = loop;
    link->options = options;
    link->events = events;
    link->arg = arg;
    link->out = BUF_INIT_CAP(OUTPUT_MAX);
    link->memory_max = MEMORY_BASE;
    link->ssh = session_new(link);
    link->kick = event_new(loop_base(loop), -1, 0, on_kick, link);
    link->patience = loop_timer_new(loop, on_patience_end, link);
    loop_timer_set(link->patience, SETUP_PATIENCE_MS);
    link->fd = start_connecting(options->port);
    if (link->fd >= 0) {
        link->io = loop_io_new(loop, link->fd, EV_WRITE, on_link_ready, link);
    } else {
        error_errno(&link->error, -link->fd, "connecting to ssh at 127.0.0.1:%d", options->port);
        link->fd = -1;
    }
    if (link->error.code) {
        ssh_link_kick(link);
    }
    return link;
}

void ssh_link_free(struct ssh_link *link)
{
    if (!link) {
        return;
    }
    link->state = LINK_STATE_DOWN; /* libssh2 finds no connection, so it waits for nothing */
    for (int i = 0; i < FREE_TRIES && link->ssh; i++) {
        if (libssh2_session_free(link->ssh) != LIBSSH2_ERROR_EAGAIN) {
            link->ssh = NULL;
        }
    }
    while (!LIST_EMPTY(&link->blocks)) {
        block_free(link, LIST_FIRST(&link->blocks));
    }
    event_free(link->kick);
    loop_timer_free(link->patience);
    loop_io_free(link->io);
    fd_close(link->fd);
    buf_done(&link->out);
    error_done(&link->error);
    free(link);
}

/* ---- for the owner of the channels ---- */

LIBSSH2_SESSION *ssh_link_session(struct ssh_link *link)
{
    return link->ssh;
}

size_t ssh_link_room(const struct ssh_link *link)
{
    return link->out.len < OUTPUT_LIMIT ? OUTPUT_LIMIT - link->out.len : 0;
}

uint64_t ssh_link_received(const struct ssh_link *link)
{
    return link->received;
}

void ssh_link_kick(struct ssh_link *link)
{
    if (link->state != LINK_STATE_DOWN) {
        event_active(link->kick, EV_TIMEOUT, 0);
    }
}

void ssh_link_broken(struct ssh_link *link, const char *what)
{
    if (!link->error.code) {
        fail(link, ECONNRESET, what);
    }
}

void ssh_link_set_channels(struct ssh_link *link, size_t count)
{
    link->memory_max = MEMORY_BASE + count * MEMORY_CHANNEL;
}

void ssh_link_probe(struct ssh_link *link, int patience_ms)
{
    int64_t end_ms = loop_now_ms() + patience_ms;

    if (link->state != LINK_STATE_UP || !link->control || libssh2_channel_eof(link->control) == 1 ||
        (link->asking && link->patience_end_ms <= end_ms)) {
        return;
    }
    link->asking = true;
    link->patience_end_ms = end_ms;
    loop_timer_set(link->patience, patience_ms);
    ssh_link_kick(link);
}
