/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/ways.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "peer/call.h"
#include "peer/greeter.h"
#include "peer/link.h"
#include "peer/measure.h"
#include "peer/wire.h"
#include "util/version.h"

#define FAILURES_MAX 8     /* in a row: vsock is given up for a while */
#define AGAIN_MS     60000 /* then it is looked for again */

/* A vsock connection that carries a stream. */
struct lane {
    struct ways *ways;
    struct lane *next, **back;
    struct link *link;
};

struct way_dial {
    struct ways *ways;
    struct way_dial *next, **back;
    struct greeter *greeter;
    way_dial_fn done;
    void *arg;
};

struct ways {
    struct peer *peer;
    struct loop *loop;
    enum way_policy policy;
    way_connect_fn connect;
    void *connect_arg;
    bool asked;   /* in this session */
    bool known;   /* the guest has told port and keys */
    bool usable;  /* a call went through, and not too many failed since */
    bool relayed; /* a program of the host stands between */
    unsigned port;
    struct greeter_keys keys;
    unsigned failures;
    bool measured;
    struct way_figures session, vsock;
    struct call *info; /* NULL: none under way */
    struct measure *measure;
    struct loop_timer *again;
    struct lane *lanes;
    struct way_dial *dials;
};

/* ---- choice ---- */

static const char *const policy_names[] = {
    [WAY_POLICY_AUTO] = "auto",
    [WAY_POLICY_SESSION] = "virtio",
    [WAY_POLICY_VSOCK] = "vsock",
};

int way_policy_parse(const char *text, enum way_policy *ret, struct error *err)
{
    if (!text || !*text) {
        *ret = WAY_POLICY_AUTO;
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(policy_names); i++) {
        if (strcmp(policy_names[i], text) == 0) {
            *ret = (enum way_policy)i;
            return 0;
        }
    }
    return error_set(err, EINVAL, "'%s' is no transport: auto, virtio or vsock", text);
}

/* A difference that the next measurement would turn round is none. */
bool way_prefers_vsock(enum way_kind kind, const struct way_figures *session,
                       const struct way_figures *vsock)
{
    uint64_t waits = (uint64_t)session->open_us + session->round_trip_us;
    uint64_t vsock_waits = (uint64_t)vsock->open_us + vsock->round_trip_us;

    switch (kind) {
    case WAY_KIND_INTERACTIVE:
        return vsock_waits * 5 < waits * 4;
    case WAY_KIND_BULK:
        return (uint64_t)vsock->kib_per_s * 4 > (uint64_t)session->kib_per_s * 5;
    case WAY_KIND_CONTROL:
    case WAY_KIND_PROBE:
        return false;
    }
    return false;
}

static bool by_vsock(const struct ways *ways, enum way_kind kind)
{
    if (kind == WAY_KIND_CONTROL || !ways->usable) {
        return false;
    }
    if (ways->policy == WAY_POLICY_VSOCK) {
        return true;
    }
    /* vhost-device-vsock 0.3.0 lets connections stall when many are busy at once: only who asks. */
    return ways->measured && !ways->relayed &&
           way_prefers_vsock(kind, &ways->session, &ways->vsock);
}

static const char *way_name(bool vsock)
{
    return vsock ? "vsock" : "virtio-serial";
}

/* ---- streams ---- */

static void lane_free(struct lane *lane)
{
    *lane->back = lane->next;
    if (lane->next) {
        lane->next->back = lane->back;
    }
    free(lane);
}

static void on_link_closed(void *arg)
{
    lane_free(arg);
}

static struct mux_stream *lane_new(struct ways *ways, int take_fd)
{
    struct lane *lane = xnew(struct lane);
    struct mux_stream *stream;

    lane->ways = ways;
    lane->next = ways->lanes;
    lane->back = &ways->lanes;
    if (lane->next) {
        lane->next->back = &lane->next;
    }
    ways->lanes = lane;
    lane->link =
        link_new(ways->loop, take_fd, DIRECT_FORM_SEGMENTED, &stream, on_link_closed, lane);
    return stream;
}

static void dial_free(struct way_dial *dial)
{
    *dial->back = dial->next;
    if (dial->next) {
        dial->next->back = dial->back;
    }
    free(dial);
}

void way_dial_cancel(struct way_dial *dial)
{
    if (dial) {
        greeter_free(dial->greeter);
        dial_free(dial);
    }
}

static void count_failure(struct ways *ways, const char *reason)
{
    log_debug("vsock: %s, going by virtio-serial", reason);
    if (++ways->failures == FAILURES_MAX && ways->usable) {
        log_warn("vsock does not reach the guest agent any more (%s), going by virtio-serial",
                 reason);
        ways->usable = false;
        loop_timer_set(ways->again, AGAIN_MS);
    }
}

static void on_greeter_done(int r, int fd, void *arg)
{
    struct way_dial *dial = arg;
    struct ways *ways = dial->ways;
    way_dial_fn done = dial->done;
    void *done_arg = dial->arg;

    dial_free(dial);
    if (r < 0) {
        count_failure(ways,
                      r == -EACCES ? "it is not the guest agent who listens there" : strerror(-r));
        done(NULL, done_arg);
        return;
    }
    ways->failures = 0;
    done(lane_new(ways, fd), done_arg);
}

struct way_dial *ways_dial(struct ways *ways, enum way_kind kind, way_dial_fn done, void *arg)
{
    scoped(error_done) struct error err = ERROR_INIT;
    bool probe = kind == WAY_KIND_PROBE && ways->known;
    struct way_dial *dial;
    bool line = false;
    int fd;

    if (!probe && !by_vsock(ways, kind)) {
        return NULL;
    }
    if (ways->connect(ways->port, &fd, &line, ways->connect_arg, &err) < 0) {
        count_failure(ways, error_text(&err));
        return NULL;
    }
    ways->relayed = line;
    dial = xnew(struct way_dial);
    dial->ways = ways;
    dial->done = done;
    dial->arg = arg;
    dial->next = ways->dials;
    dial->back = &ways->dials;
    if (dial->next) {
        dial->next->back = &dial->next;
    }
    ways->dials = dial;
    dial->greeter = greeter_new(ways->loop, fd, line, &ways->keys, on_greeter_done, dial);
    return dial;
}

/* ---- measuring ---- */

static void say_figures(const char *name, const struct way_figures *figures)
{
    log_debug("%s: a call takes %u us, one byte and back %u us, a burst and back %.1f MB/s", name,
              figures->open_us, figures->round_trip_us, figures->kib_per_s / 1024.0);
}

static void on_measured(const struct way_figures *session, const struct way_figures *vsock,
                        void *arg)
{
    struct ways *ways = arg;

    ways->measure = NULL;
    if (!vsock) {
        log_info("vsock does not reach the guest agent, everything goes by virtio-serial");
        return;
    }
    ways->usable = true;
    ways->vsock = *vsock;
    say_figures("vsock", vsock);
    if (session) {
        ways->measured = true;
        ways->session = *session;
        say_figures("virtio-serial", session);
    }
    log_info("streams into the guest: interactive ones by %s, bulk by %s",
             way_name(by_vsock(ways, WAY_KIND_INTERACTIVE)),
             way_name(by_vsock(ways, WAY_KIND_BULK)));
}

struct ask {          /* the Info call that tells of vsock */
    struct call call; /* first */
    struct ways *ways;
};

static int on_ask_message(struct call *call, const uint8_t *data, size_t len)
{
    struct ways *ways = ((struct ask *)call)->ways;
    struct wire_vsock told;
    int r = wire_vsock_decode(data, len, &told);

    if (r > 0) {
        ways->known = true;
        ways->port = told.port;
        memcpy(ways->keys.host, told.host_key, sizeof(ways->keys.host));
        memcpy(ways->keys.guest, told.guest_key, sizeof(ways->keys.guest));
    }
    return MIN(r, CALL_ON);
}

static void on_ask_ended(struct call *call, int r, const char *text)
{
    struct ways *ways = ((struct ask *)call)->ways;

    ways->info = NULL;
    call_free(call);
    if (ways->known) {
        ways->measure = measure_new(ways->peer, ways->loop, on_measured, ways);
    } else {
        log_debug("the guest has no vsock");
    }
}

static const struct call_ops ask_ops = {
    .message = on_ask_message,
    .ended = on_ask_ended,
    .finish = true,
};

void peer_measure(struct peer *peer)
{
    struct ways *ways = peer_ways(peer);
    struct ask *ask;

    if (!ways->connect || ways->policy == WAY_POLICY_SESSION || ways->asked || !peer_is_up(peer)) {
        return;
    }
    ways->asked = true;
    ask = xnew(struct ask);
    static_assert(offsetof(struct ask, call) == 0, "freed through its call");
    ask->ways = ways;
    call_init(&ask->call, peer, &ask_ops, "Info");
    wire_put_info_request(&ask->call.request, LIMA_VERSION);
    if (call_start(&ask->call)) {
        ways->info = &ask->call;
    }
}

void ways_reset(struct ways *ways)
{
    measure_free(steal(ways->measure));
    loop_timer_set(ways->again, -1);
    ways->asked = ways->known = ways->usable = ways->measured = false;
    ways->failures = 0;
}

static void on_again_due(void *arg)
{
    struct ways *ways = arg;

    ways_reset(ways);
    peer_measure(ways->peer);
}

/* ---- life ---- */

struct ways *ways_new(struct peer *peer, struct loop *loop)
{
    struct ways *ways = xnew(struct ways);

    ways->peer = peer;
    ways->loop = loop;
    ways->again = loop_timer_new(loop, on_again_due, ways);
    return ways;
}

void ways_free(struct ways *ways)
{
    if (!ways) {
        return;
    }
    ways_reset(ways);
    loop_timer_free(ways->again);
    while (ways->dials) {
        way_dial_cancel(ways->dials);
    }
    while (ways->lanes) {
        struct link *link = ways->lanes->link;

        lane_free(ways->lanes);
        link_free(link);
    }
    free(ways);
}

void peer_set_vsock(struct peer *peer, enum way_policy policy, way_connect_fn connect, void *arg)
{
    struct ways *ways = peer_ways(peer);

    ways->policy = policy;
    ways->connect = connect;
    ways->connect_arg = arg;
}

static jv figures_to_json(const struct way_figures *figures)
{
    return JV_OBJECT(jv_string("callUs"), jv_number(figures->open_us), jv_string("roundTripUs"),
                     jv_number(figures->round_trip_us), jv_string("kibPerSecond"),
                     jv_number(figures->kib_per_s));
}

jv peer_describe_transport(const struct peer *peer)
{
    const struct ways *ways = peer_ways(peer);
    jv out = JV_OBJECT(jv_string("policy"), jv_string(policy_names[ways->policy]),
                       jv_string("vsock"), jv_bool(ways->usable), jv_string("interactive"),
                       jv_string(way_name(by_vsock(ways, WAY_KIND_INTERACTIVE))), jv_string("bulk"),
                       jv_string(way_name(by_vsock(ways, WAY_KIND_BULK))));

    if (ways->measured) {
        out = jv_object_set(out, jv_string("measured"),
                            JV_OBJECT(jv_string("virtio-serial"), figures_to_json(&ways->session),
                                      jv_string("vsock"), figures_to_json(&ways->vsock)));
    }
    return out;
}
