/* SPDX-License-Identifier: Apache-2.0 */
/* Real sockets of this process come and go; the kernel's notices are what is tested. */
#include "test.h"
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
#include "forward/release.h"

static struct {
    struct loop *loop;
    struct forward_release *release;
    uint16_t wanted;
    int others; /* notices of anything at all, or without a port */
} f;

static void on_release(uint16_t port, void *arg)
{
    if (port == 0) {
        f.others++;
    }
    if (port == f.wanted) {
        loop_quit(f.loop, 0);
    }
}

static int setup(void **state)
{
    f.loop = loop_new();
    f.release = forward_release_new(f.loop, on_release, NULL);
    f.others = 0;
    return 0;
}

static int teardown(void **state)
{
    forward_release_free(f.release);
    loop_free(f.loop);
    return 0;
}

/* A socket that is bound to a port of its own. */
static int bound(int type, uint16_t *ret_port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    *ret_port = ntohs(addr.sin_port);
    return fd;
}

static void test_a_closed_socket_is_told_by_its_port(void **state)
{
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM};

    if (!f.release) {
        skip();
    }
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        int fd = bound(types[i], &f.wanted);

        close(fd);
        assert_int_equal(loop_run(f.loop), 0);
    }
}

/* As a listener does that finds its port taken: it must not wake itself. */
static void test_a_socket_that_never_had_a_port_is_no_news(void **state)
{
    uint16_t taken;
    int holder = bound(SOCK_STREAM, &taken), fd;

    if (!f.release) {
        skip();
    }
    for (int i = 0; i < 5; i++) {
        struct sockaddr_in addr = {.sin_family = AF_INET,
                                   .sin_port = htons(taken),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int failed = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(bind(failed, (struct sockaddr *)&addr, sizeof(addr)), -1);
        close(failed);
    }
    fd = bound(SOCK_STREAM, &f.wanted); /* whose notice comes behind theirs */
    close(fd);
    assert_int_equal(loop_run(f.loop), 0);
    assert_int_equal(f.others, 0);
    close(holder);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_a_closed_socket_is_told_by_its_port),
        T(test_a_socket_that_never_had_a_port_is_no_news),
    };

    return cmocka_run_group_tests_name("forward_release", tests, NULL, NULL);
}
