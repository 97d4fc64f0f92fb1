/* SPDX-License-Identifier: Apache-2.0 */
/* A "program" here is a file with a word in it. */
#include "test.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "files.h"
#include "install.h"
#include "program.h"

struct fixture {
    char dir[64];
    char *path, *upload, *previous, *seed;
};

static void write_word(const char *path, const char *word)
{
    assert_true(files_write_as(path, word, 0755, geteuid(), getegid(), NULL) >= 0);
}

static void check_word(const char *path, const char *want)
{
    scoped(free) char *got = files_read(path, 100, NULL);

    if (!want) {
        assert_null(got);
        return;
    }
    assert_non_null(got);
    assert_string_equal(got, want);
}

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);
    scoped(free) char *bin = NULL;

    *state = f;
    strcpy(f->dir, "/tmp/test_guest_program.XXXXXX");
    if (!mkdtemp(f->dir)) {
        return -1;
    }
    bin = xasprintf("%s/bin", f->dir);
    mkdir(bin, 0755);
    f->path = xasprintf("%s/lima-guestagent", bin);
    f->upload = program_beside(f->path, "upload");
    f->previous = program_beside(f->path, "previous");
    f->seed = xasprintf("%s/lima-guestagent", f->dir);
    write_word(f->path, "old");
    write_word(f->upload, "new");
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *command = xasprintf("rm -rf '%s'", f->dir);

    free(f->path);
    free(f->upload);
    free(f->previous);
    free(f->seed);
    free(f);
    return system(command);
}

static void replace(struct fixture *f)
{
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(program_replace(f->path, f->upload, &err), &err);
}

static void test_replaced_program_keeps_the_old_one(void **state)
{
    struct fixture *f = *state;

    replace(f);
    check_word(f->path, "new");
    check_word(f->previous, "old");
    check_word(f->upload, NULL);
}

static void test_confirmed_program_stays(void **state)
{
    struct fixture *f = *state;

    replace(f);
    assert_int_equal(program_settle(f->path), PROGRAM_ON_TRIAL);
    program_confirm(f->path);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(program_settle(f->path), PROGRAM_SETTLED);
    }
    check_word(f->path, "new");
}

static void test_program_that_never_comes_up_is_taken_back(void **state)
{
    struct fixture *f = *state;

    replace(f);
    for (int i = 0; i < PROGRAM_TRIES; i++) {
        assert_int_equal(program_settle(f->path), PROGRAM_ON_TRIAL);
        check_word(f->path, "new");
    }
    assert_int_equal(program_settle(f->path), PROGRAM_REPLACED);
    check_word(f->path, "old");
    check_word(f->previous, "new");
    assert_int_equal(program_settle(f->path), PROGRAM_SETTLED);
}

static void test_going_back_twice_is_where_it_began(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    replace(f);
    assert_works(program_go_back(f->path, &err), &err);
    check_word(f->path, "old");
    check_word(f->previous, "new");
    assert_int_equal(program_settle(f->path), PROGRAM_SETTLED);
    assert_works(program_go_back(f->path, &err), &err);
    check_word(f->path, "new");
    check_word(f->previous, "old");
}

static void test_nothing_to_go_back_to_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;

    assert_fails(program_go_back(f->path, &err), &err, ENOENT, "no program before");
    check_word(f->path, "old");
}

static void test_missing_upload_leaves_the_old_one(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;

    unlink(f->upload);
    assert_fails(program_replace(f->path, f->upload, &err), &err, ENOENT, "replacing");
    check_word(f->path, "old");
    assert_int_equal(program_settle(f->path), PROGRAM_SETTLED);
}

static void check_install(struct fixture *f, const char *seed, int changed, const char *want)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = NULL;
    int r;

    write_word(f->seed, seed);
    r = install_program(f->dir, f->dir, &path, &err);
    assert_works(r, &err);
    assert_int_equal(r, changed);
    assert_string_equal(path, f->path);
    check_word(f->path, want);
}

static void test_seed_does_not_undo_an_upgrade(void **state)
{
    struct fixture *f = *state;

    replace(f);
    check_install(f, "old", 0, "new");
    check_install(f, "new", 0, "new");
}

static void test_seed_does_not_undo_a_way_back(void **state)
{
    struct fixture *f = *state;

    replace(f);
    program_go_back(f->path, NULL);
    check_install(f, "new", 0, "old");
}

static void test_other_seed_is_installed_and_ends_the_trial(void **state)
{
    struct fixture *f = *state;

    replace(f);
    check_install(f, "third", 1, "third");
    check_word(f->previous, NULL);
    assert_int_equal(program_settle(f->path), PROGRAM_SETTLED);
    check_install(f, "old", 1, "old");
}

#define WITH_FILES(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FILES(test_replaced_program_keeps_the_old_one),
        WITH_FILES(test_confirmed_program_stays),
        WITH_FILES(test_program_that_never_comes_up_is_taken_back),
        WITH_FILES(test_going_back_twice_is_where_it_began),
        WITH_FILES(test_nothing_to_go_back_to_is_an_error),
        WITH_FILES(test_missing_upload_leaves_the_old_one),
        WITH_FILES(test_seed_does_not_undo_an_upgrade),
        WITH_FILES(test_seed_does_not_undo_a_way_back),
        WITH_FILES(test_other_seed_is_installed_and_ends_the_trial),
    };

    return cmocka_run_group_tests_name("guest_program", tests, NULL, NULL);
}
