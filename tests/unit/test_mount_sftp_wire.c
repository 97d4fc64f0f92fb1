/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/sftp_wire.h"
#include <endian.h>
#include "test.h"

/* A message of @type, number 7, whose fields are @fields, in memory that ends where it does. */
static uint8_t *message(uint8_t type, const struct buf *fields, size_t *ret_len)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    size_t begin = sftp_reply_begin(&out, type, 7);

    buf_put(&out, fields->data, fields->len);
    sftp_reply_end(&out, begin);
    *ret_len = out.len;
    return xmemdup(out.data, out.len);
}

static int parse(uint8_t type, const struct buf *fields, struct sftp_request *ret)
{
    size_t len;
    scoped(free) uint8_t *data = message(type, fields, &len);

    return sftp_request_parse(data, len, ret);
}

static void put_field(struct buf *out, char field)
{
    const struct sftp_attrs attrs = {.flags = SFTP_ATTR_SIZE | SFTP_ATTR_OWNER | SFTP_ATTR_MODE |
                                              SFTP_ATTR_TIMES};

    switch (field) {
    case 'p':
    case 'q':
    case 't':
        sftp_put_string(out, "name", 4);
        break;
    case 'h':
        sftp_put_string(out, "12345678", SFTP_HANDLE_LEN);
        break;
    case 'o':
        sftp_put_u64(out, 5);
        break;
    case 'n':
        sftp_put_u32(out, 6);
        break;
    case 'd':
        sftp_put_string(out, "data", 4);
        break;
    default:
        assert_int_equal(field, 'a');
        sftp_put_attrs(out, &attrs);
    }
}

static void put_fields(struct buf *out, const struct sftp_op *op)
{
    if (op->type == SFTP_EXTENDED) {
        sftp_put_string(out, op->name, strlen(op->name));
    }
    for (const char *field = op->fields; *field; field++) {
        put_field(out, *field);
    }
}

static void test_every_request_is_taken_apart_and_refused_cut_at_any_place(void **state)
{
    struct sftp_request req;

    for (size_t i = 0; sftp_op_at(i); i++) {
        const struct sftp_op *op = sftp_op_at(i);
        scoped(buf_done) struct buf fields = BUF_INIT;

        put_fields(&fields, op);
        assert_int_equal(parse(op->type, &fields, &req), 0);
        assert_ptr_equal(req.op, op);
        assert_int_equal(req.id, 7);
        while (fields.len > (op->type == SFTP_EXTENDED ? strlen(op->name) + 4 : 0)) {
            buf_truncate(&fields, fields.len - 1);
            assert_int_equal(parse(op->type, &fields, &req), -EBADMSG);
            assert_int_equal(req.id, 7);
        }
    }
}

static void test_paths_are_clean(void **state)
{
    static const struct {
        const char *path, *clean;
    } cases[] = {
        {"", ""},
        {"/", ""},
        {".", ""},
        {"..", ""},
        {"/..", ""},
        {"a", "a"},
        {"/a", "a"},
        {"//a//b//", "a/b"},
        {"./a/./b/.", "a/b"},
        {"a/..", ""},
        {"a/../b", "b"},
        {"ab/cd/..", "ab"},
        {"../../a", "a"},
        {"a/b/../../../c", "c"},
        {"...", "..."},
        {"..a/b..", "..a/b.."},
        {".a", ".a"},
        {"a b\n*", "a b\n*"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(buf_done) struct buf fields = BUF_INIT;
        struct sftp_request req;

        sftp_put_string(&fields, cases[i].path, strlen(cases[i].path));
        assert_int_equal(parse(SFTP_LSTAT, &fields, &req), 0);
        assert_string_equal(req.path, cases[i].clean);
    }
}

static void test_paths_that_are_too_long_or_have_a_nul_are_refused(void **state)
{
    scoped(buf_done) struct buf fields = BUF_INIT;
    scoped(free) char *path = xmalloc(SFTP_PATH_MAX + 1);
    struct sftp_request req;

    memset(path, 'a', SFTP_PATH_MAX + 1);
    sftp_put_string(&fields, path, SFTP_PATH_MAX);
    assert_int_equal(parse(SFTP_LSTAT, &fields, &req), 0);
    assert_int_equal(strlen(req.path), SFTP_PATH_MAX);
    buf_truncate(&fields, 0);
    sftp_put_string(&fields, path, SFTP_PATH_MAX + 1);
    assert_int_equal(parse(SFTP_LSTAT, &fields, &req), -ENAMETOOLONG);
    buf_truncate(&fields, 0);
    sftp_put_string(&fields, "a\0b", 3);
    assert_int_equal(parse(SFTP_LSTAT, &fields, &req), -EBADMSG);
}

static void test_a_target_is_left_as_it_is(void **state)
{
    scoped(buf_done) struct buf fields = BUF_INIT;
    struct sftp_request req;

    sftp_put_string(&fields, "../x//y/.", 9);
    sftp_put_string(&fields, "/link", 5);
    assert_int_equal(parse(SFTP_SYMLINK, &fields, &req), 0);
    assert_string_equal(req.path2, "../x//y/.");
    assert_string_equal(req.path, "link");
}

static void test_handles_have_one_length(void **state)
{
    struct sftp_request req;

    for (size_t len = 0; len < 12; len++) {
        scoped(buf_done) struct buf fields = BUF_INIT;

        sftp_put_string(&fields, "123456789012", len);
        assert_int_equal(parse(SFTP_CLOSE, &fields, &req), len == SFTP_HANDLE_LEN ? 0 : -EBADMSG);
    }
}

static void test_attributes_of_others_are_passed_over(void **state)
{
    scoped(buf_done) struct buf fields = BUF_INIT;
    struct sftp_request req;

    sftp_put_string(&fields, "a", 1);
    sftp_put_u32(&fields, SFTP_ATTR_EXTENDED | SFTP_ATTR_MODE);
    sftp_put_u32(&fields, 0640);
    sftp_put_u32(&fields, 1);
    sftp_put_string(&fields, "key", 3);
    sftp_put_string(&fields, "value", 5);
    assert_int_equal(parse(SFTP_SETSTAT, &fields, &req), 0);
    assert_int_equal(req.attrs.mode, 0640);
    buf_truncate(&fields, 13);
    sftp_put_u32(&fields, UINT32_MAX); /* so many do not follow */
    assert_int_equal(parse(SFTP_SETSTAT, &fields, &req), -EBADMSG);
}

static void test_what_is_not_known_is_no_error(void **state)
{
    scoped(buf_done) struct buf fields = BUF_INIT;
    struct sftp_request req;

    assert_int_equal(parse(99, &fields, &req), 0);
    assert_null(req.op);
    sftp_put_string(&fields, "other@example.org", 17);
    assert_int_equal(parse(SFTP_EXTENDED, &fields, &req), 0);
    assert_null(req.op);
}

static void test_lengths_that_can_be_none_are_refused(void **state)
{
    static const struct {
        uint32_t said;
        int r;
    } cases[] = {{0, -EBADMSG},
                 {1, 5},
                 {SFTP_MESSAGE_MAX, SFTP_MESSAGE_MAX + 4},
                 {SFTP_MESSAGE_MAX + 1, -EBADMSG},
                 {UINT32_MAX, -EBADMSG}};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint32_t said = htobe32(cases[i].said);

        assert_int_equal(sftp_message_len(&said, sizeof(said)), cases[i].r);
        assert_int_equal(sftp_message_len(&said, sizeof(said) - 1), 0);
    }
}

static void test_errors_have_the_nearest_status(void **state)
{
    static const struct {
        int error;
        enum sftp_status status;
    } cases[] = {{0, SFTP_OK},
                 {-ENOENT, SFTP_NO_SUCH_FILE},
                 {-EROFS, SFTP_PERMISSION_DENIED},
                 {-EXDEV, SFTP_PERMISSION_DENIED},
                 {-EBADMSG, SFTP_BAD_MESSAGE},
                 {-EOPNOTSUPP, SFTP_OP_UNSUPPORTED},
                 {-ENOTEMPTY, SFTP_FAILURE}};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(buf_done) struct buf out = BUF_INIT;
        uint32_t status;

        sftp_reply_error(&out, 7, cases[i].error);
        assert_int_equal(sftp_message_len(out.data, out.len), out.len);
        memcpy(&status, out.data + 9, sizeof(status));
        assert_int_equal(be32toh(status), cases[i].status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_request_is_taken_apart_and_refused_cut_at_any_place),
        cmocka_unit_test(test_paths_are_clean),
        cmocka_unit_test(test_paths_that_are_too_long_or_have_a_nul_are_refused),
        cmocka_unit_test(test_a_target_is_left_as_it_is),
        cmocka_unit_test(test_handles_have_one_length),
        cmocka_unit_test(test_attributes_of_others_are_passed_over),
        cmocka_unit_test(test_what_is_not_known_is_no_error),
        cmocka_unit_test(test_lengths_that_can_be_none_are_refused),
        cmocka_unit_test(test_errors_have_the_nearest_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
