/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/ahead.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>
#include "lima/mount.h"
#include "mount/fuse_server.h"
#include "test.h"
#include "util/file.h"
#include "util/path.h"

#define SAID_MAX 64

struct said {
    uint32_t kind;
    uint64_t node;
    struct fuse_attr_out attr;
};

struct world {
    char *dir;
    struct tree *tree;
    struct fuse_server *server;
    uint64_t unique;
    struct said said[SAID_MAX]; /* before the last answer, or without one */
    size_t said_count;
    uint64_t advised; /* folder that had better be read, before the last answer; 0: none */
    int error;        /* of the last answer */
    uint8_t body[4096];
};

/* What comes is taken apart; of what is said ahead nothing may come behind the answer. */
static void take(struct world *world, struct buf *out, bool answered)
{
    bool seen = false;

    world->said_count = 0;
    world->advised = 0;
    while (out->len) {
        struct fuse_out_header head;

        assert_true(out->len >= sizeof(head));
        memcpy(&head, out->data, sizeof(head));
        assert_true(head.len >= sizeof(head) && head.len <= out->len);
        if (head.unique) {
            assert_false(seen);
            assert_int_equal(head.unique, world->unique);
            world->error = head.error;
            memcpy(world->body, out->data + sizeof(head),
                   MIN(head.len - sizeof(head), sizeof(world->body)));
            seen = true;
        } else if (head.error == LIMA_MOUNT_READ) {
            struct lima_read body;

            assert_false(seen);
            assert_int_equal(head.len, sizeof(head) + sizeof(body));
            memcpy(&body, out->data + sizeof(head), sizeof(body));
            world->advised = body.node;
        } else if (head.error == LIMA_MOUNT_AHEAD) {
            struct said *said = &world->said[world->said_count++];
            struct lima_ahead body;

            assert_false(seen);
            assert_true(world->said_count < SAID_MAX);
            memcpy(&body, out->data + sizeof(head), sizeof(body));
            *said = (struct said){.kind = body.kind, .node = body.node};
            if (body.kind == LIMA_AHEAD_ATTR) {
                memcpy(&said->attr, out->data + sizeof(head) + sizeof(body), sizeof(said->attr));
            }
        }
        buf_drop(out, head.len);
    }
    assert_true(seen == answered);
}

static void ask(struct world *world, uint32_t opcode, uint64_t node, const void *arg,
                size_t arg_len, const char *name)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    uint64_t buffer[64] = {0};
    struct fuse_in_header head = {.opcode = opcode, .nodeid = node};
    size_t name_len = name ? strlen(name) + 1 : 0;

    world->unique += 2;
    head.unique = world->unique;
    head.len = (uint32_t)(sizeof(head) + arg_len + name_len);
    memcpy(buffer, &head, sizeof(head));
    if (arg_len) {
        memcpy((uint8_t *)buffer + sizeof(head), arg, arg_len);
    }
    if (name) {
        memcpy((uint8_t *)buffer + sizeof(head) + arg_len, name, name_len);
    }
    assert_int_equal(fuse_server_message(world->server, buffer, head.len, &out), 0);
    take(world, &out, true);
}

static void greet_with(struct world *world, uint64_t can)
{
    struct {
        struct fuse_in_header head;
        uint64_t count, can;
    } hello = {.head = {.len = sizeof(hello), .opcode = LIMA_MOUNT_ACK}, .can = can};
    scoped(buf_done) struct buf out = BUF_INIT;

    assert_int_equal(fuse_server_message(world->server, &hello, sizeof(hello), &out), 0);
    take(world, &out, false);
    assert_int_equal(world->said_count, 1);
    assert_int_equal(world->said[0].kind, LIMA_AHEAD_XATTR);
}

static void greet(struct world *world)
{
    greet_with(world, LIMA_MOUNT_CAN_AHEAD);
}

static const struct said *find(const struct world *world, uint32_t kind, uint64_t node)
{
    for (size_t i = 0; i < world->said_count; i++) {
        if (world->said[i].kind == kind && world->said[i].node == node) {
            return &world->said[i];
        }
    }
    return NULL;
}

/* A look makes the root watched. */
static void look(struct world *world)
{
    ask(world, FUSE_LOOKUP, FUSE_ROOT_ID, NULL, 0, "none");
    assert_int_equal(world->error, -ENOENT);
}

static uint64_t make_dir(struct world *world, uint64_t in, const char *name)
{
    const struct fuse_mkdir_in arg = {.mode = 0755};
    struct fuse_entry_out entry;

    ask(world, FUSE_MKDIR, in, &arg, sizeof(arg), name);
    assert_int_equal(world->error, 0);
    memcpy(&entry, world->body, sizeof(entry));
    return entry.nodeid;
}

static void make_file(struct world *world, uint64_t in, const char *name)
{
    const struct fuse_create_in arg = {.flags = O_RDWR | O_CREAT | O_EXCL, .mode = 0644};

    ask(world, FUSE_CREATE, in, &arg, sizeof(arg), name);
    assert_int_equal(world->error, 0);
}

static void hear(struct world *world)
{
    struct pollfd p = {.fd = fuse_server_watch_fd(world->server), .events = POLLIN};
    scoped(buf_done) struct buf out = BUF_INIT;

    assert_int_equal(poll(&p, 1, 5000), 1);
    assert_int_equal(fuse_server_changed(world->server, &out), 0);
    take(world, &out, false);
}

static char *path_of(const struct world *world, const char *name)
{
    return path_join(world->dir, name);
}

static int setup(void **state)
{
    const struct fuse_init_in init = {.major = 7, .minor = 38, .flags = UINT32_MAX};
    scoped(error_done) struct error err = ERROR_INIT;
    struct world *world = xnew(struct world);
    struct fuse_server_options options = {.fd_max = 64, .cache_ms = 1000};

    world->dir = xstrdup("/tmp/test-ahead-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    assert_works(tree_open(world->dir, true, &world->tree, &err), &err);
    options.tree = world->tree;
    assert_works(fuse_server_new(&options, &world->server, &err), &err);
    ask(world, FUSE_INIT, 0, &init, sizeof(init), NULL);
    assert_int_equal(world->error, 0);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    fuse_server_free(world->server);
    tree_free(world->tree);
    file_remove_tree(world->dir, NULL);
    free(world->dir);
    free(world);
    return 0;
}

static void test_an_agent_that_does_not_ask_is_told_nothing(void **state)
{
    struct world *world = *state;

    look(world);
    make_dir(world, FUSE_ROOT_ID, "a");
    assert_int_equal(world->said_count, 0);
}

static void test_a_new_folder_is_said_to_be_empty(void **state)
{
    struct world *world = *state;
    uint64_t dir;

    greet(world);
    look(world);
    dir = make_dir(world, FUSE_ROOT_ID, "a");
    assert_non_null(find(world, LIMA_AHEAD_EMPTY, dir));
    assert_non_null(find(world, LIMA_AHEAD_ATTR, FUSE_ROOT_ID));
}

static void test_what_the_guest_changes_in_a_folder_is_said(void **state)
{
    struct world *world = *state;
    const struct said *said;
    scoped(free) char *path = path_of(world, "a");
    struct stat st;
    uint64_t dir;

    greet(world);
    look(world);
    dir = make_dir(world, FUSE_ROOT_ID, "a");
    make_file(world, dir, "f");
    assert_int_equal(stat(path, &st), 0);
    said = find(world, LIMA_AHEAD_ATTR, dir);
    assert_non_null(said);
    assert_int_equal(said->attr.attr.mtimensec, st.st_mtim.tv_nsec);
    assert_int_equal(said->attr.attr.mode, st.st_mode);
    assert_true(said->attr.attr_valid > 60);
    assert_null(find(world, LIMA_AHEAD_VOID, dir)); /* its own doing */
    ask(world, FUSE_UNLINK, dir, NULL, 0, "f");
    assert_int_equal(world->error, 0);
    assert_non_null(find(world, LIMA_AHEAD_ATTR, dir));
}

static void test_what_the_host_changes_voids(void **state)
{
    struct world *world = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *file = path_of(world, "a/host"), *path = path_of(world, "a");
    uint64_t dir;

    greet(world);
    look(world);
    dir = make_dir(world, FUSE_ROOT_ID, "a");
    assert_works(file_write_text(file, "x", 0644, &err), &err);
    hear(world);
    assert_non_null(find(world, LIMA_AHEAD_VOID, dir));
    make_file(world, dir, "f"); /* its attributes are said again */
    assert_non_null(find(world, LIMA_AHEAD_ATTR, dir));
    assert_int_equal(chmod(path, 0700), 0);
    hear(world);
    assert_non_null(find(world, LIMA_AHEAD_VOID, dir));
}

/* Also when the host is heard of together with a request of the guest's. */
static void test_what_the_host_has_done_before_an_answer_voids_before_it(void **state)
{
    struct world *world = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *file = path_of(world, "a/host");
    uint64_t dir;

    greet(world);
    look(world);
    dir = make_dir(world, FUSE_ROOT_ID, "a");
    assert_works(file_write_text(file, "x", 0644, &err), &err);
    make_file(world, dir, "f");
    assert_non_null(find(world, LIMA_AHEAD_VOID, dir));
    assert_non_null(find(world, LIMA_AHEAD_ATTR, dir));
    assert_true(find(world, LIMA_AHEAD_VOID, dir) < find(world, LIMA_AHEAD_ATTR, dir));
}

static void test_a_folder_that_is_removed_or_moved_is_void(void **state)
{
    struct world *world = *state;
    const struct {
        struct fuse_rename_in in;
        char names[4];
    } to_root = {.in.newdir = FUSE_ROOT_ID, .names = "b\0c"};
    uint64_t a, b;

    greet(world);
    look(world);
    a = make_dir(world, FUSE_ROOT_ID, "a");
    b = make_dir(world, FUSE_ROOT_ID, "b");
    ask(world, FUSE_RMDIR, FUSE_ROOT_ID, NULL, 0, "a");
    assert_int_equal(world->error, 0);
    assert_non_null(find(world, LIMA_AHEAD_VOID, a));
    ask(world, FUSE_RENAME, FUSE_ROOT_ID, &to_root, sizeof(to_root.in) + sizeof(to_root.names),
        NULL);
    assert_int_equal(world->error, 0);
    assert_non_null(find(world, LIMA_AHEAD_VOID, b));
    assert_non_null(find(world, LIMA_AHEAD_ATTR, FUSE_ROOT_ID));
}

static void test_a_new_agent_is_told_anew(void **state)
{
    struct world *world = *state;
    uint64_t dir;

    greet(world);
    look(world);
    dir = make_dir(world, FUSE_ROOT_ID, "a");
    fuse_server_restart(world->server);
    make_file(world, dir, "f");
    assert_int_equal(world->said_count, 0);
    greet(world);
    make_file(world, dir, "g");
    assert_non_null(find(world, LIMA_AHEAD_ATTR, dir));
}

static void test_more_folders_than_are_kept_void_all(void **state)
{
    struct world *world = *state;
    bool voided = false;

    greet(world);
    look(world);
    for (int i = 0; i < AHEAD_NODES_MAX + 8; i++) {
        scoped(free) char *name = xasprintf("d%d", i);

        make_dir(world, FUSE_ROOT_ID, name);
        voided = voided || find(world, LIMA_AHEAD_VOID, 0);
    }
    assert_true(voided);
}

/* How many lookups of a name it takes until reading the root is advised. */
static unsigned look_until_advised(struct world *world)
{
    for (unsigned count = 1; count <= 200; count++) {
        ask(world, FUSE_LOOKUP, FUSE_ROOT_ID, NULL, 0, "file");
        assert_int_equal(world->error, 0);
        if (world->advised) {
            assert_int_equal(world->advised, FUSE_ROOT_ID);
            return count;
        }
    }
    return 0;
}

static void test_reading_is_advised_where_names_are_looked_up(void **state)
{
    const struct fuse_read_in from_start = {.size = 4096};
    const unsigned expected[] = {4, 8, 16, 32, 64, 128, 128};
    struct world *world = *state;

    greet_with(world, LIMA_MOUNT_CAN_AHEAD | LIMA_MOUNT_CAN_READ);
    make_file(world, FUSE_ROOT_ID, "file");
    for (int i = 0; i < 10; i++) {
        look(world); /* what is not there counts for nothing */
        assert_int_equal(world->advised, 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        assert_int_equal(look_until_advised(world), expected[i]);
    }
    ask(world, FUSE_LOOKUP, FUSE_ROOT_ID, NULL, 0, "file");
    ask(world, FUSE_READDIRPLUS, FUSE_ROOT_ID, &from_start, sizeof(from_start), NULL);
    assert_int_equal(world->error, 0);
    assert_int_equal(look_until_advised(world), 128); /* counted from there */
}

static void test_no_reading_is_advised_to_who_cannot(void **state)
{
    struct world *world = *state;

    greet(world);
    make_file(world, FUSE_ROOT_ID, "file");
    assert_int_equal(look_until_advised(world), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_agent_that_does_not_ask_is_told_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_new_folder_is_said_to_be_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_the_guest_changes_in_a_folder_is_said, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_what_the_host_changes_voids, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_what_the_host_has_done_before_an_answer_voids_before_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_folder_that_is_removed_or_moved_is_void, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_new_agent_is_told_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_folders_than_are_kept_void_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reading_is_advised_where_names_are_looked_up, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_no_reading_is_advised_to_who_cannot, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
