/* SPDX-License-Identifier: Apache-2.0 */
#include "fuselog.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/socket.h>
#include <unistd.h>
#include "test.h"

#define LARGE (1u << 20)

struct world {
    struct fuselog *log;
    int fds[2]; /* packets, as /dev/fuse gives them */
};

static const struct fuselog_mount about = {.id = {1, 2}, .tag = "lima-x", .point = "/mnt/x"};

static int setup(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct world *world = xnew(struct world);
    int size = 4 << 20;

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, world->fds), 0);
    setsockopt(world->fds[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
    assert_works(fuselog_new(&about, &world->log, &err), &err);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;

    fuselog_free(world->log);
    close(world->fds[0]);
    close(world->fds[1]);
    free(world);
    return 0;
}

/* One request of @len bytes comes and is read. */
static void come(struct world *world, uint64_t unique, uint32_t len)
{
    scoped(free) uint8_t *data = xcalloc(1, len);
    struct fuse_in_header head = {.len = len, .opcode = FUSE_WRITE, .unique = unique};

    memcpy(data, &head, sizeof(head));
    assert_int_equal(send(world->fds[0], data, len, 0), len);
    assert_true(fuselog_has_room(world->log));
    assert_int_equal(fuselog_read(world->log, world->fds[1], 0), len);
}

/* The requests that are there, oldest first. */
static void assert_order(const struct fuselog *log, const uint64_t *uniques, size_t count)
{
    const uint8_t *data;
    uint64_t seq = 0;
    size_t len;

    assert_int_equal(fuselog_count(log), count);
    for (size_t i = 0; i < count; i++) {
        seq = fuselog_next(log, seq, &data, &len);
        assert_int_not_equal(seq, 0);
        assert_int_equal(((const struct fuse_in_header *)data)->unique, uniques[i]);
        assert_int_equal(((const struct fuse_in_header *)data)->len, len);
    }
    assert_int_equal(fuselog_next(log, seq, &data, &len), 0);
}

static void test_requests_stay_in_their_order_until_they_are_answered(void **state)
{
    struct world *world = *state;

    come(world, 10, 60);
    come(world, 12, 300000);
    come(world, 14, 4096);
    come(world, 16, 4097);
    assert_order(world->log, (const uint64_t[]){10, 12, 14, 16}, 4);
    assert_true(fuselog_drop(world->log, 12));
    assert_false(fuselog_drop(world->log, 12));
    assert_true(fuselog_drop(world->log, 10));
    come(world, 18, 40);
    assert_order(world->log, (const uint64_t[]){14, 16, 18}, 3);
}

static void test_another_process_has_them_too(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct world *world = *state;
    int fd;

    come(world, 10, 60);
    come(world, 12, 300000);
    come(world, 14, 60);
    fuselog_drop(world->log, 10);
    fd = fcntl(fuselog_fd(world->log), F_DUPFD_CLOEXEC, 0);
    fuselog_free(world->log);
    assert_works(fuselog_open(fd, &world->log, &err), &err);
    assert_string_equal(fuselog_mount(world->log)->point, "/mnt/x");
    assert_order(world->log, (const uint64_t[]){12, 14}, 2);
    come(world, 16, 60);
    assert_order(world->log, (const uint64_t[]){12, 14, 16}, 3);
}

static void test_nothing_to_read_leaves_no_trace(void **state)
{
    struct world *world = *state;

    for (int i = 0; i < 100; i++) {
        assert_int_equal(fuselog_read(world->log, world->fds[1], 0), -EAGAIN);
    }
    assert_int_equal(fuselog_count(world->log), 0);
    assert_true(fuselog_has_room(world->log));
}

static void test_a_full_log_says_so(void **state)
{
    struct world *world = *state;
    uint64_t unique = 2;

    while (fuselog_has_room(world->log)) {
        come(world, unique, unique % 8 ? 60 : LARGE);
        unique += 2;
        assert_true(unique < 10000);
    }
    assert_true(fuselog_drop(world->log, 8)); /* a large one */
    assert_true(fuselog_has_room(world->log));
}

static void test_what_is_no_log_is_refused(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct fuselog *log = NULL;

    assert_fails(fuselog_open(open("/dev/null", O_RDWR), &log, &err), &err, EBADMSG, "no log");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_requests_stay_in_their_order_until_they_are_answered),
        T(test_another_process_has_them_too),
        T(test_nothing_to_read_leaves_no_trace),
        T(test_a_full_log_says_so),
        T(test_what_is_no_log_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
