/* SPDX-License-Identifier: Apache-2.0 */
/* The service over a pair of muxes, with a clock that is a number. */
#include "test.h"

#include <errno.h>
#include "clock.h"
#include "mux_pair.h"
#include "wire.h"

#define MS 1000000ll

enum action {
    NONE = lima_guest_v1_ClockReply_Action_NONE,
    SLEWED = lima_guest_v1_ClockReply_Action_SLEWED,
    STEPPED = lima_guest_v1_ClockReply_Action_STEPPED,
};

static void test_decision(void **state)
{
    static const struct {
        int64_t offset_ns;
        bool resumed, disciplined;
        enum action want;
    } cases[] = {
        {0, false, false, NONE},
        {0, true, false, NONE},
        {1, false, false, SLEWED},
        {-1, false, false, SLEWED},
        {500 * MS - 1, false, false, SLEWED},
        {500 * MS, false, false, STEPPED},
        {3600000 * MS, false, false, STEPPED},
        {INT64_MAX, false, false, STEPPED},
        /* Time does not go back by less than two seconds. */
        {-500 * MS, false, false, SLEWED},
        {-2000 * MS + 1, false, false, SLEWED},
        {-2000 * MS, false, false, STEPPED},
        {INT64_MIN, false, false, STEPPED},
        {-2000 * MS + 1, true, false, SLEWED},
        {-2000 * MS, true, false, STEPPED},
        /* After a time when nothing ran, small errors are made good at once. */
        {10 * MS - 1, true, false, SLEWED},
        {10 * MS, true, false, STEPPED},
        /* Another daemon is let alone while it does its work. */
        {499 * MS, false, true, NONE},
        {-499 * MS, false, true, NONE},
        {499 * MS, true, true, NONE},
        {-1999 * MS, false, true, NONE},
        {500 * MS, false, true, STEPPED},
        {-2000 * MS, false, true, STEPPED},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum action got =
            (enum action)clock_decide(cases[i].offset_ns, cases[i].resumed, cases[i].disciplined);

        if (got != cases[i].want) {
            fail_msg("case %zu: %d, not %d", i, got, cases[i].want);
        }
    }
}

struct fixture {
    int64_t now_ns, slewed_ns;
    bool disciplined;
    int error;
    struct loop *loop;
    struct clock_service *service;
    struct rpc *rpc;
    struct pair pair;
    struct pair_stream *call;
    size_t read; /* bytes of the answer that were looked at */
};

static int64_t fake_now(void *arg)
{
    return ((struct fixture *)arg)->now_ns;
}

static bool fake_is_disciplined(void *arg)
{
    return ((struct fixture *)arg)->disciplined;
}

static int fake_slew(int64_t offset_ns, void *arg)
{
    struct fixture *f = arg;

    f->slewed_ns += f->error ? 0 : offset_ns;
    return -f->error;
}

static int fake_step(int64_t offset_ns, void *arg)
{
    struct fixture *f = arg;

    f->now_ns += f->error ? 0 : offset_ns;
    return -f->error;
}

static const struct clock_ops fake_ops = {fake_now, fake_is_disciplined, fake_slew, fake_step};

static void send_message(struct fixture *f, const pb_msgdesc_t *fields, const void *message)
{
    uint8_t bytes[WIRE_MAX];

    pair_send(f->call, bytes, wire_encode(fields, message, bytes), false);
    pair_run(&f->pair, 7);
}

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);
    lima_guest_v1_StreamOpen open = {.service = "Clock"};

    *state = f;
    f->now_ns = 1000 * 1000 * MS;
    f->loop = loop_new();
    f->service = clock_service_new(f->loop, &fake_ops, f);
    f->rpc = rpc_new(NULL);
    rpc_add(f->rpc,
            &(struct rpc_service){.name = "Clock", .serve = clock_serve, .arg = f->service});
    pair_init(&f->pair);
    pair_up(&f->pair);
    f->call = pair_open(&f->pair.host);
    pair_send(f->call, "", 0, false);
    pair_run(&f->pair, 0);
    rpc_accept(f->rpc, pair_last(&f->pair.guest)->handle, RPC_FROM_HOST);
    send_message(f, lima_guest_v1_StreamOpen_fields, &open);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    clock_service_free(f->service);
    rpc_free(f->rpc);
    pair_done(&f->pair);
    loop_free(f->loop);
    free(f);
    return 0;
}

/* The next message of the answer. */
static void take(struct fixture *f, const pb_msgdesc_t *fields, void *ret)
{
    scoped(delimited_done) struct delimited in = DELIMITED_INIT(4096);
    const uint8_t *body;
    size_t used, len;

    assert_int_equal(delimited_next(&in, (uint8_t *)f->call->got.data + f->read,
                                    f->call->got.len - f->read, &used, &body, &len),
                     1);
    f->read += used;
    assert_true(wire_decode(body, len, fields, ret));
}

static lima_guest_v1_ClockReply ask(struct fixture *f, lima_guest_v1_ClockRequest request)
{
    lima_guest_v1_ClockReply reply = lima_guest_v1_ClockReply_init_zero;

    send_message(f, lima_guest_v1_ClockRequest_fields, &request);
    take(f, lima_guest_v1_ClockReply_fields, &reply);
    return reply;
}

static void skip_reply(struct fixture *f)
{
    lima_guest_v1_StreamReply reply = lima_guest_v1_StreamReply_init_zero;

    take(f, lima_guest_v1_StreamReply_fields, &reply);
    assert_int_equal(reply.error, 0);
}

static lima_guest_v1_ClockReply adjust(struct fixture *f, int64_t offset_ns)
{
    return ask(f, (lima_guest_v1_ClockRequest){.which_kind = lima_guest_v1_ClockRequest_adjust_tag,
                                               .kind.adjust.offset_ns = offset_ns});
}

static void test_probe_is_answered_with_the_time(void **state)
{
    struct fixture *f = *state;
    lima_guest_v1_ClockReply reply;

    skip_reply(f);
    reply = ask(f, (lima_guest_v1_ClockRequest){.which_kind = lima_guest_v1_ClockRequest_probe_tag,
                                                .kind.probe = 77});
    assert_int_equal(reply.probe, 77);
    assert_int_equal(reply.realtime_ns, f->now_ns);
    assert_int_equal(reply.action, NONE);
}

static void test_small_error_is_slewed_and_large_one_stepped(void **state)
{
    struct fixture *f = *state;
    int64_t before = f->now_ns;

    skip_reply(f);
    assert_int_equal(adjust(f, 100 * MS).action, SLEWED);
    assert_int_equal(f->slewed_ns, 100 * MS);
    assert_int_equal(f->now_ns, before);
    assert_int_equal(adjust(f, 9000 * MS).action, STEPPED);
    assert_int_equal(f->now_ns, before + 9000 * MS);
}

static void test_clock_that_another_keeps_is_left_alone(void **state)
{
    struct fixture *f = *state;

    skip_reply(f);
    f->disciplined = true;
    assert_int_equal(adjust(f, 100 * MS).action, NONE);
    assert_int_equal(f->slewed_ns, 0);
}

static void test_clock_that_cannot_be_set_says_why(void **state)
{
    struct fixture *f = *state;
    lima_guest_v1_ClockReply reply;

    skip_reply(f);
    f->error = EPERM;
    reply = adjust(f, 9000 * MS);
    assert_int_equal(reply.action, NONE);
    assert_string_equal(reply.error, strerror(EPERM));
}

static void test_untouched_clock_is_not_set(void **state)
{
    assert_int_equal(clock_untouched.step(1, NULL), -EPERM);
    assert_int_equal(clock_untouched.slew(1, NULL), -EPERM);
}

static void test_malformed_request_resets_the_stream(void **state)
{
    struct fixture *f = *state;

    pair_send(f->call, "\x02\xff\xff", 3, false);
    pair_run(&f->pair, 1);
    assert_true(f->call->closed);
    assert_int_equal(f->call->code, MUX_RESET_PROTOCOL);
}

static void test_host_ends_the_stream_in_good_order(void **state)
{
    struct fixture *f = *state;

    pair_send(f->call, "", 0, true);
    pair_run(&f->pair, 0);
    assert_true(f->call->closed);
    assert_int_equal(f->call->code, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decision),
        cmocka_unit_test_setup_teardown(test_probe_is_answered_with_the_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_small_error_is_slewed_and_large_one_stepped, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_clock_that_another_keeps_is_left_alone, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_clock_that_cannot_be_set_says_why, setup, teardown),
        cmocka_unit_test_setup_teardown(test_malformed_request_resets_the_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(test_host_ends_the_stream_in_good_order, setup, teardown),
        cmocka_unit_test(test_untouched_clock_is_not_set),
    };

    return cmocka_run_group_tests_name("guest_clock", tests, NULL, NULL);
}
