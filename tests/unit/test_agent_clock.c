/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of a measurement, with a guest whose error and whose way there and back are known.
 */
#include "test.h"
#include "agent/clock.h"
#include "agent/guest.h"
#include "agent/upgrade.h"

#define MS   1000000ll
#define T0   1700000000000ll * MS
#define MONO 5000ll * MS

/* A probe that is @there_ns under way to a guest that is @behind_ns late, and @back_ns back. */
static struct clock_sample probe(int64_t behind_ns, int64_t there_ns, int64_t back_ns)
{
    return (struct clock_sample){.sent_ns = T0,
                                 .received_ns = T0 + there_ns + back_ns,
                                 .sent_mono_ns = MONO,
                                 .received_mono_ns = MONO + there_ns + back_ns,
                                 .guest_ns = T0 + there_ns - behind_ns};
}

static bool add(struct clock_burst *burst, int64_t behind_ns, int64_t there_ns, int64_t back_ns)
{
    struct clock_sample sample = probe(behind_ns, there_ns, back_ns);

    return clock_burst_add(burst, &sample);
}

static void test_even_way_gives_the_exact_error(void **state)
{
    static const int64_t errors[] = {100 * MS, -100 * MS, 3600000 * MS, -3600000 * MS};

    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        struct clock_burst burst = {0};

        add(&burst, errors[i], 20 * MS, 20 * MS);
        assert_int_equal(clock_burst_correction(&burst), errors[i]);
    }
}

static void test_uneven_way_is_never_wrong_by_more_than_half_of_it(void **state)
{
    for (int64_t there = 0; there <= 40; there += 5) {
        struct clock_burst burst = {0};
        int64_t correction;

        add(&burst, 300 * MS, there * MS, (40 - there) * MS);
        correction = clock_burst_correction(&burst);
        assert_in_range(correction, 280 * MS, 320 * MS);
    }
}

static void test_clock_that_is_right_is_never_adjusted(void **state)
{
    for (int64_t there = 0; there <= 4000; there += 250) {
        struct clock_burst burst = {0};

        add(&burst, 0, there * MS, (4000 - there) * MS);
        assert_int_equal(clock_burst_correction(&burst), 0);
    }
}

static void test_error_below_the_uncertainty_is_left(void **state)
{
    struct clock_burst burst = {0};

    add(&burst, 49 * MS, 50 * MS, 50 * MS);
    assert_int_equal(clock_burst_correction(&burst), 0);
    burst = (struct clock_burst){0};
    add(&burst, 51 * MS, 50 * MS, 50 * MS);
    assert_int_equal(clock_burst_correction(&burst), 51 * MS);
    burst = (struct clock_burst){0};
    add(&burst, CLOCK_IGNORE_NS, 0, 0);
    assert_int_equal(clock_burst_correction(&burst), 0);
}

static void test_quickest_probe_counts(void **state)
{
    struct clock_burst burst = {0};

    assert_false(add(&burst, 100 * MS, 900 * MS, 10 * MS));
    assert_false(add(&burst, 100 * MS, 1 * MS, 1 * MS));
    assert_false(add(&burst, 100 * MS, 10 * MS, 700 * MS));
    assert_false(add(&burst, 100 * MS, 500 * MS, 10 * MS));
    assert_true(add(&burst, 100 * MS, 10 * MS, 10 * MS));
    assert_int_equal(burst.rtt_ns, 2 * MS);
    assert_int_equal(clock_burst_correction(&burst), 100 * MS);
}

static void test_probe_over_a_step_of_our_own_clock_says_nothing(void **state)
{
    struct clock_burst burst = {0};
    struct clock_sample sample = probe(0, 1 * MS, 1 * MS);

    sample.received_ns += 3600000 * MS;
    assert_false(clock_burst_add(&burst, &sample));
    assert_int_equal(clock_burst_correction(&burst), 0);
    sample = probe(0, 1 * MS, 1 * MS);
    sample.received_ns -= 3600000 * MS;
    assert_false(clock_burst_add(&burst, &sample));
    assert_int_equal(clock_burst_correction(&burst), 0);
    add(&burst, 200 * MS, 1 * MS, 1 * MS);
    assert_int_equal(clock_burst_correction(&burst), 200 * MS);
}

static void test_probe_through_a_suspension_tells_of_it_only(void **state)
{
    struct clock_burst burst = {0};

    assert_false(add(&burst, 30000 * MS, 1 * MS, 60000 * MS));
    assert_true(burst.late);
    assert_int_equal(clock_burst_correction(&burst), 0);
    add(&burst, 60000 * MS, 1 * MS, 1 * MS);
    assert_true(burst.late);
    assert_int_equal(clock_burst_correction(&burst), 60000 * MS);
}

static void test_burst_ends_when_no_probe_is_good(void **state)
{
    struct clock_burst burst = {0};
    int probes = 1;

    while (!add(&burst, 0, CLOCK_LATE_NS, CLOCK_LATE_NS)) {
        probes++;
    }
    assert_int_equal(probes, CLOCK_TRIES);
    assert_int_equal(burst.good, 0);
}

static void test_any_time_of_a_guest_can_be_computed_with(void **state)
{
    static const int64_t times[] = {0, 1, INT64_MAX / 2};

    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        struct clock_burst burst = {0};
        struct clock_sample sample = probe(0, 1, 1);

        sample.guest_ns = times[i];
        clock_burst_add(&burst, &sample);
        assert_true(clock_burst_correction(&burst) == T0 + 1 - times[i]);
    }
}

static void test_only_an_older_version_is_upgraded_unasked(void **state)
{
    assert_true(upgrade_is_older("0.0.9", "0.1.0"));
    assert_true(upgrade_is_older("0.9.0", "0.10.0"));
    assert_false(upgrade_is_older("0.1.0", "0.1.0"));
    assert_false(upgrade_is_older("1.0.0", "0.1.0"));
    assert_false(upgrade_is_older("", "0.1.0"));
    assert_false(upgrade_is_older("nonsense", "0.1.0"));
}

static void check_document(const struct peer_info *info, const struct peer_health *health,
                           double age_s, const char *want)
{
    scoped(free) char *text = value_to_json(guest_document(info, health, age_s), false);

    assert_string_equal(text, want);
}

static void test_guest_is_described_with_and_without_its_health(void **state)
{
    const struct peer_info info = {.agent_version = "1",
                                   .boot_id = "b",
                                   .hostname = "h",
                                   .os = "o",
                                   .kernel = "k",
                                   .arch = "a",
                                   .uptime_ms = 1500};
    const struct peer_health health = {.uptime_ms = 2500,
                                       .load_milli = {500, 250, 0},
                                       .memory_total = 1ull << 40,
                                       .memory_available = 3,
                                       .disk_total = 4,
                                       .disk_available = 2,
                                       .processes = 9,
                                       .agent_rss_kib = 2,
                                       .agent_streams = 1,
                                       .port_method = "bpf"};

    check_document(&info, NULL, 0,
                   "{\"agentVersion\":\"1\",\"bootID\":\"b\",\"hostname\":\"h\",\"os\":\"o\","
                   "\"kernel\":\"k\",\"arch\":\"a\",\"uptime\":1.5,\"age\":0}");
    check_document(&info, &health, 7,
                   "{\"agentVersion\":\"1\",\"bootID\":\"b\",\"hostname\":\"h\",\"os\":\"o\","
                   "\"kernel\":\"k\",\"arch\":\"a\",\"uptime\":2.5,\"load\":[0.5,0.25,0],"
                   "\"processes\":9,\"memory\":{\"total\":1099511627776,\"available\":3},"
                   "\"swap\":{\"total\":0,\"free\":0},\"disk\":{\"total\":4,\"available\":2},"
                   "\"agent\":{\"memory\":2048,\"streams\":1,\"ports\":\"bpf\"},\"age\":7}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_even_way_gives_the_exact_error),
        cmocka_unit_test(test_uneven_way_is_never_wrong_by_more_than_half_of_it),
        cmocka_unit_test(test_clock_that_is_right_is_never_adjusted),
        cmocka_unit_test(test_error_below_the_uncertainty_is_left),
        cmocka_unit_test(test_quickest_probe_counts),
        cmocka_unit_test(test_probe_over_a_step_of_our_own_clock_says_nothing),
        cmocka_unit_test(test_probe_through_a_suspension_tells_of_it_only),
        cmocka_unit_test(test_burst_ends_when_no_probe_is_good),
        cmocka_unit_test(test_any_time_of_a_guest_can_be_computed_with),
        cmocka_unit_test(test_only_an_older_version_is_upgraded_unasked),
        cmocka_unit_test(test_guest_is_described_with_and_without_its_health),
    };

    return cmocka_run_group_tests_name("agent_clock", tests, NULL, NULL);
}
