/* SPDX-License-Identifier: Apache-2.0 */
/* What is done by hand agrees with what nanopb makes of the schema. */
#include "test.h"
#include <pb_decode.h>
#include <pb_encode.h>
#include <stdlib.h>
#include "base/alloc.h"
#include "execwire.h"
#include "guest.pb.h"

static uint8_t bytes[EXEC_INPUT_MAX + EXEC_HEADER_MAX];

static bool decode_output(const uint8_t *frame, size_t len, lima_guest_v1_ExecOutput *ret)
{
    pb_istream_t in = pb_istream_from_buffer(frame, len);

    return pb_decode_delimited(&in, lima_guest_v1_ExecOutput_fields, ret) && !in.bytes_left;
}

static void test_data_of_every_length_is_framed(void **state)
{
    static const size_t sizes[] = {0, 1, 126, 127, 128, 129, 16381, EXEC_CHUNK_MAX};
    static lima_guest_v1_ExecOutput output;

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        const uint8_t *frame;
        size_t len;

        memset(bytes + EXEC_HEADER_MAX, 'a', sizes[i]);
        frame = exec_output_frame(EXEC_OUTPUT_ERR, bytes + EXEC_HEADER_MAX, sizes[i], &len);
        assert_true(frame >= bytes);
        assert_true(decode_output(frame, len, &output));
        assert_int_equal(output.which_kind, lima_guest_v1_ExecOutput_err_tag);
        assert_int_equal(output.kind.err.size, sizes[i]);
    }
}

static void test_reports_are_what_the_schema_says(void **state)
{
    static lima_guest_v1_ExecOutput output;
    uint8_t frame[EXEC_CONTROL_MAX];

    assert_true(decode_output(frame, exec_taken_encode(UINT64_MAX, frame), &output));
    assert_true(output.kind.taken == UINT64_MAX);
    assert_true(decode_output(frame, exec_closed_encode(frame), &output));
    assert_int_equal(output.which_kind, lima_guest_v1_ExecOutput_closed_tag);
    assert_true(output.kind.closed);
    assert_true(decode_output(frame, exec_exit_encode(139, 11, true, frame), &output));
    assert_int_equal(output.kind.exit.status, 139);
    assert_int_equal(output.kind.exit.signal, 11);
    assert_true(output.kind.exit.core);
    assert_true(decode_output(frame, exec_exit_encode(0, 0, false, frame), &output));
    assert_int_equal(output.which_kind, lima_guest_v1_ExecOutput_exit_tag);
}

static size_t encode_input(const lima_guest_v1_ExecInput *input)
{
    pb_ostream_t out = pb_ostream_from_buffer(bytes, sizeof(bytes));

    assert_true(pb_encode(&out, lima_guest_v1_ExecInput_fields, input));
    return out.bytes_written;
}

static void test_input_of_each_kind_is_read(void **state)
{
    static lima_guest_v1_ExecInput message;
    struct exec_input input;

    message.which_kind = lima_guest_v1_ExecInput_data_tag;
    message.kind.data.size = 3;
    memcpy(message.kind.data.bytes, "a\0b", 3);
    assert_true(exec_input_decode(bytes, encode_input(&message), &input));
    assert_int_equal(input.kind, EXEC_INPUT_DATA);
    assert_int_equal(input.len, 3);
    assert_memory_equal(input.data, "a\0b", 3);
    message.which_kind = lima_guest_v1_ExecInput_signal_tag;
    message.kind.signal = 15;
    assert_true(exec_input_decode(bytes, encode_input(&message), &input));
    assert_int_equal(input.signal, 15);
    message.which_kind = lima_guest_v1_ExecInput_size_tag;
    message.kind.size = (lima_guest_v1_WindowSize){50, 132};
    assert_true(exec_input_decode(bytes, encode_input(&message), &input));
    assert_int_equal(input.rows, 50);
    assert_int_equal(input.columns, 132);
    message.which_kind = lima_guest_v1_ExecInput_end_tag;
    message.kind.end = true;
    assert_true(exec_input_decode(bytes, encode_input(&message), &input));
    assert_int_equal(input.kind, EXEC_INPUT_END);
    assert_true(exec_input_decode((const uint8_t *)"\x7a\x01x", 3, &input)); /* a later kind */
    assert_int_equal(input.kind, EXEC_INPUT_NOTHING);
}

static void test_broken_input_is_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {{"\x0a", 1}, {"\x0a\x05xx", 4}, {"\x18", 1}, {"\x22\x01\xff", 3}, {"\xff", 1}};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct exec_input input;

        assert_false(exec_input_decode((const uint8_t *)cases[i].bytes, cases[i].len, &input));
    }
}

static void test_a_request_keeps_every_byte_of_its_words(void **state)
{
    static const char body[] = "\x0a\x03"
                               "a\xff\n"
                               "\x0a\x00"
                               "\x12\x05"
                               "A=b=c"
                               "\x22\x04/tmp";
    scoped(exec_request_done) struct exec_request request = {0};
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(exec_request_decode((const uint8_t *)body, sizeof(body) - 1, &request, &err),
                 &err);
    assert_int_equal(request.argc, 2);
    assert_string_equal(request.argv[0], "a\xff\n");
    assert_string_equal(request.argv[1], "");
    assert_null(request.argv[2]);
    assert_string_equal(request.env[0], "A=b=c");
    assert_string_equal(request.dir, "/tmp");
}

static void test_requests_that_cannot_be_run_are_named(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        int code;
        const char *text;
    } cases[] = {
        {"\x0a\x03"
         "a\0b",
         5, EINVAL, "zero byte"},
        {"\x12\x01"
         "A",
         3, EINVAL, "NAME=value"},
        {"\x12\x02=b", 4, EINVAL, "NAME=value"},
        {"\x22\x02/\0", 4, EINVAL, "zero byte"},
        {"\x0a\x09x", 3, EBADMSG, "malformed"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(exec_request_done) struct exec_request request = {0};
        scoped(error_done) struct error err = ERROR_INIT;

        assert_fails(
            exec_request_decode((const uint8_t *)cases[i].bytes, cases[i].len, &request, &err),
            &err, cases[i].code, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data_of_every_length_is_framed),
        cmocka_unit_test(test_reports_are_what_the_schema_says),
        cmocka_unit_test(test_input_of_each_kind_is_read),
        cmocka_unit_test(test_broken_input_is_refused),
        cmocka_unit_test(test_a_request_keeps_every_byte_of_its_words),
        cmocka_unit_test(test_requests_that_cannot_be_run_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
