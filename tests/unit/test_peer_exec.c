/* SPDX-License-Identifier: Apache-2.0 */
/* The opener's side of "Exec" against messages that nanopb, the guest's codec, makes and reads. */
#include "test.h"
#include <errno.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/alloc.h"
#include "guest.pb.h"
#include "peer/exec.h"

struct fixture {
    struct peer_exec *exec;
    struct buf guest; /* bytes from the guest */
    struct buf out, err;
    int accepted, exits;
    struct peer_exec_exit end;
};

static void on_accepted(void *arg)
{
    ((struct fixture *)arg)->accepted++;
}

static void on_output(bool is_stderr, const void *data, size_t len, void *arg)
{
    struct fixture *f = arg;

    buf_put(is_stderr ? &f->err : &f->out, data, len);
}

static void on_exited(const struct peer_exec_exit *end, void *arg)
{
    struct fixture *f = arg;

    f->exits++;
    f->end = *end;
}

static const struct peer_exec_events events = {on_accepted, on_output, on_exited};

static const char *const true_argv[] = {"true", NULL};
static const struct peer_exec_request plain = {.argv = true_argv, .user = "", .dir = ""};

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);

    *state = f;
    return peer_exec_new(&plain, &events, f, &f->exec, NULL);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    peer_exec_free(f->exec);
    buf_done(&f->guest);
    buf_done(&f->out);
    buf_done(&f->err);
    free(f);
    return 0;
}

static void put(struct fixture *f, const pb_msgdesc_t *fields, const void *message)
{
    static uint8_t bytes[32768];
    pb_ostream_t stream = pb_ostream_from_buffer(bytes, sizeof(bytes));

    assert_true(pb_encode_delimited(&stream, fields, message));
    buf_put(&f->guest, bytes, stream.bytes_written);
}

static void put_reply(struct fixture *f, uint32_t error, const char *text)
{
    lima_guest_v1_StreamReply reply = lima_guest_v1_StreamReply_init_zero;

    reply.error = error;
    snprintf(reply.message, sizeof(reply.message), "%s", text);
    put(f, lima_guest_v1_StreamReply_fields, &reply);
}

static void put_output(struct fixture *f, pb_size_t which, const char *text)
{
    static lima_guest_v1_ExecOutput output;

    output.which_kind = which;
    if (which == lima_guest_v1_ExecOutput_out_tag) {
        output.kind.out.size = (pb_size_t)strlen(text);
        memcpy(output.kind.out.bytes, text, strlen(text));
    } else {
        output.kind.err.size = (pb_size_t)strlen(text);
        memcpy(output.kind.err.bytes, text, strlen(text));
    }
    put(f, lima_guest_v1_ExecOutput_fields, &output);
}

static void put_taken(struct fixture *f, uint64_t taken)
{
    static lima_guest_v1_ExecOutput output;

    output.which_kind = lima_guest_v1_ExecOutput_taken_tag;
    output.kind.taken = taken;
    put(f, lima_guest_v1_ExecOutput_fields, &output);
}

static void put_exit(struct fixture *f, uint32_t status, uint32_t signal)
{
    static lima_guest_v1_ExecOutput output;

    output.which_kind = lima_guest_v1_ExecOutput_exit_tag;
    output.kind.exit = (lima_guest_v1_ExecExit){.status = status, .signal = signal};
    put(f, lima_guest_v1_ExecOutput_fields, &output);
}

static int take_all(struct fixture *f, size_t step, struct error *err)
{
    int r = 0;

    for (size_t at = 0; r == 0 && at < f->guest.len; at += step) {
        r = peer_exec_take(f->exec, f->guest.data + at, MIN(step, f->guest.len - at), err);
    }
    buf_truncate(&f->guest, 0);
    return r;
}

static void test_output_and_end_come_however_bytes_are_cut(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    put_reply(f, 0, "");
    put_output(f, lima_guest_v1_ExecOutput_out_tag, "some ");
    put_output(f, lima_guest_v1_ExecOutput_err_tag, "wrong");
    put_output(f, lima_guest_v1_ExecOutput_out_tag, "text");
    put_exit(f, 137, 9);
    assert_works(take_all(f, 1, &err), &err);
    assert_int_equal(f->accepted, 1);
    assert_string_equal(buf_str(&f->out), "some text");
    assert_string_equal(buf_str(&f->err), "wrong");
    assert_int_equal(f->exits, 1);
    assert_int_equal(f->end.status, 137);
    assert_int_equal(f->end.signal, 9);
}

static void test_a_refusal_has_the_guests_errno_and_words(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    put_reply(f, ENOENT, "there is no user 'x'");
    assert_fails(take_all(f, 100, &err), &err, ENOENT, "there is no user 'x'");
    assert_int_equal(f->accepted, 0);
}

static void test_an_end_that_makes_no_sense_is_refused(void **state)
{
    static const struct {
        uint32_t status, signal;
    } cases[] = {{256, 0}, {UINT32_MAX, 0}, {0, 9}, {128 + 65, 65}, {3, UINT32_MAX}};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        struct fixture *f;

        assert_int_equal(setup(state), 0);
        f = *state;
        put_reply(f, 0, "");
        put_exit(f, cases[i].status, cases[i].signal);
        assert_fails(take_all(f, 100, &err), &err, EPROTO, "no sense");
        assert_int_equal(f->exits, 0);
        teardown(state);
    }
}

static void test_input_is_bounded_by_what_the_command_takes(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *data = xcalloc(1, PEER_EXEC_WINDOW);
    scoped(error_done) struct error err = ERROR_INIT;

    put_reply(f, 0, "");
    assert_works(take_all(f, 100, &err), &err);
    assert_int_equal(peer_exec_room(f->exec), PEER_EXEC_WINDOW);
    peer_exec_send(f->exec, data, PEER_EXEC_WINDOW);
    assert_int_equal(peer_exec_room(f->exec), 0);
    put_taken(f, 1000);
    assert_works(take_all(f, 100, &err), &err);
    assert_int_equal(peer_exec_room(f->exec), 1000);
    put_taken(f, PEER_EXEC_WINDOW + 1);
    assert_fails(take_all(f, 100, &err), &err, EPROTO, "no sense");
}

/* The next message of what goes to the guest. */
static void next_input(struct fixture *f, lima_guest_v1_ExecInput *ret)
{
    struct buf *pending = peer_exec_pending(f->exec);
    pb_istream_t in = pb_istream_from_buffer((const pb_byte_t *)pending->data, pending->len);

    assert_true(pb_decode_delimited(&in, lima_guest_v1_ExecInput_fields, ret));
    buf_drop(pending, pending->len - in.bytes_left);
}

static void test_the_guest_reads_what_is_sent(void **state)
{
    static lima_guest_v1_ExecInput input;
    struct fixture *f = *state;
    scoped(free) char *data = xcalloc(1, PEER_EXEC_CHUNK_MAX + 1);

    buf_truncate(peer_exec_pending(f->exec), 0); /* the request */
    peer_exec_send(f->exec, data, PEER_EXEC_CHUNK_MAX + 1);
    peer_exec_send_signal(f->exec, 15);
    peer_exec_send_size(f->exec, 50, 132);
    peer_exec_send_end(f->exec);
    next_input(f, &input);
    assert_int_equal(input.kind.data.size, PEER_EXEC_CHUNK_MAX);
    next_input(f, &input);
    assert_int_equal(input.kind.data.size, 1);
    next_input(f, &input);
    assert_int_equal(input.which_kind, lima_guest_v1_ExecInput_signal_tag);
    assert_int_equal(input.kind.signal, 15);
    next_input(f, &input);
    assert_int_equal(input.kind.size.rows, 50);
    assert_int_equal(input.kind.size.columns, 132);
    next_input(f, &input);
    assert_int_equal(input.which_kind, lima_guest_v1_ExecInput_end_tag);
    assert_int_equal(peer_exec_pending(f->exec)->len, 0);
}

static void test_a_request_that_is_too_long_names_the_remedy(void **state)
{
    scoped(free) char *word = xcalloc(1, PEER_EXEC_REQUEST_MAX + 1);
    const char *const argv[] = {"echo", word, NULL};
    const struct peer_exec_request request = {.argv = argv, .user = "", .dir = ""};
    scoped(error_done) struct error err = ERROR_INIT;
    struct peer_exec *exec;

    memset(word, 'x', PEER_EXEC_REQUEST_MAX);
    assert_int_equal(peer_exec_new(&request, &events, NULL, &exec, &err), -E2BIG);
    assert_non_null(strstr(err.message, "one request"));
    assert_non_null(strstr(err.hint, "standard input"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_output_and_end_come_however_bytes_are_cut, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_refusal_has_the_guests_errno_and_words, setup,
                                        teardown),
        cmocka_unit_test(test_an_end_that_makes_no_sense_is_refused),
        cmocka_unit_test_setup_teardown(test_input_is_bounded_by_what_the_command_takes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_the_guest_reads_what_is_sent, setup, teardown),
        cmocka_unit_test(test_a_request_that_is_too_long_names_the_remedy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
