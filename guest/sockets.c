/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP. A BPF notice of a socket that enters LISTEN comes just before dumps show it. So a look that
 * finds fewer sockets than the notices promise is repeated a few times, soon at first; sockets of
 * other network namespaces promise too and never come, which is why the repeats are few.
 *
 * Bursts: the first notice is looked at at once, further ones at most every LOOK_GAP_MS, and when
 * that goes on, at the pace of the ration, which looks at UDP use up too. Until the next look is
 * due notices are left where they are, so that neither looks nor wake-ups come more often than
 * that.
 *
 * UDP. A bind is looked at once to know that the socket is there, and again when it has settled.
 * Binds in between wait for that second look. Sockets that are gone are noticed by the group.
 */
#include "sockets.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/ration.h"
#include "bpf.h"
#include "sockdiag.h"

#define LOOK_GAP_MS 5
#define LOOK_BURST  300
#define LOOKS_PER_S 25
#define POLL_MIN_MS 50
#define POLL_MAX_MS 1000

/*
 * Pauses before the repeats. The first ones cover what listen() has still to do, the others a CPU
 * that was taken away from it in the middle.
 */
static const uint8_t repeat_ms[] = {0, 0, 1, 1, 2, 2, 4, 4, 8, 16, 32, 64};

struct sockets {
    struct loop *loop;
    loop_fn *changed;
    void *arg;
    int diag_fd;
    struct portset tcp, udp;
    struct udp_rules rules;
    struct udp_range skipped; /* of these come no notices */
    struct udp_settling settling;
    struct bpf *bpf; /* NULL: none */
    bool binds;      /* and it tells of UDP */
    struct loop_watch *bpf_watch;
    int gone_fd; /* destroyed sockets; -1: none */
    struct loop_watch *gone_watch;
    struct loop_timer *tcp_timer;  /* the next look, if one is planned */
    struct loop_timer *udp_timer;  /* the same */
    struct loop_timer *poll_timer; /* of what has no notices */
    struct ration ration;
    uint64_t last_tcp_us;
    size_t promised; /* sockets that the notices make us expect */
    unsigned repeats;
    unsigned poll_ms;
};

static bool udp_by_notice(const struct sockets *sockets)
{
    return sockets->binds && sockets->gone_fd >= 0;
}

/* True when the set changed. */
static bool list_tcp(struct sockets *sockets)
{
    scoped(portset_done) struct portset now = {0};
    scoped(error_done) struct error err = ERROR_INIT;
    bool same;

    sockets->last_tcp_us = loop_now_us();
    if (sockdiag_list(sockets->diag_fd, PORT_TCP, &now, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "looking for listening ports, retrying");
        return false;
    }
    same = portset_equal(&sockets->tcp, &now);
    portset_copy(&sockets->tcp, &now);
    return !same;
}

/* The same of UDP; plans the look at those that have to settle. */
static bool list_udp(struct sockets *sockets)
{
    scoped(portset_done) struct portset now = {0}, settled = {0};
    scoped(error_done) struct error err = ERROR_INIT;
    unsigned wait_ms;
    bool same;

    if (sockdiag_list(sockets->diag_fd, PORT_UDP, &now, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "looking for UDP ports, retrying");
        return false;
    }
    wait_ms = udp_settle(&sockets->settling, &sockets->rules, &now, loop_now_us(), &settled);
    if (wait_ms) {
        loop_timer_start(sockets->udp_timer, wait_ms);
    }
    same = portset_equal(&sockets->udp, &settled);
    portset_copy(&sockets->udp, &settled);
    return !same;
}

static void tell(struct sockets *sockets, bool changed)
{
    if (changed) {
        sockets->changed(sockets->arg);
    }
}

/*
 * False: the ration is used up. Then nobody wakes us until @timer, which leads back to the caller.
 */
static bool may_look(struct sockets *sockets, struct loop_timer *timer)
{
    bool may = ration_take(&sockets->ration, (int64_t)(loop_now_us() / 1000));

    if (sockets->bpf_watch) {
        loop_watch_set(sockets->bpf_watch, may ? POLLIN : 0);
    }
    if (sockets->gone_watch) {
        loop_watch_set(sockets->gone_watch, may ? POLLIN : 0);
    }
    if (!may) {
        loop_timer_start(timer, 1000 / LOOKS_PER_S);
    }
    return may;
}

/* ---- TCP by notices ---- */

/* True when some are about TCP. */
static bool take_notices(struct sockets *sockets)
{
    struct bpf_notices notices = bpf_read(sockets->bpf);

    if (notices.bound && !loop_timer_active(sockets->udp_timer)) {
        loop_timer_start(sockets->udp_timer, 0);
    }
    if (!notices.entered && !notices.left) {
        return false;
    }
    sockets->promised += notices.entered;
    sockets->promised -= MIN(notices.left, sockets->promised);
    sockets->repeats = 0;
    return true;
}

static void plan_tcp(struct sockets *sockets, unsigned ms)
{
    loop_watch_set(sockets->bpf_watch, 0);
    loop_timer_start(sockets->tcp_timer, ms);
}

static void look_by_notice(struct sockets *sockets)
{
    bool changed;

    if (!may_look(sockets, sockets->tcp_timer)) {
        return;
    }
    changed = list_tcp(sockets);
    if (sockets->tcp.sockets >= sockets->promised || sockets->repeats >= ARRAY_LEN(repeat_ms)) {
        sockets->promised = sockets->tcp.sockets;
        sockets->repeats = 0;
    } else {
        loop_timer_start(sockets->tcp_timer, repeat_ms[sockets->repeats++]);
    }
    tell(sockets, changed);
}

static void on_bpf_readable(int fd, short revents, void *arg)
{
    struct sockets *sockets = arg;
    uint64_t since_ms = (loop_now_us() - sockets->last_tcp_us) / 1000;

    if (!take_notices(sockets)) {
        return;
    }
    if (since_ms < LOOK_GAP_MS) {
        plan_tcp(sockets, LOOK_GAP_MS - (unsigned)since_ms);
    } else {
        look_by_notice(sockets);
    }
}

static void on_tcp_due(void *arg)
{
    struct sockets *sockets = arg;

    take_notices(sockets);
    look_by_notice(sockets);
}

/* ---- UDP, and sockets that are gone ---- */

static void on_udp_due(void *arg)
{
    struct sockets *sockets = arg;

    if (may_look(sockets, sockets->udp_timer)) {
        tell(sockets, list_udp(sockets));
    }
}

static bool by_clock(const struct sockets *sockets)
{
    return !sockets->bpf || !udp_by_notice(sockets);
}

/* All of which there are no notices. */
static void look_by_clock(struct sockets *sockets)
{
    bool changed = !sockets->bpf && list_tcp(sockets);

    changed = (!udp_by_notice(sockets) && list_udp(sockets)) || changed;
    sockets->poll_ms = changed ? POLL_MIN_MS : MIN(2 * sockets->poll_ms, POLL_MAX_MS);
    loop_timer_start(sockets->poll_timer, sockets->poll_ms);
    tell(sockets, changed);
}

static void on_poll_due(void *arg)
{
    look_by_clock(arg);
}

static void on_gone_readable(int fd, short revents, void *arg)
{
    struct sockets *sockets = arg;
    struct sockdiag_gone gone = sockdiag_watch_read(fd, &sockets->tcp, &sockets->settling.seen);

    if (gone.udp) {
        loop_timer_start(sockets->udp_timer, 0);
    }
    if (gone.tcp && !sockets->bpf && may_look(sockets, sockets->poll_timer)) {
        look_by_clock(sockets);
    }
}

/* ---- life ---- */

static void skip_uninteresting(struct sockets *sockets)
{
    struct udp_range skip = udp_uninteresting(&sockets->rules);
    scoped(error_done) struct error err = ERROR_INIT;

    if (skip.first == sockets->skipped.first && skip.last == sockets->skipped.last) {
        return;
    }
    sockets->skipped = skip;
    if (sockets->bpf) {
        sockets->binds = bpf_watch_binds(sockets->bpf, skip.first, skip.last, &err) == 0;
        if (!sockets->binds) {
            log_error_of(LOG_LEVEL_INFO, &err, "no BPF notices of UDP ports, looking by the clock");
            error_done(&err);
        }
    }
    /* TCP servers may well have a port that the kernel has chosen. */
    skip = sockets->bpf ? skip : (struct udp_range){1, 0};
    if (sockets->gone_fd >= 0 &&
        sockdiag_watch_skip(sockets->gone_fd, skip.first, skip.last, &err) < 0) {
        log_error_of(LOG_LEVEL_DEBUG, &err, "all closed sockets are noticed, ignoring");
    }
    if (by_clock(sockets)) {
        sockets->poll_ms = POLL_MIN_MS;
        loop_timer_start(sockets->poll_timer, POLL_MIN_MS);
    } else {
        loop_timer_stop(sockets->poll_timer);
    }
}

static void start_notices(struct sockets *sockets, bool no_bpf)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (no_bpf) {
        log_info("BPF is not to be used, looking for listening ports by the clock");
    } else if (bpf_open(&sockets->bpf, &err) < 0) {
        log_error_of(LOG_LEVEL_INFO, &err,
                     "no BPF notices of listening ports, looking by the clock");
        error_done(&err);
    } else {
        sockets->bpf_watch =
            loop_watch_new(sockets->loop, bpf_fd(sockets->bpf), POLLIN, on_bpf_readable, sockets);
    }
    if (sockdiag_watch_open(!sockets->bpf, &sockets->gone_fd, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "no notices of closed ports, ignoring");
    } else {
        sockets->gone_watch =
            loop_watch_new(sockets->loop, sockets->gone_fd, POLLIN, on_gone_readable, sockets);
    }
    skip_uninteresting(sockets);
}

int sockets_open(const struct sockets_options *options, struct sockets **ret, struct error *err)
{
    struct sockets *sockets = xnew(struct sockets);
    int r;

    *sockets = (struct sockets){.loop = options->loop,
                                .changed = options->changed,
                                .arg = options->arg,
                                .diag_fd = -1,
                                .gone_fd = -1,
                                .ration = RATION_INIT(LOOK_BURST, LOOKS_PER_S)};
    r = sockdiag_open(&sockets->diag_fd, err);
    if (r < 0) {
        sockets_close(sockets);
        return r;
    }
    udp_rules_init(&sockets->rules);
    sockets->tcp_timer = loop_timer_new(sockets->loop, on_tcp_due, sockets);
    sockets->udp_timer = loop_timer_new(sockets->loop, on_udp_due, sockets);
    sockets->poll_timer = loop_timer_new(sockets->loop, on_poll_due, sockets);
    start_notices(sockets, options->no_bpf);
    list_tcp(sockets);
    list_udp(sockets);
    sockets->promised = sockets->tcp.sockets;
    *ret = sockets;
    return 0;
}

void sockets_close(struct sockets *sockets)
{
    if (!sockets) {
        return;
    }
    loop_watch_free(sockets->bpf_watch);
    loop_watch_free(sockets->gone_watch);
    loop_timer_free(sockets->tcp_timer);
    loop_timer_free(sockets->udp_timer);
    loop_timer_free(sockets->poll_timer);
    bpf_close(sockets->bpf);
    fd_close(sockets->gone_fd);
    fd_close(sockets->diag_fd);
    udp_settling_done(&sockets->settling);
    portset_done(&sockets->tcp);
    portset_done(&sockets->udp);
    free(sockets);
}

const struct portset *sockets_tcp(const struct sockets *sockets)
{
    return &sockets->tcp;
}

const struct portset *sockets_udp(const struct sockets *sockets)
{
    return &sockets->udp;
}

void sockets_want_udp(struct sockets *sockets, const struct udp_range *ranges, size_t count)
{
    sockets->rules.wanted_count = MIN(count, UDP_WANTED_MAX);
    for (size_t i = 0; i < sockets->rules.wanted_count; i++) {
        sockets->rules.wanted[i] = ranges[i];
    }
    skip_uninteresting(sockets);
    loop_timer_start(sockets->udp_timer, 0);
}

const char *sockets_method(const struct sockets *sockets)
{
    return !sockets->bpf ? "polling" : !udp_by_notice(sockets) ? "bpf+polling" : "bpf";
}
