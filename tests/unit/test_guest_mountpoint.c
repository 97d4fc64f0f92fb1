/* SPDX-License-Identifier: Apache-2.0 */
#include "mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "test.h"

#define USER        1234
#define TMPFS_MAGIC 0x01021994

struct world {
    char *dir;
    bool may; /* root, who may have mounts of its own */
};

static char *below(const struct world *world, const char *path)
{
    return xasprintf("%s/%s", world->dir, path);
}

static int setup(void **state)
{
    struct world *world = xnew(struct world);

    world->dir = xstrdup("/tmp/test-mountpoint-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    world->may = geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
                 mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                 mount("test", world->dir, "tmpfs", 0, "mode=755") == 0;
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    if (world->may) {
        umount2(world->dir, MNT_DETACH);
    }
    rmdir(world->dir);
    free(world->dir);
    free(world);
    return 0;
}

static void make_folder(const struct world *world, const char *path, uid_t uid)
{
    scoped(free) char *whole = below(world, path);

    assert_int_equal(mkdir(whole, 0755), 0);
    assert_int_equal(chown(whole, uid, uid), 0);
}

static void make_link(const struct world *world, const char *target, const char *path, uid_t uid)
{
    scoped(free) char *whole = below(world, path);

    assert_int_equal(symlink(target, whole), 0);
    assert_int_equal(lchown(whole, uid, uid), 0);
}

/* As in the guest agent, in a child, whose exit status it is. */
static int mount_at(const struct world *world, const char *path)
{
    scoped(free) char *whole = below(world, path);
    struct mountpoint point = {
        .source = "source", .path = whole, .type = "tmpfs", .options = "size=64k", .fuse_fd = -1};
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        (void)!freopen("/dev/null", "w", stdout);
        _exit(mountpoint_mount(&point));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status);
}

static int unmount_at(const struct world *world, const char *path)
{
    scoped(free) char *whole = below(world, path);
    struct mountpoint point = {.source = "source", .path = whole, .type = "tmpfs", .fuse_fd = -1};
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        (void)!freopen("/dev/null", "w", stdout);
        _exit(mountpoint_unmount(&point));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status);
}

static bool is_mounted(const struct world *world, const char *path)
{
    scoped(free) char *whole = below(world, path);

    return mountpoint_is("tmpfs", "source", whole);
}

static uid_t owner(const struct world *world, const char *path)
{
    scoped(free) char *whole = below(world, path);
    struct stat st;

    assert_int_equal(lstat(whole, &st), 0);
    return st.st_uid;
}

static bool exists(const struct world *world, const char *path)
{
    scoped(free) char *whole = below(world, path);

    return access(whole, F_OK) == 0;
}

static void test_what_is_missing_is_made_for_the_owner_of_where_it_is_made(void **state)
{
    const struct world *world = *state;

    if (!world->may) {
        skip();
    }
    make_folder(world, "home", USER);
    assert_int_equal(mount_at(world, "home/a/b"), 0);
    assert_true(is_mounted(world, "home/a/b"));
    assert_int_equal(owner(world, "home/a"), USER);
    assert_int_equal(mount_at(world, "of/root"), 0);
    assert_int_equal(owner(world, "of"), 0);
}

static void test_only_our_own_mount_is_unmounted_wherever_users_have_led_its_name(void **state)
{
    const struct world *world = *state;
    scoped(free) char *system = below(world, "system/mnt");
    scoped(free) char *home = below(world, "home/a");
    scoped(free) char *moved = below(world, "home/b");
    scoped(free) char *over = below(world, "home/b/mnt");

    if (!world->may) {
        skip();
    }
    make_folder(world, "system", 0);
    make_folder(world, "system/mnt", 0);
    assert_int_equal(mount("theirs", system, "tmpfs", 0, ""), 0);
    make_folder(world, "home", USER);
    make_folder(world, "home/a", USER);
    assert_int_equal(mount_at(world, "home/a/mnt"), 0);
    assert_int_equal(rename(home, moved), 0);
    make_link(world, "../system", "home/a", USER);
    assert_int_equal(mount("theirs", over, "tmpfs", 0, ""), 0);
    assert_int_equal(unmount_at(world, "home/a/mnt"), EBUSY);
    assert_int_equal(umount(over), 0);
    assert_true(is_mounted(world, "home/b/mnt"));
    assert_int_equal(unmount_at(world, "home/a/mnt"), 0);
    assert_false(is_mounted(world, "home/b/mnt"));
    assert_true(mountpoint_is("tmpfs", "theirs", system));
    assert_int_equal(unmount_at(world, "home/a/mnt"), 0); /* it is not there */
    assert_true(mountpoint_is("tmpfs", "theirs", system));
    assert_int_equal(umount(system), 0);
}

static void test_links_of_root_are_followed(void **state)
{
    const struct world *world = *state;

    if (!world->may) {
        skip();
    }
    make_folder(world, "real", USER);
    make_link(world, "real", "link", 0);
    make_link(world, "../link/./", "real/again", 0);
    assert_int_equal(mount_at(world, "link/again/../real/sub"), 0);
    assert_true(is_mounted(world, "real/sub"));
    assert_int_equal(owner(world, "real"), USER);
}

static void test_links_of_users_lead_to_their_own_alone(void **state)
{
    const struct world *world = *state;
    scoped(free) char *etc = below(world, "etc");

    if (!world->may) {
        skip();
    }
    make_folder(world, "etc", 0);
    make_folder(world, "etc/own", 0);
    make_folder(world, "home", USER);
    make_folder(world, "home/mine", USER);
    make_folder(world, "other", USER + 1);
    make_link(world, "mine", "home/good", USER);
    make_link(world, etc, "home/bad", USER);
    make_link(world, "../other", "home/worse", USER);
    make_link(world, "worst", "home/worst", USER);
    assert_int_equal(mount_at(world, "home/good"), 0);
    assert_true(is_mounted(world, "home/mine"));
    assert_int_equal(mount_at(world, "home/bad"), ELOOP);
    assert_int_equal(mount_at(world, "home/bad/own"), ELOOP);
    assert_int_equal(mount_at(world, "home/bad/new"), ELOOP);
    assert_int_equal(mount_at(world, "home/worse"), ELOOP);
    assert_int_equal(mount_at(world, "home/worst"), ELOOP);
    assert_false(is_mounted(world, "etc"));
    assert_false(is_mounted(world, "etc/own"));
    assert_false(exists(world, "etc/new"));
}

static void test_what_is_no_folder_is_refused(void **state)
{
    const struct world *world = *state;
    scoped(free) char *path = below(world, "file");
    int fd;

    if (!world->may) {
        skip();
    }
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(mount_at(world, "file"), ENOTDIR);
    assert_int_equal(mount_at(world, "file/below"), ENOTDIR);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_what_is_missing_is_made_for_the_owner_of_where_it_is_made),
        T(test_only_our_own_mount_is_unmounted_wherever_users_have_led_its_name),
        T(test_links_of_root_are_followed),
        T(test_links_of_users_lead_to_their_own_alone),
        T(test_what_is_no_folder_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
