/* SPDX-License-Identifier: Apache-2.0 */
/* A user's master, of a real ssh with a real sshd. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include "base/buf.h"
#include "ssh/ssh.h"
#include "sshd_fixture.h"
#include "test.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"

#define DEADLINE_MS 30000

static struct sshd sshd;
static char *master_socket;

static int setup(void **state)
{
    if (sshd_open(&sshd, NULL)) {
        master_socket = path_join(sshd.dir, "ssh.sock");
    }
    return 0;
}

static int teardown(void **state)
{
    sshd_close(&sshd);
    free(master_socket);
    return 0;
}

/* In the background; it has logged in when this returns. False: sshd does not listen yet. */
static bool master_start(void)
{
    scoped(free) char *port = xasprintf("%d", sshd.port);
    struct process_options options = PROCESS_OPTIONS_INIT;
    const char *argv[] = {"ssh",       "-F",
                          "/dev/null", "-f",
                          "-N",        "-M",
                          "-S",        master_socket,
                          "-i",        sshd.key,
                          "-p",        port,
                          "-l",        sshd.user,
                          "-o",        "StrictHostKeyChecking=no",
                          "-o",        "UserKnownHostsFile=/dev/null",
                          "127.0.0.1", NULL};
    int status;
    pid_t pid;

    assert_int_equal(process_start(argv, &options, &pid, NULL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status == 0;
}

static pid_t master_pid(void)
{
    const char *argv[] = {"ssh", "-F", "/dev/null", "-S", master_socket, "-O", "check", "x", NULL};
    scoped(buf_done) struct buf out = BUF_INIT;
    int pid = 0;

    process_capture(argv, NULL, DEADLINE_MS, &out, &out, NULL);
    return sscanf(buf_str(&out), "Master running (pid=%d)", &pid) == 1 ? pid : 0;
}

static void test_a_master_is_ended_by_its_socket(void **state)
{
    pid_t pid;

    if (!master_socket) {
        skip();
    }
    while (!master_start()) { /* as long as sshd starts */
    }
    pid = master_pid();
    assert_true(pid > 1);
    ssh_master_stop(sshd.dir);
    assert_int_equal(process_wait(pid, DEADLINE_MS), 0);
    assert_false(file_exists(master_socket));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_master_is_ended_by_its_socket, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
