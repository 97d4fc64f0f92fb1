/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libssh2 keeps the state of a channel that is being opened in the session, so only one is opened
 * at a time, and the others wait in a queue. When the other end is slow with one (it connects to
 * somewhere, and nobody answers), those behind it move on to another session, the spare; so do new
 * ones as long as that lasts. All work on channels is done in drive().
 *
 *   idle -> connecting -> up
 *              ^   \      |
 *              |    v     v
 *              +--- pausing
 */
#include "ssh/session.h"

#include <string.h>
#include <sys/queue.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "ssh/channel.h"
#include "ssh/link.h"

#define PAUSE_MIN_MS      50
#define PAUSE_MAX_MS      700   /* an sshd that is back is used within a second */
#define PAUSE_REFUSED_MS  2000  /* each attempt is in the log of the guest */
#define STEADY_MS         5000  /* up for so long: the next pause is short again */
#define WAIT_MS           10000 /* for a session */
#define ALIVE_EVERY_MS    15000
#define ALIVE_PATIENCE_MS 120000 /* a VM that is stopped for a minute keeps its connections */
#define START_PATIENCE_MS 5000
#define SLOW_MS           200
#define SPARES_MAX        3

struct ssh_dialing {
    TAILQ_ENTRY(ssh_dialing) entry;
    struct ssh_session *session;
    const char *type;
    struct buf message;  /* the part of SSH_MSG_CHANNEL_OPEN that the type has */
    ssh_dialing_fn done; /* NULL: cancelled */
    void *arg;
    int64_t since_ms;
};

struct member {
    TAILQ_ENTRY(member) entry;
    struct ssh_channel *channel;
};

struct ssh_session {
    struct loop *loop;
    const struct ssh_session_events *events;
    void *arg;
    struct ssh_link_options options;
    char *user, *key;

    struct ssh_link *link; /* NULL: idle or pausing */
    bool up;
    int64_t up_since_ms;
    int64_t pause_ms;
    struct loop_timer *pause;
    struct loop_timer *alive;

    TAILQ_HEAD(, ssh_dialing) queue; /* the first one is being opened when the session is up */
    bool opening;                    /* libssh2 has begun with it */
    bool slow;                       /* and is not through with it since SLOW_MS */
    struct loop_timer *slowness;
    struct ssh_session *spare;   /* NULL: none yet */
    int depth;                   /* of spares */
    struct loop_timer *patience; /* of the first one, while the session is down */
    TAILQ_HEAD(, member) members;
    size_t count; /* of both */
};

/* ---- opening ---- */

static void put_u32(struct buf *out, uint32_t value)
{
    uint8_t bytes[] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
                       (uint8_t)value};

    buf_put(out, bytes, sizeof(bytes));
}

static void put_string(struct buf *out, const char *s)
{
    put_u32(out, (uint32_t)strlen(s));
    buf_puts(out, s);
}

static void put_target(struct ssh_dialing *d, const struct ssh_target *to)
{
    if (to->path) { /* PROTOCOL of OpenSSH, 2.4 */
        d->type = "direct-streamlocal@openssh.com";
        put_string(&d->message, to->path);
        put_string(&d->message, "");
        put_u32(&d->message, 0);
    } else { /* RFC 4254, 7.2 */
        d->type = "direct-tcpip";
        put_string(&d->message, to->host);
        put_u32(&d->message, to->port);
        put_string(&d->message, "127.0.0.1");
        put_u32(&d->message, 0);
    }
}

static void count_changed(struct ssh_session *s)
{
    if (s->link) {
        ssh_link_set_channels(s->link, s->count);
    }
}

static void dialing_free(struct ssh_dialing *d)
{
    TAILQ_REMOVE(&d->session->queue, d, entry);
    d->session->count--;
    buf_done(&d->message);
    free(d);
}

static void dialing_end(struct ssh_dialing *d, int r, struct mux_stream *stream)
{
    ssh_dialing_fn done = d->done;
    void *arg = d->arg;

    dialing_free(d);
    if (done) {
        done(r, stream, arg);
    }
}

/* libssh2 tells why the other end refuses a channel in words alone. */
static int refusal(LIBSSH2_SESSION *ssh)
{
    static const struct {
        const char *words;
        int code;
    } known[] = {
        {"(connect failed)", ECONNREFUSED},
        {"(administratively prohibited)", EACCES},
        {"(resource shortage)", EAGAIN},
        {"(unknown channel type)", EOPNOTSUPP},
    };
    char *text = NULL;

    libssh2_session_last_error(ssh, &text, NULL, 0);
    for (size_t i = 0; text && i < ARRAY_LEN(known); i++) {
        if (strstr(text, known[i].words)) {
            return known[i].code;
        }
    }
    return ECONNREFUSED;
}

static void member_new(struct ssh_session *s, LIBSSH2_CHANNEL *take_channel, struct ssh_dialing *d)
{
    struct member *m = xnew(struct member);

    m->channel = ssh_channel_new(s->link, take_channel);
    TAILQ_INSERT_TAIL(&s->members, m, entry);
    s->count++;
    if (d->done) {
        dialing_end(d, 0, ssh_channel_stream(m->channel));
    } else {
        dialing_free(d);
        ssh_channel_close(m->channel);
    }
}

static void opening_ended(struct ssh_session *s)
{
    s->opening = false;
    s->slow = false;
    loop_timer_set(s->slowness, -1);
}

/* Opens the first in the queue; false: it takes longer. */
static bool open_first(struct ssh_session *s)
{
    LIBSSH2_SESSION *ssh = ssh_link_session(s->link);
    struct ssh_dialing *d = TAILQ_FIRST(&s->queue);
    LIBSSH2_CHANNEL *channel;
    int r;

    if (!s->opening) {
        s->opening = true;
        loop_timer_set(s->slowness, SLOW_MS);
    }
    channel =
        libssh2_channel_open_ex(ssh, d->type, (unsigned)strlen(d->type), SSH_CHANNEL_WINDOW,
                                SSH_CHANNEL_PACKET, d->message.data, (unsigned)d->message.len);
    r = channel ? 0 : libssh2_session_last_errno(ssh);
    if (r == LIBSSH2_ERROR_EAGAIN) {
        return false;
    }
    opening_ended(s);
    if (channel) {
        member_new(s, channel, d);
    } else if (r == LIBSSH2_ERROR_CHANNEL_FAILURE) {
        dialing_end(d, -refusal(ssh), NULL);
    } else if (r == LIBSSH2_ERROR_TIMEOUT) {
        dialing_end(d, -ETIMEDOUT, NULL);
    } else {
        ssh_link_broken(s->link, "opening a channel");
        return false;
    }
    return true;
}

/* ---- the link ---- */

static void watch_patience(struct ssh_session *s)
{
    struct ssh_dialing *first = TAILQ_FIRST(&s->queue);
    int64_t left = first ? first->since_ms + WAIT_MS - loop_now_ms() : -1;

    loop_timer_set(s->patience, !first || s->up ? -1 : MAX(left, 0));
}

static void on_patience_end(void *arg)
{
    struct ssh_session *s = arg;
    int64_t now = loop_now_ms();
    struct ssh_dialing *first;

    loop_timer_set(s->patience, -1);
    while ((first = TAILQ_FIRST(&s->queue)) && first->since_ms + WAIT_MS <= now) {
        dialing_end(first, -ETIMEDOUT, NULL);
    }
    watch_patience(s);
}

/* Every channel gets its turn; who was first is last the next time. True: some have more to do. */
static bool pump_members(struct ssh_session *s)
{
    struct member *m, *next;
    bool more = false;

    for (m = TAILQ_FIRST(&s->members); m; m = next) {
        next = TAILQ_NEXT(m, entry);
        if (ssh_channel_pump(m->channel, &more) == SSH_CHANNEL_OVER) {
            TAILQ_REMOVE(&s->members, m, entry);
            s->count--;
            ssh_channel_free(m->channel);
            free(m);
        }
    }
    m = TAILQ_FIRST(&s->members);
    if (m) {
        TAILQ_REMOVE(&s->members, m, entry);
        TAILQ_INSERT_TAIL(&s->members, m, entry);
    }
    return more;
}

static void on_link_drive(void *arg)
{
    struct ssh_session *s = arg;
    bool more;

    do {
        while (!TAILQ_EMPTY(&s->queue) && open_first(s)) {
        }
        more = pump_members(s);
    } while (more && ssh_link_room(s->link) > 0);
    count_changed(s);
}

static void on_link_up(void *arg)
{
    struct ssh_session *s = arg;

    s->up = true;
    s->up_since_ms = loop_now_ms();
    loop_timer_set(s->patience, -1);
    loop_timer_set(s->alive, ALIVE_EVERY_MS);
    count_changed(s);
    s->events->changed(true, NULL, s->arg);
}

static void drop_members(struct ssh_session *s)
{
    struct member *m;

    while ((m = TAILQ_FIRST(&s->members))) {
        TAILQ_REMOVE(&s->members, m, entry);
        s->count--;
        ssh_channel_free(m->channel);
        free(m);
    }
}

static void forget_cancelled(struct ssh_session *s)
{
    struct ssh_dialing *first = TAILQ_FIRST(&s->queue);

    opening_ended(s);
    if (first && !first->done) {
        dialing_free(first);
    }
}

/* Forgets the link and what depended on it. */
static void drop_link(struct ssh_session *s)
{
    s->up = false;
    loop_timer_set(s->alive, -1);
    drop_members(s);
    forget_cancelled(s);
    ssh_link_free(steal(s->link));
    watch_patience(s);
}

static void on_link_down(const struct error *why, void *arg)
{
    struct ssh_session *s = arg;
    struct ssh_link *link = s->link;

    if (s->up && loop_now_ms() - s->up_since_ms >= STEADY_MS) {
        s->pause_ms = PAUSE_MIN_MS;
    }
    s->link = NULL; /* @why is its */
    drop_link(s);
    loop_timer_set(s->pause, why->code == EACCES ? PAUSE_REFUSED_MS : s->pause_ms);
    s->pause_ms = MIN(s->pause_ms * 2, PAUSE_MAX_MS);
    s->events->changed(false, why, s->arg);
    ssh_link_free(link);
}

static const struct ssh_link_events link_events = {
    .up = on_link_up,
    .drive = on_link_drive,
    .down = on_link_down,
};

static void connect_now(struct ssh_session *s)
{
    loop_timer_set(s->pause, -1);
    s->link = ssh_link_new(s->loop, &s->options, &link_events, s);
}

static void on_pause_end(void *arg)
{
    connect_now(arg);
}

static void on_alive_due(void *arg)
{
    struct ssh_session *s = arg;

    if (s->depth > 0 && s->count == 0) {
        ssh_session_stop(s); /* a spare that nobody needs now */
        return;
    }
    ssh_link_probe(s->link, ALIVE_PATIENCE_MS);
    loop_timer_set(s->alive, ALIVE_EVERY_MS);
}

/* ---- spares ---- */

static void on_spare_changed(bool up, const struct error *why, void *arg)
{
    if (!up) {
        log_debug("a further session: %s, retrying", error_text(why));
    }
}

static const struct ssh_session_events spare_events = {.changed = on_spare_changed};

/* Itself, or the first spare that is not held up either. */
static struct ssh_session *find_quick(struct ssh_session *s)
{
    while (s->slow && s->depth < SPARES_MAX) {
        if (!s->spare) {
            struct ssh_session_options options = {
                .port = s->options.port, .user = s->user, .key = s->key};

            s->spare = ssh_session_new(s->loop, &options, &spare_events, NULL);
            s->spare->depth = s->depth + 1;
        }
        s = s->spare;
        if (!s->link && !loop_timer_pending(s->pause)) {
            ssh_session_start(s);
        }
    }
    return s;
}

static void enqueue(struct ssh_session *s, struct ssh_dialing *d)
{
    d->session = s;
    TAILQ_INSERT_TAIL(&s->queue, d, entry);
    s->count++;
    if (s->up) {
        ssh_link_kick(s->link);
    } else {
        watch_patience(s);
    }
}

/* All behind the first one move on. */
static void on_slow(void *arg)
{
    struct ssh_session *s = arg, *quick;
    struct ssh_dialing *d;

    s->slow = true;
    quick = TAILQ_NEXT(TAILQ_FIRST(&s->queue), entry) ? find_quick(s) : s;
    while (quick != s && (d = TAILQ_NEXT(TAILQ_FIRST(&s->queue), entry))) {
        TAILQ_REMOVE(&s->queue, d, entry);
        s->count--;
        enqueue(quick, d);
    }
}

/* ---- life ---- */

struct ssh_session *ssh_session_new(struct loop *loop, const struct ssh_session_options *options,
                                    const struct ssh_session_events *events, void *arg)
{
    struct ssh_session *s = xnew(struct ssh_session);

    s->loop = loop;
    s->events = events;
    s->arg = arg;
    s->user = xstrdup(options->user);
    s->key = xstrdup(options->key);
    s->options = (struct ssh_link_options){.port = options->port, .user = s->user, .key = s->key};
    s->pause_ms = PAUSE_MIN_MS;
    s->pause = loop_timer_new(loop, on_pause_end, s);
    s->alive = loop_timer_new(loop, on_alive_due, s);
    s->patience = loop_timer_new(loop, on_patience_end, s);
    s->slowness = loop_timer_new(loop, on_slow, s);
    TAILQ_INIT(&s->queue);
    TAILQ_INIT(&s->members);
    return s;
}

void ssh_session_free(struct ssh_session *s)
{
    if (!s) {
        return;
    }
    ssh_session_free(s->spare);
    while (!TAILQ_EMPTY(&s->queue)) {
        dialing_free(TAILQ_FIRST(&s->queue));
    }
    drop_members(s);
    ssh_link_free(s->link);
    loop_timer_free(s->slowness);
    loop_timer_free(s->patience);
    loop_timer_free(s->alive);
    loop_timer_free(s->pause);
    free(s->user);
    free(s->key);
    free(s);
}

void ssh_session_start(struct ssh_session *s)
{
    s->pause_ms = PAUSE_MIN_MS;
    if (!s->link) {
        connect_now(s);
    } else {
        ssh_link_probe(s->link, START_PATIENCE_MS);
    }
    if (s->spare && s->spare->link) {
        ssh_session_start(s->spare);
    }
}

void ssh_session_stop(struct ssh_session *s)
{
    if (s->spare) {
        ssh_session_stop(s->spare);
    }
    loop_timer_set(s->pause, -1);
    drop_link(s);
}

bool ssh_session_is_up(const struct ssh_session *s)
{
    return s->up;
}

size_t ssh_session_channels(const struct ssh_session *s)
{
    return s->count + (s->spare ? ssh_session_channels(s->spare) : 0);
}

struct ssh_dialing *ssh_session_open(struct ssh_session *s, const struct ssh_target *to,
                                     ssh_dialing_fn done, void *arg)
{
    struct ssh_dialing *d;

    if (ssh_session_channels(s) >= SSH_SESSION_CHANNELS_MAX) {
        return NULL;
    }
    d = xnew(struct ssh_dialing);
    d->done = done;
    d->arg = arg;
    d->since_ms = loop_now_ms();
    put_target(d, to);
    enqueue(find_quick(s), d);
    return d;
}

void ssh_dialing_cancel(struct ssh_dialing *d)
{
    struct ssh_session *s;

    if (!d) {
        return;
    }
    s = d->session;
    if (s->opening && d == TAILQ_FIRST(&s->queue)) {
        d->done = NULL; /* libssh2 must come to an end with it */
    } else {
        dialing_free(d);
    }
}
