/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <unistd.h>
#include "api/events.h"

static void test_a_written_event_reads_back_and_has_only_what_is_set(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct api_event event = {.running = true,
                              .ssh_local_port = 40022,
                              .forward_type = "forwarding",
                              .forward_proto = "tcp",
                              .forward_guest = "127.0.0.1:80"};
    struct api_event_in in;
    scoped(free) char *json = NULL;
    char line[4096];
    int fds[2];
    ssize_t n;

    assert_int_equal(pipe(fds), 0);
    assert_works(api_event_write(fds[1], &event, &err), &err);
    n = read(fds[0], line, sizeof(line) - 1);
    assert_true(n > 0 && line[n - 1] == '\n');
    line[n - 1] = '\0';
    assert_works(api_event_parse(line, &in, &err), &err);
    json = value_to_json(in.status, true);
    assert_string_equal(json,
                        "{\"portForward\":{\"guestAddr\":\"127.0.0.1:80\",\"protocol\":\"tcp\","
                        "\"type\":\"forwarding\"},\"running\":true,\"sshLocalPort\":40022}");
    close(fds[0]);
    close(fds[1]);
}

static void test_times_are_read_with_fraction_and_zone(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } cases[] = {
        {"1970-01-01T00:00:01Z", 1000000000},
        {"1970-01-01T00:00:00.000000001Z", 1},
        {"1970-01-01T01:00:00.5+01:00", 500000000},
        {"1969-12-31T23:00:00-01:00", 0},
    };
    scoped(error_done) struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t ns = -1;

        assert_works(api_time_parse(cases[i].text, &ns, &err), &err);
        assert_true(ns == cases[i].ns);
    }
}

static void test_every_cut_of_a_line_is_refused(void **state)
{
    static const char line[] =
        "{\"time\":\"2026-01-02T03:04:05.6Z\",\"status\":{\"running\":true}}";
    struct api_event_in in;

    for (size_t len = 0; len < sizeof(line) - 1; len++) {
        scoped(free) char *cut = xstrndup(line, len);

        assert_int_equal(api_event_parse(cut, &in, NULL), -EINVAL);
    }
    assert_int_equal(api_event_parse("{\"time\":1,\"status\":{}}", &in, NULL), -EINVAL);
    assert_int_equal(api_event_parse("[]", &in, NULL), -EINVAL);
    assert_int_equal(api_event_parse("{\"time\":\"2026-01-02T03:04:05\",\"status\":{}}", &in, NULL),
                     -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_written_event_reads_back_and_has_only_what_is_set),
        cmocka_unit_test(test_times_are_read_with_fraction_and_zone),
        cmocka_unit_test(test_every_cut_of_a_line_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
