/* SPDX-License-Identifier: Apache-2.0 */
/* What every dialer does, with one that connects nowhere. */
#include "peer/dialer.h"
#include "test.h"

struct fixture {
    struct dialer dialer;
    bool up;
    int opened, cancelled;
};

static struct dialing *on_open(struct dialer *dialer, const struct peer_address *to, dialer_fn done,
                               void *arg)
{
    struct fixture *f = container_of(dialer, struct fixture, dialer);

    f->opened++;
    return f->up ? arg : NULL;
}

static void on_cancel(struct dialer *dialer, struct dialing *dialing)
{
    container_of(dialer, struct fixture, dialer)->cancelled++;
}

static bool on_is_up(const struct dialer *dialer)
{
    return ((const struct fixture *)dialer)->up;
}

static const struct dialer_ops ops = {.open = on_open, .cancel = on_cancel, .is_up = on_is_up};

struct seen {
    struct dialer_watch watch;
    struct dialer *dialer;
    int ups, downs;
};

static void on_changed(bool up, void *arg)
{
    struct seen *seen = arg;

    *(up ? &seen->ups : &seen->downs) += 1;
    if (!up) {
        dialer_unwatch(seen->dialer, &seen->watch);
    }
}

static void test_watches_are_told_until_they_leave(void **state)
{
    struct fixture f = {.dialer.ops = &ops, .up = true};
    struct seen seen[3];

    for (size_t i = 0; i < ARRAY_LEN(seen); i++) {
        seen[i] =
            (struct seen){.watch = {.changed = on_changed, .arg = &seen[i]}, .dialer = &f.dialer};
        dialer_watch(&f.dialer, &seen[i].watch);
    }
    dialer_changed(&f.dialer);
    dialer_unwatch(&f.dialer, &seen[1].watch);
    f.up = false;
    dialer_changed(&f.dialer);
    dialer_changed(&f.dialer);
    for (size_t i = 0; i < ARRAY_LEN(seen); i++) {
        assert_int_equal(seen[i].ups, 1);
        assert_int_equal(seen[i].downs, i == 1 ? 0 : 1);
    }
    assert_null(f.dialer.watches);
}

static void test_only_what_is_under_way_is_cancelled(void **state)
{
    struct fixture f = {.dialer.ops = &ops, .up = true};
    const struct peer_address to = {.network = PEER_NETWORK_TCP, .port = 80};

    dialer_cancel(&f.dialer, dialer_open(&f.dialer, &to, NULL, &f));
    f.up = false;
    dialer_cancel(&f.dialer, dialer_open(&f.dialer, &to, NULL, &f));
    assert_int_equal(f.opened, 2);
    assert_int_equal(f.cancelled, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_watches_are_told_until_they_leave),
        cmocka_unit_test(test_only_what_is_under_way_is_cancelled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
