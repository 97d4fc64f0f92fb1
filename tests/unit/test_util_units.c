/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "util/units.h"

static void test_sizes_are_base_1024(void **state)
{
    static const struct {
        const char *text;
        int64_t bytes;
    } cases[] = {
        {"0", 0},
        {"12", 12},
        {"12 ", 12},
        {"4", 4},
        {"1b", 1},
        {"1B", 1},
        {"1k", 1024},
        {"1kb", 1024},
        {"1KiB", 1024},
        {"1.5g", 1610612736},
        {"100GiB", 107374182400},
        {"4 MB", 4194304},
        {"2M", 2097152},
        {"1t", 1099511627776},
        {"1 PiB", 1125899906842624},
        {".5k", 512},
        {"3.k", 3072},
        {"0.1", 0},
        {"9223372036854775807", INT64_MAX},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        int64_t bytes = -1;

        assert_works(size_parse(cases[i].text, &bytes, &err), &err);
        assert_int_equal(bytes, cases[i].bytes);
    }
}

static void test_malformed_sizes_are_refused(void **state)
{
    static const char *const cases[] = {
        "",    " ",    "1x",  "-1",  "+1", "k",  "1kk",  "1kibb", "1 kib ", "1  k", " 1k",  "1.2.3",
        "1e3", "0x10", "1ki", "1bb", ".",  ".k", "1k\n", "nan",   "inf",    "1eib", "1,5g",
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        int64_t bytes = -7;

        assert_fails(size_parse(cases[i], &bytes, &err), &err, EINVAL, "invalid size");
        assert_int_equal(bytes, -7);
    }
}

static void test_sizes_beyond_63_bits_are_refused(void **state)
{
    static const char *const cases[] = {"9223372036854775808", "8192pib", "99999999999999999999p"};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        int64_t bytes;

        assert_fails(size_parse(cases[i], &bytes, &err), &err, ERANGE, "too large");
    }
}

static void test_sizes_print_four_digits(void **state)
{
    static const struct {
        int64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0B"},
        {1, "1B"},
        {1023, "1023B"},
        {1024, "1KiB"},
        {2500, "2.441KiB"},
        {4294967296, "4GiB"},
        {4194000000, "3.906GiB"},
        {107374182400, "100GiB"},
        {INT64_MAX, "8EiB"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(free) char *text = size_format(cases[i].bytes);

        assert_string_equal(text, cases[i].text);
    }
}

static void test_durations_are_gos(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"0", 0},         {"-0", 0},           {"10m0s", 600000},    {"1.5h", 5400000},
        {"300ms", 300},   {"1h2m3s", 3723000}, {"2.5s", 2500},       {"999us", 0},
        {"1500000ns", 1}, {"-1.5s", -1500},    {"+1s", 1000},        {".5s", 500},
        {"5.s", 5000},    {"1\xc2\xb5s", 0},   {"2000\xce\xbcs", 2},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        int64_t ms = -1;

        assert_works(duration_parse(cases[i].text, &ms, &err), &err);
        assert_int_equal(ms, cases[i].ms);
    }
}

static void test_malformed_durations_are_refused(void **state)
{
    static const char *const cases[] = {
        "", "-", "10", "s", "1d", "1 s", "1s ", "1.2.3s", "1s2", "--1s", "1e3s", ".s", "3000000h",
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        int64_t ms;

        assert_fails(duration_parse(cases[i], &ms, &err), &err, EINVAL, "invalid duration");
    }
}

static void test_durations_print_as_go_does(void **state)
{
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        {0, "0s"},        {300, "300ms"},     {2500, "2.5s"},
        {90000, "1m30s"}, {600000, "10m0s"},  {3600000, "1h0m0s"},
        {-1500, "-1.5s"}, {59999, "59.999s"}, {3723004, "1h2m3.004s"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(free) char *text = duration_format(cases[i].ms);

        assert_string_equal(text, cases[i].text);
    }
}

static void test_identifiers_are_words_joined_by_one_mark(void **state)
{
    static const struct {
        const char *name;
        bool ok;
    } cases[] = {
        {"default", true}, {"a", true},         {"9", true},     {"a.b_c-D9", true}, {"", false},
        {"-a", false},     {"a-", false},       {"a..b", false}, {"a-_b", false},    {"a b", false},
        {"a/b", false},    {"\xc3\xa4", false}, {".", false},
    };
    char name[78];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(identifier_ok(cases[i].name), cases[i].ok);
    }

    memset(name, 'a', sizeof(name));
    name[76] = '\0';
    assert_true(identifier_ok(name));
    name[76] = 'a';
    name[77] = '\0';
    assert_false(identifier_ok(name));
}

static void test_instance_names_do_not_look_like_files(void **state)
{
    assert_true(instance_name_ok("default"));
    assert_true(instance_name_ok("yaml"));
    assert_false(instance_name_ok("a.yaml"));
    assert_false(instance_name_ok("a.YML"));
    assert_false(instance_name_ok("a/b"));
}

static void test_versions_compare_by_limas_rules(void **state)
{
    static const struct {
        const char *a, *b;
        int want;
    } cases[] = {
        {"1.1.1-114-gabc", "1.1.1", 1},
        {"1.1.1-114-gabc", "1.1.2", -1},
        {"<unknown>", "9.9.9", 1},
        {"", "0.0.1", -1},
        {"v2.0.0", "2.0.0", 0},
        {"2.0.0-alpha.1", "2.0.0", 1},
        {"2.0.0.m", "2.0.0", 0},
        {"10.0.0", "9.9.9", 1},
        {"1.2.3", "", 1},
        {"1.2.3", "x", -1},
        {"", "", 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(version_compare(cases[i].a, cases[i].b), cases[i].want);
    }
}

static void test_versions_have_three_numbers(void **state)
{
    assert_true(version_ok("1.0.0"));
    assert_true(version_ok("v1.0.0-rc.1"));
    assert_true(version_ok("1.0.0.m-3"));
    assert_false(version_ok("1.0"));
    assert_false(version_ok("2"));
    assert_false(version_ok("1.0.0.0"));
    assert_false(version_ok("1.x.0"));
    assert_false(version_ok("vv1.0.0"));
    assert_false(version_ok(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_are_base_1024),
        cmocka_unit_test(test_malformed_sizes_are_refused),
        cmocka_unit_test(test_sizes_beyond_63_bits_are_refused),
        cmocka_unit_test(test_sizes_print_four_digits),
        cmocka_unit_test(test_durations_are_gos),
        cmocka_unit_test(test_malformed_durations_are_refused),
        cmocka_unit_test(test_durations_print_as_go_does),
        cmocka_unit_test(test_identifiers_are_words_joined_by_one_mark),
        cmocka_unit_test(test_instance_names_do_not_look_like_files),
        cmocka_unit_test(test_versions_compare_by_limas_rules),
        cmocka_unit_test(test_versions_have_three_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
