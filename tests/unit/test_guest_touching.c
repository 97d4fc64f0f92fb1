/* SPDX-License-Identifier: Apache-2.0 */
/* On a tmpfs in a mount namespace of our own, which takes root. */
#include "touching.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lima/touch.h"
#include "test.h"

#define SOURCE  "lima-0123456789abcdef"
#define WAIT_MS 10000

struct world {
    char dir[64];
    int fd, notify_fd;
    pid_t pid;
    bool has_namespace;
};

static char *in(const struct world *world, const char *name)
{
    return xasprintf("%s/%s", world->dir, name);
}

static uint8_t read_answer(const struct world *world)
{
    struct pollfd fd = {.fd = world->fd, .events = POLLIN};
    uint8_t byte = 255;

    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    assert_int_equal(read(world->fd, &byte, 1), 1);
    return byte;
}

/* The child and its first word. */
static uint8_t begin(struct world *world, const char *source)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    world->pid = fork();
    assert_true(world->pid >= 0);
    if (world->pid == 0) {
        struct touching about = {source, world->dir, "tmpfs", fds[1]};

        close(fds[0]);
        _exit(touching_run(&about));
    }
    close(fds[1]);
    world->fd = fds[0];
    return read_answer(world);
}

static int setup(void **state)
{
    struct world *world = xnew(struct world);

    *state = world;
    world->fd = -1;
    world->notify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    world->has_namespace = geteuid() == 0 && unshare(CLONE_NEWNS) == 0;
    snprintf(world->dir, sizeof(world->dir), "/tmp/test-touching-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    if (world->has_namespace) {
        assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        assert_int_equal(mount(SOURCE, world->dir, "tmpfs", 0, NULL), 0);
    }
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    if (world->fd >= 0) {
        close(world->fd);
        waitpid(world->pid, NULL, 0);
    }
    if (world->has_namespace) {
        umount2(world->dir, MNT_DETACH);
    }
    rmdir(world->dir);
    close(world->notify_fd);
    free(world);
    return 0;
}

static struct world *ready(void **state)
{
    struct world *world = *state;

    if (!world->has_namespace) {
        skip();
    }
    return world;
}

static void make_file(const struct world *world, const char *name, mode_t mode)
{
    scoped(free) char *path = in(world, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void make_folder(const struct world *world, const char *name)
{
    scoped(free) char *path = in(world, name);

    assert_int_equal(mkdir(path, 0755), 0);
}

static void watch(const struct world *world, const char *name)
{
    scoped(free) char *path = in(world, name);

    assert_true(inotify_add_watch(world->notify_fd, path, IN_ATTRIB) >= 0);
}

/* What watchers have been shown: names of files, each with a space behind. */
static void assert_shown(const struct world *world, const char *want)
{
    char bytes[8192], text[1024] = "";
    ssize_t n = read(world->notify_fd, bytes, sizeof(bytes));

    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *event = (const struct inotify_event *)(bytes + at);

        strcat(text, event->len ? event->name : ".");
        strcat(text, " ");
        at += (ssize_t)(sizeof(*event) + event->len);
    }
    assert_string_equal(text, want);
}

/* Cut in two. */
static uint8_t tell_len(const struct world *world, unsigned what, const char *path, size_t len)
{
    struct lima_touch touch = {.what = what, .path_len = len};
    uint8_t head[LIMA_TOUCH_HEAD];

    lima_touch_encode(&touch, head);
    assert_int_equal(write(world->fd, head, 3), 3);
    assert_int_equal(write(world->fd, head + 3, 1), 1);
    assert_int_equal(write(world->fd, path, len), len);
    return read_answer(world);
}

static uint8_t tell(const struct world *world, unsigned what, const char *path)
{
    return tell_len(world, what, path, strlen(path));
}

static void test_a_touch_is_seen_and_changes_no_time_and_no_mode(void **state)
{
    struct world *world = ready(state);
    scoped(free) char *path = in(world, "a/b/file");
    struct stat before, after;

    make_folder(world, "a");
    make_folder(world, "a/b");
    make_file(world, "a/b/file", 0751);
    assert_int_equal(begin(world, SOURCE), 0);
    watch(world, "a/b");
    stat(path, &before);
    assert_int_equal(tell(world, LIMA_TOUCH_TOUCH, "a/b/file"), 0);
    assert_shown(world, "file ");
    stat(path, &after);
    assert_int_equal(after.st_mode, before.st_mode);
    assert_memory_equal(&after.st_mtim, &before.st_mtim, sizeof(after.st_mtim));
    assert_memory_equal(&after.st_atim, &before.st_atim, sizeof(after.st_atim));
    assert_int_equal(tell(world, LIMA_TOUCH_TOUCH, ""), 0);
    assert_shown(world, "");
    watch(world, ".");
    assert_int_equal(tell(world, LIMA_TOUCH_TOUCH, ""), 0);
    assert_shown(world, ". ");
}

static void test_setuid_survives(void **state)
{
    struct world *world = ready(state);
    scoped(free) char *path = in(world, "setuid"), *folder = in(world, "folder");
    struct stat st;

    make_file(world, "setuid", 04755);
    make_folder(world, "folder");
    chmod(folder, 02775);
    assert_int_equal(begin(world, SOURCE), 0);
    watch(world, ".");
    assert_int_equal(tell(world, LIMA_TOUCH_TOUCH, "setuid"), EOPNOTSUPP);
    assert_shown(world, "");
    assert_int_equal(tell(world, LIMA_TOUCH_TOUCH, "folder"), 0);
    assert_shown(world, "folder ");
    stat(path, &st);
    assert_int_equal(st.st_mode & 07777, 04755);
    stat(folder, &st);
    assert_int_equal(st.st_mode & 07777, 02775);
}

/* As last component, and before it. */
static void test_no_link_is_followed_and_no_path_leads_out(void **state)
{
    struct world *world = ready(state);
    scoped(free) char *link = in(world, "link"), *out = in(world, "out");
    char canary[] = "/tmp/test-canary-XXXXXX";
    int notify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    char bytes[4096];

    close(mkstemp(canary));
    assert_int_equal(symlink(canary, link), 0);
    assert_int_equal(symlink("/tmp", out), 0);
    assert_true(inotify_add_watch(notify_fd, canary, IN_ATTRIB) >= 0);
    assert_int_equal(begin(world, SOURCE), 0);
    watch(world, ".");
    assert_int_equal(tell(world, LIMA_TOUCH_TOUCH, "link"), 0);
    assert_shown(world, "link ");
    {
        scoped(free) char *through = xasprintf("out/%s", canary + strlen("/tmp/"));
        scoped(free) char *up = xasprintf("../%s", canary + strlen("/tmp/"));

        assert_int_equal(tell(world, LIMA_TOUCH_TOUCH, through), ENOTDIR);
        assert_int_equal(tell(world, LIMA_TOUCH_TOUCH, up), EINVAL);
    }
    assert_int_equal(tell(world, LIMA_TOUCH_TOUCH | LIMA_TOUCH_FOLDER, ".."), EINVAL);
    assert_int_equal(tell(world, LIMA_TOUCH_FOLDER, "out"), ENOTDIR);
    assert_int_equal(tell_len(world, LIMA_TOUCH_TOUCH, "li\0nk", 5), ENOENT);
    assert_int_equal(read(notify_fd, bytes, sizeof(bytes)), -1);
    close(notify_fd);
    unlink(canary);
}

static void test_what_is_mounted_below_is_not_entered(void **state)
{
    struct world *world = ready(state);
    scoped(free) char *path = in(world, "other");

    make_folder(world, "other");
    assert_int_equal(mount("other", path, "tmpfs", 0, NULL), 0);
    make_file(world, "other/file", 0644);
    assert_int_equal(begin(world, SOURCE), 0);
    assert_int_equal(tell(world, LIMA_TOUCH_TOUCH, "other/file"), ENOENT);
}

static size_t count_fds(pid_t pid)
{
    scoped(free) char *path = xasprintf("ls /proc/%d/fd | wc -l", (int)pid);
    FILE *pipe = popen(path, "r");
    size_t count = 0;

    assert_int_equal(fscanf(pipe, "%zu", &count), 1);
    pclose(pipe);
    return count;
}

static void test_folders_are_held_until_they_are_removed(void **state)
{
    struct world *world = ready(state);
    size_t before;

    make_folder(world, "a");
    make_folder(world, "a/b");
    make_folder(world, "ab");
    assert_int_equal(begin(world, SOURCE), 0);
    before = count_fds(world->pid);
    assert_int_equal(tell(world, LIMA_TOUCH_FOLDER, "a"), 0);
    assert_int_equal(tell(world, LIMA_TOUCH_FOLDER, "a/b"), 0);
    assert_int_equal(tell(world, LIMA_TOUCH_FOLDER, "a/b"), 0);
    assert_int_equal(tell(world, LIMA_TOUCH_FOLDER, "ab"), 0);
    assert_int_equal(count_fds(world->pid), before + 3);
    assert_int_equal(tell(world, LIMA_TOUCH_REMOVED, "a"), 0);
    assert_int_equal(count_fds(world->pid), before + 1);
    assert_int_equal(tell(world, LIMA_TOUCH_RESET, ""), 0);
    assert_int_equal(count_fds(world->pid), before);
}

/* Nothing that is held keeps anybody from that. */
static void test_it_ends_when_the_mount_goes(void **state)
{
    struct world *world = ready(state);
    struct pollfd fd;

    make_folder(world, "a");
    assert_int_equal(begin(world, SOURCE), 0);
    assert_int_equal(tell(world, LIMA_TOUCH_FOLDER, "a"), 0);
    assert_int_equal(umount(world->dir), 0);
    fd = (struct pollfd){.fd = world->fd, .events = POLLIN};
    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    assert_int_equal(read(world->fd, &(char){0}, 1), 0);
}

static void test_another_mount_is_left_alone(void **state)
{
    struct world *world = ready(state);

    assert_int_equal(begin(world, "lima-another"), ESTALE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_touch_is_seen_and_changes_no_time_and_no_mode),
        TEST(test_setuid_survives),
        TEST(test_no_link_is_followed_and_no_path_leads_out),
        TEST(test_what_is_mounted_below_is_not_entered),
        TEST(test_folders_are_held_until_they_are_removed),
        TEST(test_it_ends_when_the_mount_goes),
        TEST(test_another_mount_is_left_alone),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
