/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "incoming.h"

static struct loop *loop;
static struct incoming *incoming;
static size_t rooms;

static void on_room(struct incoming_owner *owner)
{
    rooms++;
    loop_quit(loop);
}

static int setup(void **state)
{
    loop = loop_new();
    incoming = incoming_new(loop, 20);
    rooms = 0;
    return 0;
}

static int teardown(void **state)
{
    incoming_free(incoming);
    loop_free(loop);
    return 0;
}

static int connection(int *ret_other)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    *ret_other = fds[1];
    return fds[0];
}

static void test_what_waits_is_taken_once_by_who_may(void **state)
{
    struct incoming_owner host = {.accepts = INCOMING_FOR_HOST};
    struct incoming_owner guest = {.accepts = INCOMING_FOR_GUEST};
    struct incoming_taken taken;
    int other[2];
    uint64_t first = incoming_add_fd(incoming, &host, connection(&other[0]));
    uint64_t second = incoming_add_fd(incoming, &guest, connection(&other[1]));

    assert_true(first && second && first != second);
    assert_false(incoming_take(incoming, first, INCOMING_FOR_GUEST, &taken));
    assert_false(incoming_take(incoming, second, INCOMING_FOR_HOST, &taken));
    assert_true(incoming_take(incoming, first, INCOMING_FOR_HOST, &taken));
    assert_int_equal(write(taken.fd, "x", 1), 1);
    assert_false(incoming_take(incoming, first, INCOMING_FOR_HOST, &taken));
    assert_int_equal(host.waiting, 0);
    assert_int_equal(guest.waiting, 1);
    close(taken.fd);
    close(other[0]);
    close(other[1]);
    incoming_drop(incoming, &guest);
    assert_int_equal(guest.waiting, 0);
}

static void test_who_is_not_accepted_in_time_is_closed(void **state)
{
    struct incoming_owner owner = {.accepts = INCOMING_FOR_HOST, .room = on_room};
    struct incoming_taken taken;
    int other;
    uint64_t id = incoming_add_fd(incoming, &owner, connection(&other));
    char byte;

    assert_int_equal(loop_run(loop), 0);
    assert_int_equal(rooms, 1);
    assert_int_equal(owner.waiting, 0);
    assert_int_equal(read(other, &byte, 1), 0);
    assert_false(incoming_take(incoming, id, INCOMING_FOR_HOST, &taken));
    close(other);
}

static void test_an_owner_has_room_for_so_many(void **state)
{
    struct incoming_owner owner = {.accepts = INCOMING_FOR_HOST};
    int others[INCOMING_MAX];

    for (size_t i = 0; i < INCOMING_MAX; i++) {
        assert_true(incoming_has_room(&owner));
        incoming_add_fd(incoming, &owner, connection(&others[i]));
    }
    assert_false(incoming_has_room(&owner));
    incoming_drop(incoming, &owner);
    assert_true(incoming_has_room(&owner));
    for (size_t i = 0; i < INCOMING_MAX; i++) {
        char byte;

        assert_int_equal(read(others[i], &byte, 1), 0);
        close(others[i]);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_what_waits_is_taken_once_by_who_may),
        T(test_who_is_not_accepted_in_time_is_closed),
        T(test_an_owner_has_room_for_so_many),
    };

    return cmocka_run_group_tests_name("guest_incoming", tests, NULL, NULL);
}
