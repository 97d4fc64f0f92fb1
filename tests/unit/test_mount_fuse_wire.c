/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/fuse_wire.h"
#include "test.h"

/* A message of @opcode with @body, in aligned memory that ends where the message does. */
static uint64_t *message(uint32_t opcode, const void *body, size_t len, size_t *ret_len)
{
    struct fuse_in_header head = {
        .len = (uint32_t)(sizeof(head) + len), .opcode = opcode, .unique = 7, .nodeid = 1};
    uint8_t *data = xmalloc(sizeof(head) + len);

    memcpy(data, &head, sizeof(head));
    memcpy(data + sizeof(head), body, len);
    *ret_len = sizeof(head) + len;
    return (uint64_t *)data;
}

static int parse(uint32_t opcode, const void *body, size_t len, struct fuse_request *ret)
{
    size_t whole;
    scoped(free) uint64_t *data = message(opcode, body, len, &whole);

    return fuse_request_parse(data, whole, ret);
}

static void test_names_and_structs_are_taken_apart(void **state)
{
    uint8_t body[8 + 10] = {0};
    struct fuse_request req;
    size_t whole;
    scoped(free) uint64_t *data = NULL;

    memcpy(body + 8, "old\0newer", 10);
    data = message(FUSE_RENAME, body, sizeof(body), &whole);
    assert_int_equal(fuse_request_parse(data, whole, &req), 0);
    assert_string_equal(req.name, "old");
    assert_string_equal(req.name2, "newer");
    assert_int_equal(req.unique, 7);
    assert_int_equal(req.node, 1);
    assert_int_equal(req.data_len, 0);
}

static void test_an_unknown_opcode_is_no_error(void **state)
{
    struct fuse_request req;

    assert_int_equal(parse(4711, "x", 1, &req), 0);
    assert_int_equal(req.opcode, 4711);
    assert_null(fuse_op_find(4711));
}

/* Each opcode, cut at every place: an error or a request that lies within. */
static void test_requests_that_are_cut_are_refused(void **state)
{
    static const uint8_t zeros[128];

    for (size_t i = 0; fuse_op_at(i); i++) {
        const struct fuse_op *op = fuse_op_at(i);
        size_t need = (size_t)op->arg_len + op->names;

        for (size_t len = 0; len < need; len++) {
            struct fuse_request req;

            assert_int_equal(parse(op->opcode, zeros, len, &req), -EBADMSG);
            assert_int_equal(req.unique, 7);
        }
    }
}

static void test_names_that_do_not_end_or_are_too_long_are_refused(void **state)
{
    char name[FUSE_NAME_LEN + 2];
    struct fuse_request req;

    memset(name, 'a', sizeof(name));
    assert_int_equal(parse(FUSE_LOOKUP, name, sizeof(name), &req), -EBADMSG);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(parse(FUSE_LOOKUP, name, sizeof(name), &req), -ENAMETOOLONG);
    name[sizeof(name) - 2] = '\0';
    assert_int_equal(parse(FUSE_LOOKUP, name, sizeof(name) - 1, &req), 0);
}

static void test_sizes_that_exceed_the_message_are_refused(void **state)
{
    struct {
        struct fuse_write_in in;
        uint8_t data[16];
    } write = {.in.size = 16};
    struct fuse_batch_forget_in batch = {.count = UINT32_MAX};
    struct fuse_request req;

    assert_int_equal(parse(FUSE_WRITE, &write, sizeof(write), &req), 0);
    write.in.size = 17;
    assert_int_equal(parse(FUSE_WRITE, &write, sizeof(write), &req), -EBADMSG);
    write.in.size = UINT32_MAX;
    assert_int_equal(parse(FUSE_WRITE, &write, sizeof(write), &req), -EBADMSG);
    assert_int_equal(parse(FUSE_BATCH_FORGET, &batch, sizeof(batch), &req), -EBADMSG);
}

static void test_the_length_of_a_message_is_bounded(void **state)
{
    uint32_t len = 40;

    assert_int_equal(fuse_message_len(&len, 3, 100), 0);
    assert_int_equal(fuse_message_len(&len, 4, 100), 40);
    len = 101;
    assert_int_equal(fuse_message_len(&len, 4, 100), -EBADMSG);
    len = 15;
    assert_int_equal(fuse_message_len(&len, 4, 100), -EBADMSG);
    len = UINT32_MAX;
    assert_int_equal(fuse_message_len(&len, 4, FUSE_REQUEST_MAX), -EBADMSG);
}

static void test_directory_entries_are_padded_and_bounded(void **state)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    size_t begin = fuse_reply_begin(&out, 9);
    struct fuse_entry_out plus = {.nodeid = 5};

    assert_true(fuse_put_dirent(&out, begin, 56, NULL, 1, 2, 4, "abc"));
    assert_int_equal(out.len - begin, 16 + 32);
    assert_false(fuse_put_dirent(&out, begin, 56, NULL, 1, 2, 4, "abc"));
    assert_int_equal(out.len - begin, 16 + 32);
    assert_true(fuse_put_dirent(&out, begin, 4096, &plus, 1, 2, 4, "abc"));
    assert_int_equal(out.len - begin, 16 + 32 + 128 + 32);
    fuse_reply_end(&out, begin);
    assert_int_equal(*(uint32_t *)out.data, out.len);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_structs_are_taken_apart),
        cmocka_unit_test(test_an_unknown_opcode_is_no_error),
        cmocka_unit_test(test_requests_that_are_cut_are_refused),
        cmocka_unit_test(test_names_that_do_not_end_or_are_too_long_are_refused),
        cmocka_unit_test(test_sizes_that_exceed_the_message_are_refused),
        cmocka_unit_test(test_the_length_of_a_message_is_bounded),
        cmocka_unit_test(test_directory_entries_are_padded_and_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
