/* SPDX-License-Identifier: Apache-2.0 */
/* The user's files, as root: the tests are skipped for everybody else. */
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "files.h"
#include "system.h"

#define KEY "ssh-ed25519 AAAA lima\n"

struct fixture {
    char dir[64]; /* root's */
    struct system_user user;
    char *ssh, *keys, *secret;
};

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);

    strcpy(f->dir, "/tmp/lima-test-system.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    chmod(f->dir, 0755);
    f->user = (struct system_user){.name = xstrdup("nobody"), .uid = 65534, .gid = 65534};
    f->user.home = xasprintf("%s/home", f->dir);
    f->ssh = xasprintf("%s/.ssh", f->user.home);
    f->keys = xasprintf("%s/authorized_keys", f->ssh);
    f->secret = xasprintf("%s/authorized_keys", f->dir);
    mkdir(f->user.home, 0700);
    (void)!chown(f->user.home, f->user.uid, f->user.gid);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *command = xasprintf("rm -rf %s", f->dir);
    int r = system(command);

    system_user_done(&f->user);
    free(f->ssh);
    free(f->keys);
    free(f->secret);
    free(f);
    return r;
}

static void write_secret(struct fixture *f)
{
    int fd = open(f->secret, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_int_equal(write(fd, "secret\n", 7), 7);
    close(fd);
}

static void assert_text(const char *path, const char *want)
{
    scoped(free) char *text = files_read(path, FILES_TEXT_MAX, NULL);

    assert_non_null(text);
    assert_string_equal(text, want);
}

static void need_root(void)
{
    if (geteuid() != 0) {
        skip();
    }
}

static void test_keys_are_added_once_and_belong_to_the_user(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    need_root();
    system_apply_keys(KEY, &f->user);
    system_apply_keys(KEY, &f->user);
    assert_text(f->keys, KEY);
    assert_int_equal(stat(f->keys, &st), 0);
    assert_int_equal(st.st_uid, f->user.uid);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(f->ssh, &st), 0);
    assert_int_equal(st.st_uid, f->user.uid);
    assert_int_equal(geteuid(), 0);
}

static void test_link_to_a_secret_file_gives_nothing_away(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    need_root();
    write_secret(f);
    mkdir(f->ssh, 0700);
    (void)!chown(f->ssh, f->user.uid, f->user.gid);
    assert_int_equal(symlink(f->secret, f->keys), 0);
    system_apply_keys(KEY, &f->user);
    assert_int_equal(lstat(f->keys, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_text(f->secret, "secret\n");
}

static void test_link_to_a_folder_of_root_is_not_written_through(void **state)
{
    struct fixture *f = *state;

    need_root();
    write_secret(f);
    assert_int_equal(symlink(f->dir, f->ssh), 0);
    system_apply_keys(KEY, &f->user);
    assert_text(f->secret, "secret\n");
}

static void test_pipes_in_place_of_files_do_not_block(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *temporary = xasprintf("%s.lima-new", f->keys);

    need_root();
    alarm(20);
    mkdir(f->ssh, 0700);
    (void)!chown(f->ssh, f->user.uid, f->user.gid);
    assert_int_equal(mkfifo(f->keys, 0666), 0);
    assert_int_equal(mkfifo(temporary, 0666), 0);
    (void)!chown(f->keys, f->user.uid, f->user.gid);
    (void)!chown(temporary, f->user.uid, f->user.gid);
    system_apply_keys(KEY, &f->user);
    assert_text(f->keys, KEY);
    alarm(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_keys_are_added_once_and_belong_to_the_user, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_link_to_a_secret_file_gives_nothing_away, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_link_to_a_folder_of_root_is_not_written_through, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_pipes_in_place_of_files_do_not_block, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
