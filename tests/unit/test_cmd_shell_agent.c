/* SPDX-License-Identifier: Apache-2.0 */
/* `limactl shell` in a child, whose standard output is a pipe; the test is the agent's socket. */
#include "test.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "cmd/shell_agent.h"
#include "guest.pb-c.h"
#include "peer/wire.h"
#include "util/file.h"
#include "util/path.h"

#define WAIT_MS 20000
#define OUTPUT  12288 /* more than the pipe takes; with the rest, one packet of the socket */

struct fixture {
    char dir[64];
    char *socket;
    int listener, agent; /* the latter: its end of the connection */
    int out;             /* the end of the pipe that is read */
    pid_t pid;
};

static _noreturn_ void run_shell(const struct fixture *f, int out)
{
    static const char *const argv[] = {"", NULL};
    const struct peer_exec_request request = {.argv = argv, .user = "", .dir = ""};

    dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    close(out);
    close(f->out); /* or nobody would notice that it is read no more */
    _exit(shell_agent_run(f->socket, "vm", &request, NULL));
}

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);
    int fds[2];

    *state = f;
    strcpy(f->dir, "/tmp/test_shell.XXXXXX");
    if (!mkdtemp(f->dir) || pipe(fds) < 0 || fcntl(fds[1], F_SETPIPE_SZ, 4096) < 0) {
        return -1;
    }
    f->socket = path_join(f->dir, "ga.sock");
    if (file_listen_unix(f->socket, 1, &f->listener, NULL) < 0) {
        return -1;
    }
    f->out = fds[0];
    f->pid = fork();
    if (f->pid == 0) {
        run_shell(f, fds[1]);
    }
    close(fds[1]);
    f->agent = -1;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->pid > 0) {
        kill(f->pid, SIGKILL);
        waitpid(f->pid, NULL, 0);
    }
    fd_close(f->agent);
    fd_close(f->listener);
    fd_close(f->out);
    file_remove_tree(f->dir, NULL);
    free(f->socket);
    free(f);
    return 0;
}

static void wait_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
}

static void accept_shell(struct fixture *f)
{
    wait_readable(f->listener);
    f->agent = accept(f->listener, NULL, NULL);
    assert_true(f->agent >= 0);
}

/* The whole of a command, in one packet. */
static void answer(const struct fixture *f, uint32_t status)
{
    Lima__Guest__V1__ExecOutput out = LIMA__GUEST__V1__EXEC_OUTPUT__INIT;
    Lima__Guest__V1__ExecOutput end = LIMA__GUEST__V1__EXEC_OUTPUT__INIT;
    Lima__Guest__V1__ExecExit code = LIMA__GUEST__V1__EXEC_EXIT__INIT;
    scoped(buf_done) struct buf bytes = BUF_INIT;
    static uint8_t text[OUTPUT];

    out.kind_case = LIMA__GUEST__V1__EXEC_OUTPUT__KIND_OUT;
    out.out = (ProtobufCBinaryData){.data = text, .len = sizeof(text)};
    end.kind_case = LIMA__GUEST__V1__EXEC_OUTPUT__KIND_EXIT;
    end.exit = &code;
    code.status = status;
    wire_put_stream_reply(&bytes, 0, "");
    wire_put_message(&bytes, &out.base);
    wire_put_message(&bytes, &end.base);
    assert_int_equal(send(f->agent, bytes.data, bytes.len, MSG_NOSIGNAL), bytes.len);
}

/* How it ended, as waitpid() tells it. */
static int wait_end(struct fixture *f)
{
    int fd = (int)syscall(SYS_pidfd_open, f->pid, 0), status = 0;

    wait_readable(fd);
    close(fd);
    assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
    f->pid = -1;
    return status;
}

static void test_output_is_written_to_its_end_before_the_status(void **state)
{
    struct fixture *f = *state;
    static char got[OUTPUT + 1];
    size_t len = 0;
    ssize_t n;
    int status;

    accept_shell(f);
    answer(f, 37);
    while ((n = read(f->out, got, sizeof(got))) > 0) {
        len += (size_t)n;
    }
    assert_int_equal(len, OUTPUT);
    status = wait_end(f);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 37);
}

static void test_a_signal_ends_it_though_nobody_reads_what_is_left(void **state)
{
    struct fixture *f = *state;
    int status;

    accept_shell(f);
    answer(f, 0);
    wait_readable(f->out); /* it has read the end of the command */
    kill(f->pid, SIGTERM);
    status = wait_end(f);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_output_is_written_to_its_end_before_the_status),
        T(test_a_signal_ends_it_though_nobody_reads_what_is_left),
    };

    return cmocka_run_group_tests_name("cmd_shell_agent", tests, NULL, NULL);
}
