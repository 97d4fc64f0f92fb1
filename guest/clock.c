/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "mux/delimited.h"
#include "wire.h"

#define SECOND_NS 1000000000ll
#define FAR_S     9000000000ll /* the year 2255, about as far as the kernel counts */
#define NOTICE_MS 1000         /* whoever sets the clock all the time is told of so often */

struct subscriber { /* one stream of the service */
    struct clock_service *service;
    struct subscriber *next, **link;
    struct mux_stream *stream;
    struct delimited in;
};

struct clock_service {
    const struct clock_ops *ops;
    void *ops_arg;
    struct subscriber *subscribers;
    int fd; /* timerfd that is cancelled when the clock is set; -1: not to be had */
    struct loop_watch *watch;
    struct loop_timer *quiet;
    bool was_set; /* while quiet */
};

/* ---- the kernel's clock ---- */

static int64_t machine_now_ns(void *arg)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * SECOND_NS + ts.tv_nsec;
}

static bool machine_is_disciplined(void *arg)
{
    struct timex tx = {0};

    return adjtimex(&tx) >= 0 && !(tx.status & STA_UNSYNC);
}

static int machine_slew(int64_t offset_ns, void *arg)
{
    struct timex tx = {.modes = ADJ_OFFSET_SINGLESHOT, .offset = (long)(offset_ns / 1000)};

    return adjtimex(&tx) < 0 ? -errno : 0;
}

/* The kernel adds it in one go, so the time that our call takes does no harm. */
static int machine_step(int64_t offset_ns, void *arg)
{
    struct timex tx = {.modes = ADJ_SETOFFSET | ADJ_NANO};
    int64_t ns = offset_ns % SECOND_NS;

    tx.time.tv_sec = (time_t)(offset_ns / SECOND_NS - (ns < 0));
    tx.time.tv_usec = (suseconds_t)(ns < 0 ? ns + SECOND_NS : ns);
    return adjtimex(&tx) < 0 ? -errno : 0;
}

const struct clock_ops clock_machine = {
    .now_ns = machine_now_ns,
    .is_disciplined = machine_is_disciplined,
    .slew = machine_slew,
    .step = machine_step,
};

static bool untouched_is_disciplined(void *arg)
{
    return false;
}

static int untouched_adjust(int64_t offset_ns, void *arg)
{
    return -EPERM;
}

const struct clock_ops clock_untouched = {
    .now_ns = machine_now_ns,
    .is_disciplined = untouched_is_disciplined,
    .slew = untouched_adjust,
    .step = untouched_adjust,
};

/* ---- decision ---- */

lima_guest_v1_ClockReply_Action clock_decide(int64_t offset_ns, bool resumed, bool disciplined)
{
    bool small = offset_ns < CLOCK_STEP_NS && offset_ns > -CLOCK_STEP_NS;

    if (offset_ns == 0 || (disciplined && small)) {
        return lima_guest_v1_ClockReply_Action_NONE;
    }
    if (offset_ns >= CLOCK_STEP_NS || offset_ns <= -CLOCK_STEP_BACK_NS ||
        (resumed && offset_ns >= CLOCK_STEP_RESUMED_NS)) {
        return lima_guest_v1_ClockReply_Action_STEPPED;
    }
    return disciplined ? lima_guest_v1_ClockReply_Action_NONE
                       : lima_guest_v1_ClockReply_Action_SLEWED;
}

static void adjust(struct clock_service *service, const lima_guest_v1_ClockAdjust *request,
                   lima_guest_v1_ClockReply *reply)
{
    const struct clock_ops *ops = service->ops;
    bool disciplined = ops->is_disciplined(service->ops_arg);
    int r = 0;

    reply->action = clock_decide(request->offset_ns, request->resumed, disciplined);
    if (reply->action == lima_guest_v1_ClockReply_Action_STEPPED) {
        r = ops->step(request->offset_ns, service->ops_arg);
        log_info("the clock was off by %lld ms, set", (long long)(request->offset_ns / 1000000));
    } else if (reply->action == lima_guest_v1_ClockReply_Action_SLEWED) {
        r = ops->slew(request->offset_ns, service->ops_arg);
    }
    if (r < 0) {
        reply->action = lima_guest_v1_ClockReply_Action_NONE;
        wire_text(reply->error, sizeof(reply->error), strerror(-r));
    }
}

/* ---- streams ---- */

static void subscriber_free(struct subscriber *sub)
{
    *sub->link = sub->next;
    if (sub->next) {
        sub->next->link = sub->link;
    }
    delimited_done(&sub->in);
    free(sub);
}

static bool send_reply(struct subscriber *sub, const lima_guest_v1_ClockReply *reply)
{
    uint8_t bytes[WIRE_MAX];
    size_t len = wire_encode(lima_guest_v1_ClockReply_fields, reply, bytes);

    return mux_stream_write_all(sub->stream, bytes, len);
}

/* False: the stream makes no sense or asks faster than it reads. @now_ns: when the bytes came. */
static bool take_request(struct subscriber *sub, const uint8_t *body, size_t len, int64_t now_ns)
{
    lima_guest_v1_ClockRequest request = lima_guest_v1_ClockRequest_init_zero;
    lima_guest_v1_ClockReply reply = lima_guest_v1_ClockReply_init_zero;

    if (!wire_decode(body, len, lima_guest_v1_ClockRequest_fields, &request)) {
        return false;
    }
    reply.realtime_ns = now_ns;
    if (request.which_kind == lima_guest_v1_ClockRequest_probe_tag) {
        reply.probe = request.kind.probe;
    } else if (request.which_kind == lima_guest_v1_ClockRequest_adjust_tag) {
        adjust(sub->service, &request.kind.adjust, &reply);
    }
    return send_reply(sub, &reply);
}

static void on_subscriber_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct subscriber *sub = arg;
    int64_t now_ns = sub->service->ops->now_ns(sub->service->ops_arg);
    const uint8_t *p = data, *body;
    size_t used, body_len;
    bool ok = true;

    while (len && ok) {
        int r = delimited_next(&sub->in, p, len, &used, &body, &body_len);

        ok = r >= 0;
        if (ok) {
            mux_stream_consumed(stream, used);
            p += used;
            len -= used;
        }
        if (r == 1) {
            ok = take_request(sub, body, body_len, now_ns);
        }
    }
    if (!ok) {
        mux_stream_reset(stream, MUX_RESET_PROTOCOL);
        subscriber_free(sub);
    }
}

static void on_subscriber_fin(struct mux_stream *stream, void *arg)
{
    mux_stream_finish(stream); /* both have ended: closed() follows */
}

static void on_subscriber_writable(struct mux_stream *stream, void *arg)
{
}

static void on_subscriber_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    subscriber_free(arg);
}

static const struct mux_stream_ops subscriber_ops = {
    .data = on_subscriber_data,
    .fin = on_subscriber_fin,
    .writable = on_subscriber_writable,
    .closed = on_subscriber_closed,
};

int clock_serve(const struct rpc_call *call, void *arg, struct error *err)
{
    struct clock_service *service = arg;
    struct subscriber *sub;

    if (!rpc_reply(call->stream, 0, NULL)) {
        return error_set(err, EAGAIN, "too much is waiting for the host");
    }
    sub = xnew(struct subscriber);
    *sub = (struct subscriber){.service = service,
                               .next = service->subscribers,
                               .link = &service->subscribers,
                               .stream = call->stream,
                               .in = DELIMITED_INIT(lima_guest_v1_ClockRequest_size)};
    if (sub->next) {
        sub->next->link = &sub->next;
    }
    service->subscribers = sub;
    mux_stream_set_ops(call->stream, &subscriber_ops, sub);
    mux_stream_pass(call->stream, call->rest, call->rest_len);
    return 0;
}

/* ---- when somebody sets the clock ---- */

static bool arm(int fd)
{
    struct itimerspec far = {.it_value.tv_sec = FAR_S};

    return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, NULL) == 0;
}

static void tell_of_set_clock(struct clock_service *service)
{
    lima_guest_v1_ClockReply reply = lima_guest_v1_ClockReply_init_zero;

    service->was_set = false;
    reply.was_set = true;
    reply.realtime_ns = service->ops->now_ns(service->ops_arg);
    for (struct subscriber *sub = service->subscribers; sub; sub = sub->next) {
        (void)send_reply(sub, &reply); /* the host measures by itself too, only later */
    }
    loop_timer_start(service->quiet, NOTICE_MS);
}

static void on_clock_set(int fd, short revents, void *arg)
{
    struct clock_service *service = arg;
    uint64_t count;

    if (read(fd, &count, sizeof(count)) < 0 && errno == EAGAIN) {
        return;
    }
    if (service->ops->now_ns(service->ops_arg) / SECOND_NS >= FAR_S || !arm(fd)) {
        loop_watch_set(service->watch, 0); /* no further notices */
    }
    service->was_set = true;
    if (!loop_timer_active(service->quiet)) {
        tell_of_set_clock(service);
    }
}

static void on_quiet_over(void *arg)
{
    struct clock_service *service = arg;

    if (service->was_set) {
        tell_of_set_clock(service);
    }
}

struct clock_service *clock_service_new(struct loop *loop, const struct clock_ops *ops,
                                        void *ops_arg)
{
    struct clock_service *service = xnew(struct clock_service);

    service->ops = ops;
    service->ops_arg = ops_arg;
    service->quiet = loop_timer_new(loop, on_quiet_over, service);
    service->fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (service->fd >= 0 && arm(service->fd)) {
        service->watch = loop_watch_new(loop, service->fd, POLLIN, on_clock_set, service);
    }
    return service;
}

void clock_service_free(struct clock_service *service)
{
    if (!service) {
        return;
    }
    while (service->subscribers) {
        mux_stream_reset(service->subscribers->stream, MUX_RESET_CANCEL);
        subscriber_free(service->subscribers);
    }
    loop_watch_free(service->watch);
    fd_close(service->fd);
    loop_timer_free(service->quiet);
    free(service);
}
