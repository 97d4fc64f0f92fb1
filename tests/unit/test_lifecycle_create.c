/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/buf.h"
#include "base/log.h"
#include "instance/layout.h"
#include "lifecycle/create.h"
#include "lifecycle/delete.h"
#include "lifecycle/edit.h"
#include "lifecycle/lock.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"

static const char yaml[] = "# kept\n"
                           "arch: x86_64\n"
                           "images:\n"
                           "- location: https://example.invalid/disk.qcow2\n"
                           "  arch: x86_64\n"
                           "cpus: 1\n"
                           "memory: 1GiB\n"
                           "disk: 2GiB\n";

struct fixture {
    char *top;
    char *home; /* not there at first */
    char *dir;
    pid_t pid;
};

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);

    f->top = xstrdup("/tmp/lima-create-XXXXXX");
    if (!mkdtemp(f->top)) {
        return -1;
    }
    f->home = path_join(f->top, "home");
    f->dir = path_join(f->home, "dev");
    log_set_level(LOG_LEVEL_FATAL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->pid) {
        process_kill(f->pid, SIGKILL, 5000, NULL);
    }
    file_remove_tree(f->top, NULL);
    free(f->top);
    free(f->home);
    free(f->dir);
    free(f);
    return 0;
}

static int create(struct fixture *f, const char *name, const char *text, struct error *err)
{
    struct lifecycle_create_options options = {
        .lima_home = f->home, .name = name, .text = text, .source = "test.yaml"};

    return lifecycle_create(&options, err);
}

static void create_dev(struct fixture *f)
{
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(create(f, "dev", yaml, &err), &err);
}

static void test_create_writes_text_and_version(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *config = path_join(f->dir, LAYOUT_CONFIG);
    scoped(free) char *version = path_join(f->dir, LAYOUT_VERSION);
    scoped(buf_done) struct buf text = BUF_INIT;
    struct stat st;

    create_dev(f);
    assert_int_equal(stat(f->dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(file_read(config, 1 << 20, &text, NULL), 0);
    assert_string_equal(buf_str(&text), yaml);
    assert_int_equal(stat(version, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0444);
}

static void test_a_refused_create_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    assert_fails(create(f, "dev", "cpus: many\n", &err), &err, EINVAL, "test.yaml:1");
    assert_fails(create(f, "no..name", yaml, &err), &err, EINVAL, "no..name");
    assert_false(file_exists(f->home));
}

static void test_a_name_is_taken_once(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    create_dev(f);
    assert_fails(create(f, "dev", yaml, &err), &err, EEXIST, "instance `dev` already exists");
}

static void test_delete_removes_the_folder(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    create_dev(f);
    assert_works(lifecycle_delete(f->home, "dev", false, &err), &err);
    assert_int_equal(rmdir(f->home), 0); /* nothing else is left in it */
    assert_fails(lifecycle_delete(f->home, "dev", false, &err), &err, ENOENT, "does not exist");
}

static void test_delete_keeps_what_is_protected_or_no_instance(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *mark = path_join(f->dir, LAYOUT_PROTECTED);
    scoped(free) char *config = path_join(f->dir, LAYOUT_CONFIG);

    create_dev(f);
    file_write_text(mark, "", 0400, NULL);
    assert_fails(lifecycle_delete(f->home, "dev", true, &err), &err, EPERM, "protected");
    unlink(mark);
    unlink(config);
    assert_fails(lifecycle_delete(f->home, "dev", true, &err), &err, EINVAL, "it is kept");
    assert_true(file_is_dir(f->dir));
}

static void test_delete_kills_only_when_forced(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *config = path_join(f->dir, LAYOUT_CONFIG);
    scoped(free) char *pidfile = path_join(f->dir, LAYOUT_QEMU_PID);
    scoped(free) char *text = NULL;
    struct process_options options = PROCESS_OPTIONS_INIT;

    create_dev(f);
    assert_works(
        process_start((const char *const[]){"tail", "-f", config, NULL}, &options, &f->pid, &err),
        &err);
    text = xasprintf("%d\n", (int)f->pid);
    file_write_text(pidfile, text, 0600, NULL);
    assert_fails(lifecycle_delete(f->home, "dev", false, &err), &err, EBUSY,
                 "expected status `Stopped`, got `Broken`");
    assert_works(lifecycle_delete(f->home, "dev", true, &err), &err);
    assert_int_equal(process_wait(f->pid, 0), 0);
    f->pid = 0;
}

static void test_a_held_lock_keeps_other_verbs_out(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    int lock, second;

    create_dev(f);
    assert_works(lifecycle_lock(f->dir, "dev", &lock, &err), &err);
    assert_fails(lifecycle_lock(f->dir, "dev", &second, &err), &err, EBUSY, "another limactl");
    assert_fails(lifecycle_delete(f->home, "dev", true, &err), &err, EBUSY, "another limactl");
    close(lock);
    assert_works(lifecycle_lock(f->dir, "dev", &lock, &err), &err);
    close(lock);
}

static void test_edits_are_checked_and_keep_comments(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(strv_done) struct strv good = STRV_INIT;
    scoped(strv_done) struct strv small = STRV_INIT;
    scoped(free) char *text = NULL;

    create_dev(f);
    strv_add(&good, ".cpus = 3");
    assert_works(lifecycle_edit_check(f->home, "dev", &good, &text, &err), &err);
    assert_non_null(strstr(text, "# kept\n"));
    assert_non_null(strstr(text, "cpus: 3\n"));
    strv_add(&small, ".disk = \"1GiB\"");
    assert_fails(lifecycle_edit_check(f->home, "dev", &small, &text, &err), &err, EINVAL,
                 "shrinking the disk (2GiB --> 1GiB)");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_create_writes_text_and_version),
        TEST(test_a_refused_create_leaves_nothing),
        TEST(test_a_name_is_taken_once),
        TEST(test_delete_removes_the_folder),
        TEST(test_delete_keeps_what_is_protected_or_no_instance),
        TEST(test_delete_kills_only_when_forced),
        TEST(test_a_held_lock_keeps_other_verbs_out),
        TEST(test_edits_are_checked_and_keep_comments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
