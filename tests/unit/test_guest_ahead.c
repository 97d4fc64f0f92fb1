/* SPDX-License-Identifier: Apache-2.0 */
#include "ahead.h"

#include <errno.h>
#include "lima/mount.h"
#include "test.h"

#define FOLDER 7

/* A request with an argument of @arg_len zeros and up to two names behind it. */
static size_t ask_as(struct ahead *ahead, uint16_t mark, uint32_t opcode, uint64_t node,
                     size_t arg_len, const char *name, const char *name2,
                     uint8_t ret[AHEAD_ANSWER_MAX])
{
    uint64_t buffer[64] = {0};
    uint8_t *message = (uint8_t *)buffer;
    struct fuse_in_header head = {.opcode = opcode, .unique = 42, .nodeid = node};
    size_t len = sizeof(head) + arg_len;

    if (opcode == FUSE_RENAME2 || opcode == FUSE_RENAME) {
        memcpy(message + sizeof(head), &(uint64_t){FOLDER}, sizeof(uint64_t));
    }
    if (opcode == FUSE_BATCH_FORGET) {
        const struct fuse_batch_forget_in in = {.count = 1};
        const struct fuse_forget_one one = {.nodeid = FOLDER, .nlookup = 1};

        memcpy(message + sizeof(head), &in, sizeof(in));
        memcpy(message + len, &one, sizeof(one));
        len += sizeof(one);
    }
    if (name) {
        memcpy(message + len, name, strlen(name) + 1);
        len += strlen(name) + 1;
    }
    if (name2) {
        memcpy(message + len, name2, strlen(name2) + 1);
        len += strlen(name2) + 1;
    }
    head.len = (uint32_t)len;
    memcpy(message, &head, sizeof(head));
    memcpy(message + LIMA_MOUNT_REPLAYED_OFFSET, &mark, sizeof(mark));
    return ahead_answer(ahead, message, len, ret);
}

/* The error that it is answered with, or 1: the host has to. */
static int ask(struct ahead *ahead, uint32_t opcode, uint64_t node, size_t arg_len,
               const char *name)
{
    uint8_t answer[AHEAD_ANSWER_MAX];
    size_t n = ask_as(ahead, 0, opcode, node, arg_len, name, NULL, answer);
    struct fuse_out_header head;

    if (!n) {
        return 1;
    }
    memcpy(&head, answer, sizeof(head));
    assert_int_equal(head.len, n);
    assert_int_equal(head.unique, 42);
    return head.error;
}

static int look_up(struct ahead *ahead, const char *name)
{
    return ask(ahead, FUSE_LOOKUP, FOLDER, 0, name);
}

static int get_attr(struct ahead *ahead)
{
    return ask(ahead, FUSE_GETATTR, FOLDER, sizeof(struct fuse_getattr_in), NULL);
}

static void say(struct ahead *ahead, uint32_t kind, uint64_t node)
{
    struct {
        struct fuse_out_header head;
        struct lima_ahead body;
        struct fuse_attr_out attr;
    } message = {.head = {.len = sizeof(message), .error = LIMA_MOUNT_AHEAD},
                 .body = {.kind = kind, .node = node},
                 .attr = {.attr_valid = 5, .attr.size = 4096}};

    ahead_take(ahead, &message,
               sizeof(message) - (kind == LIMA_AHEAD_ATTR ? 0 : sizeof(message.attr)));
}

static void test_nothing_is_answered_before_the_host_has_said_so(void **state)
{
    scoped(ahead_free) struct ahead *ahead = ahead_new();

    assert_int_equal(get_attr(ahead), 1);
    assert_int_equal(look_up(ahead, "a"), 1);
    assert_int_equal(
        ask(ahead, FUSE_GETXATTR, FOLDER, sizeof(struct fuse_getxattr_in), "security.capability"),
        1);
}

static void test_attributes_other_than_the_users_are_answered(void **state)
{
    scoped(ahead_free) struct ahead *ahead = ahead_new();
    size_t arg = sizeof(struct fuse_getxattr_in);

    say(ahead, LIMA_AHEAD_XATTR, 0);
    assert_int_equal(ask(ahead, FUSE_GETXATTR, FOLDER, arg, "security.capability"), -ENODATA);
    assert_int_equal(ask(ahead, FUSE_GETXATTR, FOLDER, arg, "user.a"), 1);
    assert_int_equal(ask(ahead, FUSE_GETXATTR, FOLDER, arg, NULL), 1);
    ahead_clear(ahead);
    assert_int_equal(ask(ahead, FUSE_GETXATTR, FOLDER, arg, "security.capability"), 1);
}

static void test_attributes_of_a_folder_are_answered_until_they_are_void(void **state)
{
    scoped(ahead_free) struct ahead *ahead = ahead_new();
    uint8_t answer[AHEAD_ANSWER_MAX];
    struct fuse_attr_out attr;

    say(ahead, LIMA_AHEAD_ATTR, FOLDER);
    assert_int_equal(
        ask_as(ahead, 0, FUSE_GETATTR, FOLDER, sizeof(struct fuse_getattr_in), NULL, NULL, answer),
        AHEAD_ANSWER_MAX);
    memcpy(&attr, answer + sizeof(struct fuse_out_header), sizeof(attr));
    assert_int_equal(attr.attr.size, 4096);
    assert_int_equal(attr.attr_valid, 5);
    assert_int_equal(ask(ahead, FUSE_GETATTR, FOLDER + 256, sizeof(struct fuse_getattr_in), NULL),
                     1);
    say(ahead, LIMA_AHEAD_VOID, FOLDER + 256); /* another one */
    assert_int_equal(get_attr(ahead), 0);
    say(ahead, LIMA_AHEAD_VOID, FOLDER);
    assert_int_equal(get_attr(ahead), 1);
    say(ahead, LIMA_AHEAD_ATTR, FOLDER);
    say(ahead, LIMA_AHEAD_VOID, 0);
    assert_int_equal(get_attr(ahead), 1);
}

static void test_an_empty_folder_has_only_names_that_were_asked_for(void **state)
{
    static const struct {
        uint32_t opcode;
        size_t arg_len;
        const char *name;
    } makers[] = {{FUSE_CREATE, sizeof(struct fuse_create_in), "create"},
                  {FUSE_MKNOD, sizeof(struct fuse_mknod_in), "mknod"},
                  {FUSE_MKDIR, sizeof(struct fuse_mkdir_in), "mkdir"},
                  {FUSE_LINK, sizeof(struct fuse_link_in), "link"},
                  {FUSE_SYMLINK, 0, "symlink"},
                  {FUSE_UNLINK, 0, "unlink"},
                  {FUSE_RENAME, sizeof(struct fuse_rename_in), "rename"},
                  {FUSE_RENAME2, sizeof(struct fuse_rename2_in), "rename2"}};
    scoped(ahead_free) struct ahead *ahead = ahead_new();

    say(ahead, LIMA_AHEAD_EMPTY, FOLDER);
    assert_int_equal(look_up(ahead, "a"), -ENOENT);
    assert_int_equal(look_up(ahead, "a"), -ENOENT); /* that question does not make it one */
    for (size_t i = 0; i < ARRAY_LEN(makers); i++) {
        uint8_t answer[AHEAD_ANSWER_MAX];

        assert_int_equal(look_up(ahead, makers[i].name), -ENOENT);
        assert_int_equal(ask_as(ahead, 0, makers[i].opcode, FOLDER, makers[i].arg_len,
                                makers[i].name, "second", answer),
                         0);
        assert_int_equal(look_up(ahead, makers[i].name), 1);
    }
    assert_int_equal(look_up(ahead, "second"), 1);
    assert_int_equal(look_up(ahead, "a"), -ENOENT);
    say(ahead, LIMA_AHEAD_ATTR, FOLDER); /* says nothing of names */
    assert_int_equal(look_up(ahead, "a"), -ENOENT);
    assert_int_equal(look_up(ahead, "create"), 1);
}

static void test_a_name_that_comes_from_another_folder_is_there(void **state)
{
    scoped(ahead_free) struct ahead *ahead = ahead_new();
    uint8_t answer[AHEAD_ANSWER_MAX];

    say(ahead, LIMA_AHEAD_EMPTY, FOLDER);
    assert_int_equal(
        ask_as(ahead, 0, FUSE_RENAME2, 99, sizeof(struct fuse_rename2_in), "old", "new", answer),
        0);
    assert_int_equal(look_up(ahead, "new"), 1);
    assert_int_equal(look_up(ahead, "old"), -ENOENT);
}

static void test_many_names_are_kept(void **state)
{
    scoped(ahead_free) struct ahead *ahead = ahead_new();

    say(ahead, LIMA_AHEAD_EMPTY, FOLDER);
    for (int i = 0; i < 5000; i++) {
        scoped(free) char *name = xasprintf("f%d", i);

        assert_int_equal(look_up(ahead, name), -ENOENT);
        assert_int_equal(ask(ahead, FUSE_CREATE, FOLDER, sizeof(struct fuse_create_in), name), 1);
        assert_int_equal(look_up(ahead, name), 1);
    }
    assert_int_equal(look_up(ahead, "f0"), 1);
    for (int i = 5000; i < 70000; i++) { /* and too many are not */
        scoped(free) char *name = xasprintf("f%d", i);

        assert_int_equal(ask(ahead, FUSE_CREATE, FOLDER, sizeof(struct fuse_create_in), name), 1);
    }
    assert_int_equal(look_up(ahead, "other"), 1);
}

static void test_a_number_that_is_forgotten_is_another_folders(void **state)
{
    scoped(ahead_free) struct ahead *ahead = ahead_new();

    say(ahead, LIMA_AHEAD_EMPTY, FOLDER);
    assert_int_equal(ask(ahead, FUSE_FORGET, FOLDER, sizeof(struct fuse_forget_in), NULL), 1);
    assert_int_equal(look_up(ahead, "a"), 1);
    say(ahead, LIMA_AHEAD_EMPTY, FOLDER);
    assert_int_equal(ask(ahead, FUSE_BATCH_FORGET, 0, sizeof(struct fuse_batch_forget_in), NULL),
                     1);
    assert_int_equal(look_up(ahead, "a"), 1);
}

static void test_what_replays_goes_to_the_host(void **state)
{
    scoped(ahead_free) struct ahead *ahead = ahead_new();
    uint8_t answer[AHEAD_ANSWER_MAX];

    say(ahead, LIMA_AHEAD_EMPTY, FOLDER);
    assert_int_equal(ask_as(ahead, LIMA_MOUNT_REPLAYED, FUSE_LOOKUP, FOLDER, 0, "a", NULL, answer),
                     0);
}

static void test_a_message_that_is_cut_voids(void **state)
{
    scoped(ahead_free) struct ahead *ahead = ahead_new();
    const struct fuse_out_header head = {.len = sizeof(head), .error = LIMA_MOUNT_AHEAD};

    say(ahead, LIMA_AHEAD_EMPTY, FOLDER);
    ahead_take(ahead, &head, sizeof(head));
    assert_int_equal(look_up(ahead, "a"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_answered_before_the_host_has_said_so),
        cmocka_unit_test(test_attributes_other_than_the_users_are_answered),
        cmocka_unit_test(test_attributes_of_a_folder_are_answered_until_they_are_void),
        cmocka_unit_test(test_an_empty_folder_has_only_names_that_were_asked_for),
        cmocka_unit_test(test_a_name_that_comes_from_another_folder_is_there),
        cmocka_unit_test(test_many_names_are_kept),
        cmocka_unit_test(test_a_number_that_is_forgotten_is_another_folders),
        cmocka_unit_test(test_what_replays_goes_to_the_host),
        cmocka_unit_test(test_a_message_that_is_cut_voids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
