/* SPDX-License-Identifier: Apache-2.0 */
/* The child is this program itself, called with an argument. */
#include "test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "child.h"
#include "loop.h"

#define FLOOD (1u << 20)
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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flood_of_output_leaves_others_their_turn),
    };

    return argc > 1 ? flood() : cmocka_run_group_tests(tests, NULL, NULL);
}
