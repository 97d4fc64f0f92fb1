/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <arpa/inet.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "forward/bind.h"
#include "forward/holder.h"

static struct forward_endpoint endpoint(const char *ip, uint16_t port, enum config_proto proto)
{
    struct forward_endpoint e = {.proto = proto, .port = port};

    e.address.family = strchr(ip, ':') ? AF_INET6 : AF_INET;
    assert_int_equal(inet_pton(e.address.family, ip, &e.address.v4), 1);
    return e;
}

static void test_our_own_sockets_are_found_with_name_and_number(void **state)
{
    static const struct {
        const char *bound, *wanted;
        enum config_proto proto;
    } cases[] = {
        {"127.0.0.1", "127.0.0.1", CONFIG_PROTO_TCP},
        {"0.0.0.0", "127.0.0.1", CONFIG_PROTO_TCP},
        {"127.0.0.1", "127.0.0.1", CONFIG_PROTO_UDP},
        {"0.0.0.0", "127.0.0.3", CONFIG_PROTO_UDP},
    };
    scoped(free) char *want = xasprintf("process %d (", (int)getpid());

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct forward_endpoint bound = endpoint(cases[i].bound, 0, cases[i].proto);
        struct forward_endpoint wanted;
        scoped(fd_close) int fd = -1;
        scoped(free) char *text = NULL;
        bool tcp = cases[i].proto == CONFIG_PROTO_TCP;
        uint16_t port;

        assert_int_equal(forward_bind(&bound, tcp ? SOCK_STREAM : SOCK_DGRAM, &fd, &port, NULL), 0);
        assert_true(!tcp || listen(fd, 1) == 0);
        wanted = endpoint(cases[i].wanted, port, cases[i].proto);
        text = forward_holder_find(&wanted);
        assert_non_null(text);
        assert_true(strncmp(text, want, strlen(want)) == 0);
    }
}

/* Any user of the host may name a process. */
static void test_a_name_that_steers_a_terminal_is_made_harmless(void **state)
{
    struct forward_endpoint bound = endpoint("127.0.0.1", 0, CONFIG_PROTO_TCP);
    char own[16];
    scoped(fd_close) int fd = -1;
    scoped(free) char *want = xasprintf("process %d (a?[2J?b?c)", (int)getpid());
    scoped(free) char *text = NULL;

    assert_int_equal(forward_bind(&bound, SOCK_STREAM, &fd, &bound.port, NULL), 0);
    assert_int_equal(listen(fd, 1), 0);
    prctl(PR_GET_NAME, own);
    prctl(PR_SET_NAME, "a\033[2J\nb\x9b"
                       "c");
    text = forward_holder_find(&bound);
    prctl(PR_SET_NAME, own);
    assert_string_equal(text, want);
}

static void test_what_nobody_has_is_not_found(void **state)
{
    struct forward_endpoint free_one = endpoint("127.0.0.1", 0, CONFIG_PROTO_TCP);
    struct forward_endpoint socket_one = {.socket = "/x"};
    int fd;

    assert_int_equal(forward_bind(&free_one, SOCK_STREAM, &fd, &free_one.port, NULL), 0);
    close(fd);
    assert_null(forward_holder_find(&free_one));
    assert_null(forward_holder_find(&socket_one));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_our_own_sockets_are_found_with_name_and_number),
        cmocka_unit_test(test_a_name_that_steers_a_terminal_is_made_harmless),
        cmocka_unit_test(test_what_nobody_has_is_not_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
