/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP. A BPF notice of a socket that enters LISTEN comes just before dumps show it. So a look that
 * finds fewer sockets than the notices promise is repeated a few times, soon at first; sockets of
 * other network namespaces promise too and never come, which is why the repeats are few. Sockets
 * that came and went without being seen need no look.
 *
 * UDP. A bind is noticed with its address, so that only a socket that has settled is looked for, to
 * be sure of it. Sockets that are gone are noticed by the group.
 *
 * Bursts: the first notice is looked at at once, further ones at most every LOOK_GAP_MS, and when
 * that goes on, at the pace of the ration, which both protocols use up. When notices come to
 * nothing - sockets that are gone at once, or of other namespaces - and more of them follow, we
 * rest ever longer before the next are read. While we rest, notices stay where they are and wake
 * nobody: a wake-up is a good part of what a look costs.
 */
#include "sockets.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/ration.h"
#include "bpf.h"
#include "sockdiag.h"

#define LOOK_GAP_MS 5
#define COME_MS     2 /* time for one that comes to be there, or gone again */
#define LOOK_BURST  300
#define LOOKS_PER_S 8
#define REST_MAX_MS 64
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
    struct loop_watch *listens_watch, *binds_watch;
    int gone_fd; /* destroyed sockets; -1: none */
    struct loop_watch *gone_watch;
    struct loop_timer *tcp_timer;  /* the next look, or end of a rest */
    struct loop_timer *udp_timer;  /* the same */
    struct loop_timer *poll_timer; /* of what has no notices */
    struct ration ration;
    uint64_t last_tcp_us;
    size_t promised; /* sockets that the notices make us expect */
    unsigned repeats;
    bool came;                   /* a listener, and it has had its time */
    bool udp_due;                /* UDP has to be looked at */
    unsigned tcp_vain, udp_vain; /* how often in a row notices came to nothing */
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

/* The same of UDP. */
static bool list_udp(struct sockets *sockets)
{
    scoped(portset_done) struct portset now = {0}, settled = {0};
    scoped(error_done) struct error err = ERROR_INIT;
    bool same;

    sockets->udp_due = false;
    if (sockdiag_list(sockets->diag_fd, PORT_UDP, &now, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "looking for UDP ports, retrying");
        return false;
    }
    udp_settle(&sockets->settling, &sockets->rules, &now, loop_now_us(), &settled);
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

static int64_t now_ms(void)
{
    return (int64_t)(loop_now_us() / 1000);
}

/* Until a look may be had and, after notices that came to nothing, the next ones be read. */
static unsigned rest_ms(const struct sockets *sockets, unsigned vain)
{
    unsigned ms = vain ? MIN(1u << MIN(vain, 16), REST_MAX_MS) : 0;

    return MAX(ms, ration_wait_ms(&sockets->ration, now_ms()));
}

static void wake_by(struct loop_watch *watch, bool on)
{
    if (watch) {
        loop_watch_set(watch, on ? POLLIN : 0);
    }
}

/* ---- TCP by notices ---- */

/* Nobody wakes us for TCP until then; 0: anybody may. */
static void rest_tcp(struct sockets *sockets, unsigned ms)
{
    wake_by(sockets->listens_watch, !ms);
    if (ms) {
        loop_timer_start(sockets->tcp_timer, ms);
    }
}

/* Looks, and again soon when not all is there. */
static void look_for_tcp(struct sockets *sockets)
{
    size_t before = sockets->tcp.sockets;
    bool changed = list_tcp(sockets);
    bool all = sockets->tcp.sockets >= sockets->promised;

    bpf_listens_looked(sockets->bpf, all || changed || sockets->tcp.sockets != before);
    if (all || sockets->repeats >= ARRAY_LEN(repeat_ms)) {
        sockets->promised = sockets->tcp.sockets;
        sockets->repeats = 0;
        sockets->tcp_vain = changed ? 0 : sockets->tcp_vain + 1;
        rest_tcp(sockets, rest_ms(sockets, sockets->tcp_vain));
    } else {
        wake_by(sockets->listens_watch, true);
        loop_timer_start(sockets->tcp_timer, repeat_ms[sockets->repeats++]);
    }
    tell(sockets, changed);
}

/* When to look: 0 is now, <0 not at all. */
static int take_listens(struct sockets *sockets)
{
    struct bpf_listens listens = bpf_read_listens(sockets->bpf);
    size_t gone = (size_t)MAX(-listens.change, 0);
    int since_ms = (int)MIN((loop_now_us() - sockets->last_tcp_us) / 1000, LOOK_GAP_MS);

    sockets->promised -= MIN(gone, sockets->promised);
    sockets->promised += (size_t)MAX(listens.change, 0);
    if (listens.left) {
        sockets->repeats = 0;
        return LOOK_GAP_MS - since_ms;
    }
    if (listens.came) {
        sockets->repeats = 0;
        return sockets->came ? 0 : MAX(LOOK_GAP_MS - since_ms, COME_MS);
    }
    if (sockets->repeats && sockets->tcp.sockets < sockets->promised) {
        return 0;
    }
    sockets->promised = sockets->tcp.sockets;
    sockets->repeats = 0;
    sockets->tcp_vain = listens.any ? sockets->tcp_vain + 1 : 0;
    return -1;
}

static void step_tcp(struct sockets *sockets)
{
    int wait_ms = take_listens(sockets);

    loop_timer_stop(sockets->tcp_timer);
    sockets->came = wait_ms > 0;
    if (wait_ms < 0) {
        rest_tcp(sockets, sockets->tcp_vain ? rest_ms(sockets, sockets->tcp_vain) : 0);
    } else if (wait_ms > 0) {
        rest_tcp(sockets, (unsigned)wait_ms);
    } else if (!ration_take(&sockets->ration, now_ms())) {
        sockets->came = true;
        rest_tcp(sockets, rest_ms(sockets, 0));
    } else {
        look_for_tcp(sockets);
    }
}

static void on_listens_readable(int fd, short revents, void *arg)
{
    step_tcp(arg);
}

static void on_tcp_due(void *arg)
{
    step_tcp(arg);
}

/* ---- UDP by notices ---- */

static void on_bind(const struct portset_entry *entry, uint64_t cookie, void *arg)
{
    struct sockets *sockets = arg;

    if (!udp_arrive(&sockets->settling, &sockets->rules, entry, cookie, loop_now_us())) {
        sockets->udp_due = true;
    }
}

static void on_udp_gone(uint16_t port, uint64_t cookie, void *arg)
{
    struct sockets *sockets = arg;

    if (!udp_depart(&sockets->settling, cookie) &&
        portset_has_port(&sockets->settling.seen, PORT_UDP, port)) {
        sockets->udp_due = true;
    }
}

/* Binds first: whoever is gone was bound before. True when there were notices. */
static bool take_udp(struct sockets *sockets)
{
    bool bound, gone;

    if (!bpf_read_binds(sockets->bpf, on_bind, sockets, &bound)) {
        sockets->udp_due = true;
    }
    if (!sockdiag_watch_read(sockets->gone_fd, on_udp_gone, sockets, &gone)) {
        sockets->udp_due = true;
    }
    return bound || gone;
}

/* Nobody wakes us for UDP until then; 0: anybody may. A socket will have settled in any case. */
static void rest_udp(struct sockets *sockets, unsigned rest)
{
    uint64_t now = loop_now_us(), due = udp_due_us(&sockets->settling);
    unsigned ms = rest;

    if (due && !sockets->udp_due) {
        ms = due > now ? (unsigned)((due - now + 999) / 1000) : 0;
        ms = rest ? MIN(ms, rest) : ms;
    }
    wake_by(sockets->binds_watch, !rest && udp_by_notice(sockets));
    wake_by(sockets->gone_watch, !rest);
    if (rest || due) {
        loop_timer_start(sockets->udp_timer, ms);
    }
}

static void step_udp(struct sockets *sockets)
{
    bool noticed = take_udp(sockets), changed = false;
    uint64_t due = udp_due_us(&sockets->settling);

    loop_timer_stop(sockets->udp_timer);
    sockets->udp_due = sockets->udp_due || (due && due <= loop_now_us());
    if (sockets->udp_due && ration_take(&sockets->ration, now_ms())) {
        changed = list_udp(sockets);
    }
    sockets->udp_vain = noticed && !changed ? sockets->udp_vain + 1 : 0;
    rest_udp(sockets, noticed || sockets->udp_due ? rest_ms(sockets, sockets->udp_vain) : 0);
    tell(sockets, changed);
}

static void on_binds_readable(int fd, short revents, void *arg)
{
    step_udp(arg);
}

/* ---- without notices ---- */

static bool by_clock(const struct sockets *sockets)
{
    return !sockets->bpf || !udp_by_notice(sockets);
}

static bool list_udp_by_clock(struct sockets *sockets)
{
    bool changed = list_udp(sockets);

    rest_udp(sockets, 0);
    return changed;
}

/* All of which there are no notices. */
static void look_by_clock(struct sockets *sockets)
{
    bool changed = !sockets->bpf && list_tcp(sockets);

    changed = (!udp_by_notice(sockets) && list_udp_by_clock(sockets)) || changed;
    sockets->poll_ms = changed ? POLL_MIN_MS : MIN(2 * sockets->poll_ms, POLL_MAX_MS);
    loop_timer_start(sockets->poll_timer, sockets->poll_ms);
    wake_by(sockets->gone_watch, true);
    tell(sockets, changed);
}

static void on_poll_due(void *arg)
{
    look_by_clock(arg);
}

struct gone {
    const struct sockets *sockets;
    bool known;
};

static void on_any_gone(uint16_t port, uint64_t cookie, void *arg)
{
    struct gone *gone = arg;

    gone->known = gone->known || portset_has_port(&gone->sockets->tcp, PORT_TCP, port) ||
                  portset_has_port(&gone->sockets->settling.seen, PORT_UDP, port);
}

static void look_for_gone(struct sockets *sockets)
{
    struct gone gone = {.sockets = sockets};
    bool any;

    if (sockdiag_watch_read(sockets->gone_fd, on_any_gone, &gone, &any) && !gone.known) {
        return;
    }
    if (ration_take(&sockets->ration, now_ms())) {
        look_by_clock(sockets);
    } else {
        wake_by(sockets->gone_watch, false);
        loop_timer_start(sockets->poll_timer, rest_ms(sockets, 0));
    }
}

static void on_udp_due(void *arg)
{
    struct sockets *sockets = arg;

    if (udp_by_notice(sockets)) {
        step_udp(sockets);
    } else {
        tell(sockets, list_udp_by_clock(sockets));
    }
}

static void on_gone_readable(int fd, short revents, void *arg)
{
    struct sockets *sockets = arg;

    if (udp_by_notice(sockets)) {
        step_udp(sockets);
    } else {
        look_for_gone(sockets);
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
        sockets->listens_watch = loop_watch_new(sockets->loop, bpf_listens_fd(sockets->bpf), POLLIN,
                                                on_listens_readable, sockets);
        sockets->binds_watch = loop_watch_new(sockets->loop, bpf_binds_fd(sockets->bpf), 0,
                                              on_binds_readable, sockets);
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
    rest_udp(sockets, 0);
    sockets->promised = sockets->tcp.sockets;
    *ret = sockets;
    return 0;
}

void sockets_close(struct sockets *sockets)
{
    if (!sockets) {
        return;
    }
    loop_watch_free(sockets->listens_watch);
    loop_watch_free(sockets->binds_watch);
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
    sockets->udp_due = true;
    loop_timer_start(sockets->udp_timer, 0);
}

const char *sockets_method(const struct sockets *sockets)
{
    return !sockets->bpf ? "polling" : !udp_by_notice(sockets) ? "bpf+polling" : "bpf";
}
