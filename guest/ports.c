/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A BPF notice of a socket that enters LISTEN comes just before dumps show it. So a look that finds
 * fewer sockets than the notices promise is repeated a few times, soon at first; sockets of other
 * network namespaces promise too and never come, which is why the repeats are few.
 *
 * Bursts: the first notice is looked at at once, further ones at most every SCAN_GAP_MS.
 */
#include "ports.h"

#include "base/alloc.h"
#include "base/log.h"
#include "bpf.h"
#include "sockdiag.h"

#define SCAN_GAP_MS 5
#define POLL_MIN_MS 50
#define POLL_MAX_MS 1000

/*
 * Pauses before the repeats. The first ones cover what listen() has still to do, the others a CPU
 * that was taken away from it in the middle.
 */
static const uint8_t repeat_ms[] = {0, 0, 1, 1, 2, 2, 4, 4, 8, 16, 32, 64};

struct ports {
    struct loop *loop;
    ports_changed_fn *changed;
    void *arg;
    int diag_fd;
    struct portset current;
    struct bpf_listen *bpf; /* NULL: polling */
    int destroy_fd;
    struct loop_watch *watch;
    struct loop_timer *timer; /* the next look, if one is planned */
    uint64_t last_scan_us;
    size_t promised; /* sockets that the notices make us expect */
    unsigned repeats;
    unsigned poll_ms;
};

/* True when the set changed. */
static bool scan(struct ports *ports)
{
    scoped(portset_done) struct portset now = {0};
    scoped(error_done) struct error err = ERROR_INIT;
    bool same;

    ports->last_scan_us = loop_now_us();
    if (sockdiag_listeners(ports->diag_fd, &now, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "looking for listening ports, retrying");
        return false;
    }
    same = portset_equal(&ports->current, &now);
    portset_copy(&ports->current, &now);
    return !same;
}

static void look_by_notice(struct ports *ports)
{
    bool changed = scan(ports);

    if (ports->current.sockets >= ports->promised || ports->repeats >= ARRAY_LEN(repeat_ms)) {
        ports->promised = ports->current.sockets;
        ports->repeats = 0;
    } else {
        loop_timer_start(ports->timer, repeat_ms[ports->repeats++]);
    }
    if (changed) {
        ports->changed(ports, ports->arg);
    }
}

static void on_bpf_notice(int fd, short revents, void *arg)
{
    struct ports *ports = arg;
    struct bpf_listen_counts counts = bpf_listen_read(ports->bpf);
    uint64_t since_ms = (loop_now_us() - ports->last_scan_us) / 1000;

    ports->promised += counts.entered;
    ports->promised -= MIN(counts.left, ports->promised);
    ports->repeats = 0;
    if (since_ms >= SCAN_GAP_MS) {
        look_by_notice(ports);
    } else {
        loop_timer_start(ports->timer, SCAN_GAP_MS - (unsigned)since_ms);
    }
}

static void look_by_clock(struct ports *ports)
{
    bool changed = scan(ports);

    ports->poll_ms = changed ? POLL_MIN_MS : MIN(2 * ports->poll_ms, POLL_MAX_MS);
    loop_timer_start(ports->timer, ports->poll_ms);
    if (changed) {
        ports->changed(ports, ports->arg);
    }
}

static void on_socket_destroyed(int fd, short revents, void *arg)
{
    struct ports *ports = arg;

    if (sockdiag_watch_read(fd, &ports->current)) {
        look_by_clock(ports);
    }
}

static void on_look_due(void *arg)
{
    struct ports *ports = arg;

    if (ports->bpf) {
        look_by_notice(ports);
    } else {
        look_by_clock(ports);
    }
}

static void start_notices(struct ports *ports)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (bpf_listen_open(&ports->bpf, &err) == 0) {
        ports->watch =
            loop_watch_new(ports->loop, bpf_listen_fd(ports->bpf), POLLIN, on_bpf_notice, ports);
        return;
    }
    log_error_of(LOG_LEVEL_INFO, &err, "no BPF notices of listening ports, looking by the clock");
    error_done(&err);
    if (sockdiag_watch_open(&ports->destroy_fd, &err) == 0) {
        ports->watch =
            loop_watch_new(ports->loop, ports->destroy_fd, POLLIN, on_socket_destroyed, ports);
    } else {
        log_error_of(LOG_LEVEL_WARN, &err, "no notices of closed ports, ignoring");
    }
    ports->poll_ms = POLL_MIN_MS;
    loop_timer_start(ports->timer, POLL_MIN_MS);
}

int ports_open(struct loop *loop, ports_changed_fn *changed, void *arg, struct ports **ret,
               struct error *err)
{
    struct ports *ports = xnew(struct ports);
    int r;

    *ports = (struct ports){
        .loop = loop, .changed = changed, .arg = arg, .diag_fd = -1, .destroy_fd = -1};
    r = sockdiag_open(&ports->diag_fd, err);
    if (r < 0) {
        ports_close(ports);
        return r;
    }
    ports->timer = loop_timer_new(loop, on_look_due, ports);
    start_notices(ports);
    scan(ports);
    ports->promised = ports->current.sockets;
    *ret = ports;
    return 0;
}

void ports_close(struct ports *ports)
{
    if (!ports) {
        return;
    }
    loop_watch_free(ports->watch);
    loop_timer_free(ports->timer);
    bpf_listen_close(ports->bpf);
    fd_close(ports->destroy_fd);
    fd_close(ports->diag_fd);
    portset_done(&ports->current);
    free(ports);
}

const struct portset *ports_current(const struct ports *ports)
{
    return &ports->current;
}

const char *ports_method(const struct ports *ports)
{
    return ports->bpf ? "bpf" : "poll";
}
