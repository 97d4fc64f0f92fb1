/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdlib.h>
#include <unistd.h>
#include "agent/pidfile.h"
#include "util/process.h"

struct fixture {
    char path[64];
    int fd;
};

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);

    strcpy(f->path, "/tmp/lima-test-pidfile.XXXXXX");
    close(mkstemp(f->path));
    f->fd = -1;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    unlink(f->path);
    fd_close(f->fd);
    free(f);
    return 0;
}

static void test_claim_writes_our_pid(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(pidfile_claim(f->path, &f->fd, NULL), 0);
    assert_int_equal(process_read_pidfile(f->path), getpid());
}

static void test_second_claim_is_refused_until_the_first_is_given_up(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(fd_close) int second = -1;

    assert_int_equal(pidfile_claim(f->path, &f->fd, NULL), 0);
    assert_fails(pidfile_claim(f->path, &second, &err), &err, EBUSY, "locked by another process");
    unlink(f->path);
    fd_close(f->fd);
    f->fd = -1;
    assert_int_equal(pidfile_claim(f->path, &second, NULL), 0);
    assert_int_equal(access(f->path, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_claim_writes_our_pid, setup, teardown),
        cmocka_unit_test_setup_teardown(test_second_claim_is_refused_until_the_first_is_given_up,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
