/* SPDX-License-Identifier: Apache-2.0 */
/* The child is this program itself, called with an argument. */
#include "test.h"

#include <fcntl.h>
#include <linux/keyctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "child.h"
#include "loop.h"

#define FLOOD (1u << 20)
#define FEW   32
#define MINE  0x3f000000 /* permissions of a key: all, for who has it in a keyring */
#define MANY  64
#define TURN  (256u << 10) /* bytes after which others must have had their turn */

struct fixture {
    struct loop *loop;
    size_t total, turn, longest_turn;
};

/* As much as a pipe can be made to hold, so that it is full when the parent begins to read. */
static int flood(void)
{
    scoped(free) char *text = xcalloc(1, FLOOD);

    return fcntl(STDOUT_FILENO, F_SETPIPE_SZ, FLOOD) == FLOOD &&
                   write(STDOUT_FILENO, text, FLOOD) == FLOOD
               ? 0
               : 1;
}

static void on_output(const void *data, size_t len, void *arg)
{
    struct fixture *f = arg;

    f->total += len;
    f->turn += len;
    f->longest_turn = MAX(f->longest_turn, f->turn);
    if (f->total == FLOOD) {
        loop_quit(f->loop);
    }
}

static void on_exited(int status, void *arg)
{
}

static void on_turn(void *arg)
{
    struct fixture *f = arg;

    f->turn = 0;
}

static void test_flood_of_output_leaves_others_their_turn(void **state)
{
    static const char *const argv[] = {"/proc/self/exe", "flood", NULL};
    static const char *const envp[] = {NULL};
    struct fixture f = {.loop = loop_new()};
    struct children *children = children_new(f.loop);
    const struct child_options options = {.argv = argv,
                                          .envp = envp,
                                          .dir = "/",
                                          .output = on_output,
                                          .exited = on_exited,
                                          .arg = &f};
    int null = open("/dev/null", O_WRONLY), own = dup(STDERR_FILENO);
    struct child *child;
    siginfo_t info;

    alarm(60);
    assert_int_equal(child_start(children, &options, &child, NULL), 0);
    assert_int_equal(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
    if (info.si_status != 0) {
        print_message("no large pipes here\n");
        skip();
    }
    dup2(null, STDERR_FILENO);
    loop_set_prepare(f.loop, on_turn, &f);
    loop_run(f.loop);
    dup2(own, STDERR_FILENO);
    assert_int_equal(f.total, FLOOD);
    assert_in_range(f.longest_turn, 65536, TURN);
    children_reap(children);
    children_free(children);
    loop_free(f.loop);
    close(null);
    close(own);
}

/* Says to whom starts it how many descriptors it has besides 0 to 2. */
static int count(void)
{
    char got = '0';

    for (int fd = 3; fd < MANY; fd++) {
        got += fcntl(fd, F_GETFD) >= 0;
    }
    return write(STDOUT_FILENO, &got, 1) == 1 ? 0 : 1;
}

static void on_ended(const struct process_end *end, void *arg)
{
    *(struct process_end *)arg = *end;
}

/* Started with a pipe as its output, whose other end is in *ret_fd. */
static struct process *start(struct children *children, const char *what, struct process_end *end,
                             int *ret_fd)
{
    const char *const argv[] = {"/proc/self/exe", what, NULL};
    static const char *const envp[] = {NULL};
    struct spawn_options options = {.path = argv[0], .argv = argv, .envp = envp, .dir = "/"};
    struct process *process;
    int fds[2], status_fd;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    options.fds[0] = options.fds[1] = options.fds[2] = fds[1];
    assert_int_equal(process_start(children, &options, on_ended, end, &process, &status_fd, NULL),
                     0);
    close(fds[1]);
    close(status_fd);
    *ret_fd = fds[0];
    return process;
}

/* The limit that the child gets back is below the numbers of our descriptors. */
static void test_process_gets_its_descriptors_and_no_other_however_many_are_open(void **state)
{
    struct rlimit before, few, many;
    struct loop *loop = loop_new();
    struct process_end end = {.status = -1};
    struct process *process;
    struct children *children;
    int held[MANY], fd;
    siginfo_t info;
    char got = 0;

    alarm(60);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = many = before;
    few.rlim_cur = FEW;
    many.rlim_cur = 2 * MANY;
    setrlimit(RLIMIT_NOFILE, &few);
    children = children_new(loop);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &many), 0);
    for (size_t i = 0; i < MANY; i++) {
        held[i] = dup(STDERR_FILENO); /* and without O_CLOEXEC */
    }
    process = start(children, "count", &end, &fd);
    assert_int_equal(read(fd, &got, 1), 1);
    assert_int_equal(got, '0');
    assert_int_equal(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
    children_reap(children);
    assert_int_equal(end.status, 0);
    for (size_t i = 0; i < MANY; i++) {
        close(held[i]);
    }
    setrlimit(RLIMIT_NOFILE, &before);
    close(fd);
    process_release(process);
    children_free(children);
    loop_free(loop);
}

/* It may have no group of its own yet. */
static void test_process_that_was_just_started_can_be_signalled(void **state)
{
    struct loop *loop = loop_new();
    struct children *children = children_new(loop);

    alarm(60);
    for (int i = 0; i < 20; i++) {
        struct process_end end = {.status = -1};
        struct process *process;
        siginfo_t info;
        int fd;

        process = start(children, "wait", &end, &fd);
        process_kill(process, SIGHUP);
        assert_int_equal(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
        children_reap(children);
        assert_int_equal(end.signal, SIGHUP);
        close(fd);
        process_release(process);
    }
    children_free(children);
    loop_free(loop);
}

static long key_call(int call, long a, long b, long c)
{
    return syscall(SYS_keyctl, call, a, b, c, 0);
}

/* Whether it reads the key, and whether it has a keyring to put its own into. */
static int read_key(const char *number)
{
    char value[8];
    bool read = key_call(KEYCTL_READ, atol(number), (long)value, sizeof(value)) >= 0;
    bool add = syscall(SYS_add_key, "user", "lima-own", "x", 1, KEY_SPEC_SESSION_KEYRING) >= 0;

    return read ? 1 : add ? 0 : 2;
}

/* Keys in the agent's session keyring would be shared by the commands of all users. */
static void test_keys_of_one_command_are_not_anothers(void **state)
{
    static const char *const envp[] = {NULL};
    const struct spawn_identity root = {"root", 0, 0};
    char number[32];
    const char *const argv[] = {"/proc/self/exe", "key", number, NULL};
    struct spawn_options options = {
        .path = argv[0], .argv = argv, .envp = envp, .dir = "/", .as = &root, .fds = {0, 1, 2}};
    struct process_end end = {.status = -1};
    struct loop *loop = loop_new();
    struct children *children = children_new(loop);
    struct process *process;
    siginfo_t info;
    int status_fd;
    long key = -1;

    alarm(60);
    if (geteuid() == 0 && key_call(KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0) >= 0) {
        key = syscall(SYS_add_key, "user", "lima-test", "x", 1, KEY_SPEC_SESSION_KEYRING);
    }
    if (key < 0 || key_call(KEYCTL_SETPERM, key, MINE, 0) < 0) {
        print_message("no keys here\n");
        skip();
    }
    snprintf(number, sizeof(number), "%ld", key);
    assert_int_equal(process_start(children, &options, on_ended, &end, &process, &status_fd, NULL),
                     0);
    assert_int_equal(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
    children_reap(children);
    assert_int_equal(end.status, 0);
    close(status_fd);
    process_release(process);
    children_free(children);
    loop_free(loop);
}

static int wait_for_signal(void)
{
    alarm(60);
    return pause();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flood_of_output_leaves_others_their_turn),
        cmocka_unit_test(test_process_gets_its_descriptors_and_no_other_however_many_are_open),
        cmocka_unit_test(test_process_that_was_just_started_can_be_signalled),
        cmocka_unit_test(test_keys_of_one_command_are_not_anothers),
    };

    signal(SIGHUP, SIG_DFL); /* who runs the tests may ignore it, as nohup does */
    if (argc > 1) {
        return strcmp(argv[1], "flood") == 0   ? flood()
               : strcmp(argv[1], "count") == 0 ? count()
               : strcmp(argv[1], "key") == 0   ? read_key(argv[2])
                                               : wait_for_signal();
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
