/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "forward/spec.h"

static void test_every_form_becomes_a_rule(void **state)
{
    static const struct {
        const char *spec, *rule;
    } cases[] = {
        {"8080", "{\"guestPort\":8080,\"hostPort\":8080}"},
        {"8080:80", "{\"guestPort\":80,\"hostPort\":8080}"},
        {"8080:80/udp", "{\"guestPort\":80,\"hostPort\":8080,\"proto\":\"udp\"}"},
        {"53/any", "{\"guestPort\":53,\"hostPort\":53,\"proto\":\"any\"}"},
        {"0.0.0.0:8080:80", "{\"guestPort\":80,\"hostIP\":\"0.0.0.0\",\"hostPort\":8080}"},
        {"8080:10.0.0.5:80", "{\"guestIP\":\"10.0.0.5\",\"guestPort\":80,\"hostPort\":8080}"},
        {"127.0.0.2:8080:10.0.0.5:80/tcp",
         "{\"guestIP\":\"10.0.0.5\",\"guestPort\":80,\"hostIP\":\"127.0.0.2\",\"hostPort\":8080,"
         "\"proto\":\"tcp\"}"},
        {"[::1]:8080:[::]:80",
         "{\"guestIP\":\"::\",\"guestPort\":80,\"hostIP\":\"::1\",\"hostPort\":8080}"},
        {"8000-8010", "{\"guestPortRange\":[8000,8010],\"hostPortRange\":[8000,8010]}"},
        {"8000-8010:9000-9010", "{\"guestPortRange\":[9000,9010],\"hostPortRange\":[8000,8010]}"},
        {"80-80:81", "{\"guestPort\":81,\"hostPort\":80}"},
        {"1:65535", "{\"guestPort\":65535,\"hostPort\":1}"},
        {"/tmp/a.sock:/run/b.sock",
         "{\"guestSocket\":\"/run/b.sock\",\"hostSocket\":\"/tmp/a.sock\"}"},
        {"8080:/run/udp", "{\"guestSocket\":\"/run/udp\",\"hostPort\":8080}"},
        {"/tmp/a.sock:80", "{\"guestPort\":80,\"hostSocket\":\"/tmp/a.sock\"}"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(free) char *got = NULL;
        jv rule;

        assert_works(forward_spec_parse(cases[i].spec, &rule, &err), &err);
        got = value_to_json(rule, true);
        assert_string_equal(got, cases[i].rule);
    }
}

static void test_what_is_wrong_is_named_with_its_place(void **state)
{
    static const struct {
        const char *spec, *part;
    } cases[] = {
        {"", "character 1: something is missing"},
        {":80", "character 1: something is missing"},
        {"80:", "character 4: something is missing"},
        {"0", "character 1: '0' is not a port"},
        {"65536", "character 1: '65536' is not a port"},
        {"99999999999999999999:1", "character 1: '9999"},
        {"80:x", "character 4: 'x' is not a port"},
        {"80:-1", "character 4: '-1' is not a port"},
        {"80:1-", "character 4: '1-' is not a port"},
        {"80:1-2-3", "character 4: '1-2-3' is not a port"},
        {"8010-8000", "character 1: '8010-8000' does not ascend"},
        {"8000-8010:80", "character 11: '80' is not as wide as '8000-8010'"},
        {"127.0.0:80:80", "character 1: '127.0.0' is not an IPv4 address"},
        {"127.0.0.1", "character 10: the port of the host is missing"},
        {"127.0.0.1:80", "character 13: the port of the guest is missing"},
        {"80:10.0.0.1", "character 12: the port of the guest is missing"},
        {"1.1.1.1:2.2.2.2:80", "character 9: a port of the host is wanted"},
        {"1:2:3", "character 5: this is too much"},
        {"1.1.1.1:2:1.1.1.2:4:5", "character 21: this is too much"},
        {"[::1:80:80", "character 1: ']' is missing"},
        {"[1]:80:80", "character 1: '1' is not an IPv6 address"},
        {"[::1]80", "character 6: ':' is missing"},
        {"80:80/icmp", "character 7: 'icmp' is none of tcp, udp, any"},
        {"80:80/", "character 7: '' is none"},
        {"/a:8000-8010", "character 4: a socket goes with one port"},
        {"8000-8010:/a", "character 1: a socket goes with one port"},
        {"/a", "character 3: the port of the guest is missing"},
        {"/a:80/udp", "character 7: sockets do not go with udp"},
        {"127.0.0.1:/a:80", "character 11: a port of the host is wanted"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        jv rule;

        assert_fails(forward_spec_parse(cases[i].spec, &rule, &err), &err, EINVAL, cases[i].part);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_form_becomes_a_rule),
        cmocka_unit_test(test_what_is_wrong_is_named_with_its_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
