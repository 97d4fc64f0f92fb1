/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/sftp_server.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include "mount/owners.h"
#include "mount/sftp_wire.h"
#include "test.h"
#include "util/file.h"
#include "util/path.h"

#define ANY_ID 77
#define OUT    (4u << 20)

/* A shared folder with "file" and "dir/inner", and "beside" next to it, which is nobody's. */
struct world {
    char *top, *shared;
    struct tree *tree;
    struct sftp_server *server;
    struct buf in, out;
};

static void make_link(const struct world *world, const char *name, const char *target)
{
    scoped(free) char *path = path_join(world->shared, name);

    assert_int_equal(symlink(target, path), 0);
}

static char *inside(const struct world *world, const char *name)
{
    return path_join(world->shared, name);
}

static struct world *begin(bool writable, bool follow)
{
    struct world *world = xnew(struct world);
    scoped(free) char *dir = NULL, *file = NULL, *inner = NULL, *beside = NULL;

    world->top = xstrdup("/tmp/test-sftp-XXXXXX");
    assert_non_null(mkdtemp(world->top));
    world->shared = path_join(world->top, "shared");
    dir = inside(world, "dir");
    file = inside(world, "file");
    inner = inside(world, "dir/inner");
    beside = path_join(world->top, "beside");
    assert_int_equal(file_mkdirs(dir, 0755, NULL), 0);
    assert_int_equal(file_write_text(file, "shared", 0644, NULL), 0);
    assert_int_equal(file_write_text(inner, "inner", 0644, NULL), 0);
    assert_int_equal(file_write_text(beside, "secret", 0644, NULL), 0);
    make_link(world, "to-file", "file");
    make_link(world, "out", "../beside");
    assert_int_equal(tree_open(world->shared, writable, &world->tree, NULL), 0);
    world->server = sftp_server_new(world->tree, follow);
    sftp_server_set_owner(world->server, 1000, 1001);
    world->out = BUF_INIT_CAP(OUT);
    return world;
}

static int setup(void **state)
{
    *state = begin(true, false);
    return 0;
}

static int setup_read_only(void **state)
{
    *state = begin(false, false);
    return 0;
}

static int setup_follow(void **state)
{
    *state = begin(true, true);
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    sftp_server_free(world->server);
    tree_free(world->tree);
    file_remove_tree(world->top, NULL);
    buf_done(&world->in);
    buf_done(&world->out);
    free(world->shared);
    free(world->top);
    free(world);
    return 0;
}

/* --- requests --- */

static void ask(struct world *world, uint8_t type)
{
    buf_truncate(&world->in, 0);
    sftp_reply_begin(&world->in, type, ANY_ID);
}

static void put_text(struct world *world, const char *text)
{
    sftp_put_string(&world->in, text, strlen(text));
}

static void put_none(struct world *world)
{
    sftp_put_u32(&world->in, 0);
}

static const uint8_t *answer(const struct world *world)
{
    return (const uint8_t *)world->out.data;
}

static uint32_t word_at(const struct world *world, size_t at)
{
    uint32_t word;

    assert_true(at + sizeof(word) <= world->out.len);
    memcpy(&word, answer(world) + at, sizeof(word));
    return be32toh(word);
}

/* The type of the only answer, whose length and number are right. */
static enum sftp_type send(struct world *world)
{
    buf_truncate(&world->out, 0);
    sftp_reply_end(&world->in, 0);
    assert_int_equal(sftp_server_message(world->server, world->in.data, world->in.len, &world->out),
                     0);
    assert_int_equal(word_at(world, 0), world->out.len - 4);
    assert_int_equal(word_at(world, 5), answer(world)[4] == SFTP_VERSION_IS ? 3 : ANY_ID);
    return answer(world)[4];
}

static enum sftp_status status(struct world *world)
{
    assert_int_equal(send(world), SFTP_STATUS);
    return word_at(world, 9);
}

static void init(struct world *world)
{
    ask(world, SFTP_INIT);
    assert_int_equal(send(world), SFTP_VERSION_IS);
}

static enum sftp_type ask_open(struct world *world, const char *path, uint32_t flags)
{
    ask(world, SFTP_OPEN);
    put_text(world, path);
    sftp_put_u32(&world->in, flags);
    put_none(world);
    return send(world);
}

static enum sftp_status open_status(struct world *world, const char *path, uint32_t flags)
{
    assert_int_equal(ask_open(world, path, flags), SFTP_STATUS);
    return word_at(world, 9);
}

struct handle {
    uint8_t bytes[SFTP_HANDLE_LEN];
};

static struct handle answered_handle(const struct world *world)
{
    struct handle handle;

    assert_int_equal(word_at(world, 9), SFTP_HANDLE_LEN);
    memcpy(handle.bytes, answer(world) + 13, sizeof(handle.bytes));
    return handle;
}

static struct handle open_file(struct world *world, const char *path, uint32_t flags)
{
    assert_int_equal(ask_open(world, path, flags), SFTP_HANDLE);
    return answered_handle(world);
}

static void ask_handle(struct world *world, uint8_t type, struct handle handle)
{
    ask(world, type);
    sftp_put_string(&world->in, handle.bytes, sizeof(handle.bytes));
}

static enum sftp_type ask_read(struct world *world, struct handle handle, uint64_t offset,
                               uint32_t len)
{
    ask_handle(world, SFTP_READ, handle);
    sftp_put_u64(&world->in, offset);
    sftp_put_u32(&world->in, len);
    return send(world);
}

static enum sftp_status write_text(struct world *world, struct handle handle, uint64_t offset,
                                   const char *text)
{
    ask_handle(world, SFTP_WRITE, handle);
    sftp_put_u64(&world->in, offset);
    put_text(world, text);
    return status(world);
}

static enum sftp_status of_path(struct world *world, uint8_t type, const char *path)
{
    ask(world, type);
    put_text(world, path);
    put_none(world);
    return status(world);
}

static enum sftp_status of_two(struct world *world, uint8_t type, const char *a, const char *b)
{
    ask(world, type);
    put_text(world, a);
    put_text(world, b);
    return status(world);
}

static void assert_text(const struct world *world, const char *name, const char *text)
{
    scoped(free) char *path = inside(world, name);
    scoped(buf_done) struct buf found = BUF_INIT;

    assert_int_equal(file_read(path, 64, &found, NULL), 0);
    assert_string_equal(buf_str(&found), text);
}

/* --- tests --- */

static void test_nothing_is_answered_before_init(void **state)
{
    struct world *world = *state;

    ask(world, SFTP_REALPATH);
    put_text(world, ".");
    sftp_reply_end(&world->in, 0);
    assert_int_equal(sftp_server_message(world->server, world->in.data, world->in.len, &world->out),
                     -EBADMSG);
    assert_int_equal(world->out.len, 0);
    init(world);
    ask(world, SFTP_REALPATH);
    put_text(world, ".");
    assert_int_equal(send(world), SFTP_NAME);
    sftp_server_restart(world->server);
    sftp_reply_end(&world->in, 0);
    assert_int_equal(sftp_server_message(world->server, world->in.data, world->in.len, &world->out),
                     -EBADMSG);
}

static void test_statuses_tell_what_sshfs_tells_apart(void **state)
{
    struct world *world = *state;

    init(world);
    assert_int_equal(of_path(world, SFTP_LSTAT, "none"), SFTP_NO_SUCH_FILE);
    assert_int_equal(of_path(world, SFTP_LSTAT, "file/below"), SFTP_NO_SUCH_FILE);
    assert_int_equal(of_path(world, SFTP_OPENDIR, "none"), SFTP_NO_SUCH_FILE);
    assert_int_equal(of_path(world, SFTP_MKDIR, "dir"), SFTP_FAILURE);
    assert_int_equal(of_path(world, SFTP_RMDIR, "dir"), SFTP_FAILURE);
    assert_int_equal(of_path(world, SFTP_REMOVE, ""), SFTP_FAILURE);
    assert_int_equal(of_path(world, 99, "file"), SFTP_OP_UNSUPPORTED);
    assert_int_equal(open_status(world, "out", SFTP_OPEN_READ), SFTP_PERMISSION_DENIED);
    assert_int_equal(open_status(world, "file", SFTP_OPEN_WRITE | SFTP_OPEN_CREAT | SFTP_OPEN_EXCL),
                     SFTP_FAILURE);
    ask(world, SFTP_CLOSE);
    put_text(world, "short");
    assert_int_equal(status(world), SFTP_BAD_MESSAGE);
}

static void test_reads_are_what_is_there_up_to_the_bound(void **state)
{
    struct world *world = *state;
    scoped(free) char *path = inside(world, "file");
    struct handle handle;

    init(world);
    handle = open_file(world, "file", SFTP_OPEN_READ);
    assert_int_equal(ask_read(world, handle, 2, 100), SFTP_DATA);
    assert_int_equal(word_at(world, 9), 4);
    assert_memory_equal(answer(world) + 13, "ared", 4);
    assert_int_equal(ask_read(world, handle, 6, 100), SFTP_STATUS);
    assert_int_equal(word_at(world, 9), SFTP_EOF);
    assert_int_equal(ask_read(world, handle, UINT64_MAX, 100), SFTP_STATUS);
    assert_int_equal(word_at(world, 9), SFTP_FAILURE);
    assert_int_equal(write_text(world, handle, 0, "x"), SFTP_FAILURE); /* not opened for that */
    assert_int_equal(truncate(path, 1 << 20), 0);
    assert_int_equal(ask_read(world, handle, 0, UINT32_MAX), SFTP_DATA);
    assert_int_equal(word_at(world, 9), SFTP_DATA_MAX);
    assert_true(word_at(world, 0) <= SFTP_MESSAGE_MAX);
}

static void test_writing_creates_truncates_and_appends(void **state)
{
    struct world *world = *state;
    struct handle handle;

    init(world);
    handle = open_file(world, "new", SFTP_OPEN_WRITE | SFTP_OPEN_CREAT);
    assert_int_equal(write_text(world, handle, 0, "abc"), SFTP_OK);
    assert_int_equal(write_text(world, handle, 1, "X"), SFTP_OK);
    assert_text(world, "new", "aXc");
    handle = open_file(world, "new", SFTP_OPEN_WRITE | SFTP_OPEN_APPEND);
    assert_int_equal(write_text(world, handle, 0, "d"), SFTP_OK);
    assert_text(world, "new", "aXcd");
    open_file(world, "new", SFTP_OPEN_WRITE | SFTP_OPEN_CREAT | SFTP_OPEN_TRUNC);
    assert_text(world, "new", "");
}

static void test_closed_handles_are_dead(void **state)
{
    struct world *world = *state;
    struct handle handle;

    init(world);
    handle = open_file(world, "file", SFTP_OPEN_READ);
    ask_handle(world, SFTP_CLOSE, handle);
    assert_int_equal(status(world), SFTP_OK);
    ask_handle(world, SFTP_CLOSE, handle);
    assert_int_equal(status(world), SFTP_FAILURE);
    open_file(world, "dir/inner", SFTP_OPEN_READ); /* in its place */
    assert_int_equal(ask_read(world, handle, 0, 10), SFTP_STATUS);
    assert_int_equal(sftp_server_open_count(world->server), 1);
    init(world);
    assert_int_equal(sftp_server_open_count(world->server), 0);
}

static void test_too_many_handles_are_refused_and_change_nothing(void **state)
{
    struct world *world = *state;
    scoped(free) char *made = inside(world, "made");
    struct handle last = {0};

    init(world);
    for (size_t i = 0; i < SFTP_HANDLES_MAX; i++) {
        ask(world, SFTP_OPENDIR);
        put_text(world, "");
        if (send(world) != SFTP_HANDLE) {
            skip(); /* fewer descriptors than that */
        }
        last = answered_handle(world);
    }
    assert_int_equal(open_status(world, "file", SFTP_OPEN_WRITE | SFTP_OPEN_TRUNC), SFTP_FAILURE);
    assert_text(world, "file", "shared");
    assert_int_equal(open_status(world, "made", SFTP_OPEN_WRITE | SFTP_OPEN_CREAT), SFTP_FAILURE);
    assert_int_equal(access(made, F_OK), -1);
    ask_handle(world, SFTP_CLOSE, last);
    assert_int_equal(status(world), SFTP_OK);
    open_file(world, "file", SFTP_OPEN_READ);
}

static void test_folders_of_any_size_are_listed_whole(void **state)
{
    struct world *world = *state;
    struct handle handle;
    size_t count = 0;

    init(world);
    for (size_t i = 0; i < 600; i++) {
        scoped(free) char *name = xasprintf("dir/%0200zu", i);

        open_file(world, name, SFTP_OPEN_WRITE | SFTP_OPEN_CREAT);
        ask_handle(world, SFTP_CLOSE, answered_handle(world));
        assert_int_equal(status(world), SFTP_OK);
    }
    ask(world, SFTP_OPENDIR);
    put_text(world, "/dir/");
    assert_int_equal(send(world), SFTP_HANDLE);
    handle = answered_handle(world);
    for (;;) {
        ask_handle(world, SFTP_READDIR, handle);
        if (send(world) != SFTP_NAME) {
            break;
        }
        assert_true(word_at(world, 0) <= SFTP_MESSAGE_MAX);
        assert_true(word_at(world, 9) > 0);
        count += word_at(world, 9);
    }
    assert_int_equal(word_at(world, 9), SFTP_EOF);
    assert_int_equal(count, 603); /* "inner", "." and ".." too */
}

static void test_rename_replaces_only_when_asked_to(void **state)
{
    struct world *world = *state;

    init(world);
    assert_int_equal(of_two(world, SFTP_RENAME, "file", "dir/inner"), SFTP_FAILURE);
    assert_text(world, "dir/inner", "inner");
    ask(world, SFTP_EXTENDED);
    put_text(world, "posix-rename@openssh.com");
    put_text(world, "file");
    put_text(world, "dir/inner");
    assert_int_equal(status(world), SFTP_OK);
    assert_text(world, "dir/inner", "shared");
}

static enum sftp_status chown_link(struct world *world, uint32_t uid, uint32_t gid)
{
    ask(world, SFTP_EXTENDED);
    put_text(world, "lsetstat@openssh.com");
    put_text(world, "to-file");
    sftp_put_attrs(&world->in,
                   &(struct sftp_attrs){.flags = SFTP_ATTR_OWNER, .uid = uid, .gid = gid});
    return status(world);
}

/* Copying a tree as root names the owner of each link. */
static void test_links_can_be_given_to_who_has_them(void **state)
{
    struct world *world = *state;

    init(world);
    assert_int_equal(chown_link(world, 1000, 1001), SFTP_OK);
    assert_int_equal(chown_link(world, 5, 5), SFTP_PERMISSION_DENIED);
    ask(world, SFTP_SETSTAT);
    put_text(world, "file");
    sftp_put_attrs(&world->in, &(struct sftp_attrs){.flags = SFTP_ATTR_OWNER, .uid = 5, .gid = 6});
    if (status(world) != SFTP_OK) {
        skip(); /* a file system without attributes */
    }
    assert_int_equal(chown_link(world, 1000, 1001), SFTP_OK);
}

static void test_a_read_only_folder_is_not_changed(void **state)
{
    struct world *world = *state;
    scoped(free) char *path = inside(world, "file");
    struct stat before, after;
    struct handle handle;

    init(world);
    handle = open_file(world, "file", SFTP_OPEN_READ);
    assert_int_equal(write_text(world, handle, 0, "x"), SFTP_PERMISSION_DENIED);
    assert_int_equal(open_status(world, "file", SFTP_OPEN_READ | SFTP_OPEN_TRUNC),
                     SFTP_PERMISSION_DENIED);
    assert_int_equal(of_path(world, SFTP_REMOVE, "file"), SFTP_PERMISSION_DENIED);
    assert_int_equal(of_path(world, SFTP_MKDIR, "new"), SFTP_PERMISSION_DENIED);
    assert_int_equal(of_path(world, SFTP_SETSTAT, "file"), SFTP_PERMISSION_DENIED);
    assert_int_equal(of_two(world, SFTP_SYMLINK, "x", "new"), SFTP_PERMISSION_DENIED);
    assert_int_equal(of_two(world, SFTP_RENAME, "file", "new"), SFTP_PERMISSION_DENIED);
    assert_int_equal(chmod(path, 0), 0);
    assert_int_equal(stat(path, &before), 0);
    (void)ask_open(world, "file", SFTP_OPEN_READ); /* root may, others may not */
    assert_int_equal(stat(path, &after), 0);
    assert_memory_equal(&after.st_ctim, &before.st_ctim, sizeof(after.st_ctim));
    assert_text(world, "dir/inner", "inner");
}

static void test_links_are_followed_within_the_folder_when_so_wanted(void **state)
{
    struct world *world = *state;
    struct handle handle;

    init(world);
    handle = open_file(world, "to-file", SFTP_OPEN_READ);
    assert_int_equal(ask_read(world, handle, 0, 10), SFTP_DATA);
    assert_memory_equal(answer(world) + 13, "shared", 6);
    assert_int_equal(open_status(world, "out", SFTP_OPEN_READ), SFTP_PERMISSION_DENIED);
    assert_int_equal(of_path(world, SFTP_STAT, "out"), SFTP_PERMISSION_DENIED);
    assert_int_equal(open_status(world, "out", SFTP_OPEN_WRITE | SFTP_OPEN_CREAT),
                     SFTP_PERMISSION_DENIED);
    assert_int_equal(of_path(world, SFTP_REMOVE, "to-file"), SFTP_OK); /* the link */
    assert_text(world, "file", "shared");
}

static void test_special_files_are_not_opened(void **state)
{
    struct world *world = *state;
    scoped(free) char *pipe = inside(world, "pipe");

    init(world);
    assert_int_equal(mkfifo(pipe, 0666), 0);
    assert_int_equal(open_status(world, "pipe", SFTP_OPEN_READ), SFTP_PERMISSION_DENIED);
    assert_int_equal(open_status(world, "pipe", SFTP_OPEN_WRITE | SFTP_OPEN_CREAT),
                     SFTP_PERMISSION_DENIED);
    assert_int_equal(open_status(world, "dir", SFTP_OPEN_READ), SFTP_FAILURE);
}

#define IN(test, how) cmocka_unit_test_setup_teardown(test, how, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN(test_nothing_is_answered_before_init, setup),
        IN(test_statuses_tell_what_sshfs_tells_apart, setup),
        IN(test_reads_are_what_is_there_up_to_the_bound, setup),
        IN(test_writing_creates_truncates_and_appends, setup),
        IN(test_closed_handles_are_dead, setup),
        IN(test_too_many_handles_are_refused_and_change_nothing, setup),
        IN(test_folders_of_any_size_are_listed_whole, setup),
        IN(test_rename_replaces_only_when_asked_to, setup),
        IN(test_links_can_be_given_to_who_has_them, setup),
        IN(test_a_read_only_folder_is_not_changed, setup_read_only),
        IN(test_links_are_followed_within_the_folder_when_so_wanted, setup_follow),
        IN(test_special_files_are_not_opened, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
