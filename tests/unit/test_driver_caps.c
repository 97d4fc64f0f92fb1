/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/buf.h"
#include "driver/qemu/caps.h"
#include "driver/qemu/validate.h"
#include "util/file.h"
#include "util/path.h"

/* What QEMU 7.2 says, shortened. */
static const char answers[] =
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": "
    "\"Debian\"}, "
    "\"capabilities\": [\"oob\"]}}\r\n"
    "{\"return\": {}, \"id\": 1}\r\n"
    "{\"return\": [{\"name\": \"pc-q35-7.2\", \"alias\": \"q35\", \"cpu-max\": 288}, {\"name\": "
    "\"none\"}], \"id\": 2}\r\n"
    "{\"return\": [{\"name\": \"max\"}, {\"name\": \"host\"}, {\"name\": \"qemu64\"}], \"id\": "
    "3}\r\n"
    "{\"return\": [{\"name\": \"tcg-accel\", \"parent\": \"accel\"}, {\"name\": \"accel\"}], "
    "\"id\": 4}\r\n"
    "{\"return\": [{\"name\": \"virtio-blk-pci\"}, {\"name\": \"isa-debugcon\"}, {\"name\": "
    "\"virtio-net-pci\"}, "
    "{\"name\": \"virtio-rng-pci\"}, {\"name\": \"virtio-scsi-pci\"}, {\"name\": \"scsi-cd\"}, "
    "{\"name\": \"virtio-serial-pci\"}, {\"name\": \"virtserialport\"}], \"id\": 5}\r\n"
    "{\"return\": [{\"name\": \"1\", \"meta-type\": \"command\"}, {\"name\": \"2\", \"meta-type\": "
    "\"enum\", \"values\": "
    "[\"user\", \"tap\", \"hubport\"]}, {\"name\": \"3\", \"meta-type\": \"enum\", \"values\": "
    "[\"threads\", "
    "\"native\", \"io_uring\"]}], \"id\": 6}\r\n"
    "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 1}, \"event\": \"SHUTDOWN\", \"data\": "
    "{}}\r\n"
    "{\"return\": {}, \"id\": 7}\r\n";

static struct qemu_caps *parsed(void)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct qemu_caps *caps = NULL;

    assert_works(qemu_caps_parse(answers, strlen(answers), &caps, &err), &err);
    return caps;
}

static void assert_list(const struct strv *list, const char *want)
{
    char *got = strv_join(list, " ");

    assert_string_equal(got, want);
    free(got);
}

static void assert_caps(const struct qemu_caps *caps)
{
    assert_int_equal(caps->major, 7);
    assert_int_equal(caps->minor, 2);
    assert_int_equal(caps->micro, 22);
    assert_list(&caps->machines, "none pc-q35-7.2 q35");
    assert_list(&caps->cpus, "host max qemu64");
    assert_list(&caps->accels, "tcg");
    assert_list(&caps->devices,
                "scsi-cd virtio-blk-pci virtio-net-pci virtio-rng-pci virtio-scsi-pci "
                "virtio-serial-pci virtserialport");
    assert_list(&caps->netdevs, "hubport tap user");
    assert_list(&caps->aios, "io_uring native threads");
}

static void test_caps_are_read_from_the_answers(void **state)
{
    scoped(qemu_caps_free) struct qemu_caps *caps = parsed();

    assert_caps(caps);
    assert_true(qemu_caps_at_least(caps, 7, 2));
    assert_true(qemu_caps_at_least(caps, 6, 9));
    assert_false(qemu_caps_at_least(caps, 7, 3));
    assert_false(qemu_caps_at_least(caps, 8, 0));
}

static void test_caps_read_enumerations_of_later_versions(void **state)
{
    scoped(free) char *later = xasprintf(
        "%.*s{\"return\": [{\"meta-type\": \"enum\", \"members\": [{\"name\": \"tap\"}, {\"name\": "
        "\"hubport\"}, 3]}, {\"members\": 3}, 3], \"id\": 6}\n",
        (int)(strstr(answers, "{\"return\": [{\"name\": \"1\"") - answers), answers);
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(qemu_caps_free) struct qemu_caps *caps = NULL;

    assert_works(qemu_caps_parse(later, strlen(later), &caps, &err), &err);
    assert_list(&caps->netdevs, "hubport tap");
    assert_list(&caps->aios, "");
}

static void test_caps_need_every_answer(void **state)
{
    /* The end may miss the events and the reply to quit, which say nothing. */
    const char *enough = strstr(answers, "{\"timestamp\"");

    for (const char *end = answers; end < enough; end = strchr(end, '\n') + 1) {
        scoped(error_done) struct error err = ERROR_INIT;
        struct qemu_caps *caps = NULL;

        assert_fails(qemu_caps_parse(answers, (size_t)(end - answers), &caps, &err), &err, EPROTO,
                     "did not name");
    }
}

static void test_caps_refuse_other_words(void **state)
{
    static const struct {
        const char *text, *part;
        int code;
    } cases[] = {
        {"qemu: cannot\n", "not a QMP message", EBADMSG},
        {"{\"id\": 3, \"error\": {\"desc\": \"no such command\"}}\n", "question 3: no such command",
         EPROTO},
        {"{\"return\": {}, \"id\": 2}\n", "machines", 0},
        {"{\"return\": 7, \"id\": 6}\n", "netdevs", 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        struct qemu_caps *caps = NULL;
        int r = qemu_caps_parse(cases[i].text, strlen(cases[i].text), &caps, &err);

        assert_true(r < 0);
        assert_true(cases[i].code == 0 || r == -cases[i].code);
        assert_non_null(strstr(error_text(&err), cases[i].part));
    }
}

static void test_caps_come_back_from_the_cache(void **state)
{
    scoped(qemu_caps_free) struct qemu_caps *caps = parsed();
    scoped(qemu_caps_free) struct qemu_caps *again = NULL;
    scoped(free) char *text = qemu_caps_to_json(caps, "key");

    again = qemu_caps_from_json(text, "key");
    assert_non_null(again);
    assert_caps(again);
    assert_null(qemu_caps_from_json(text, "other"));
}

static void test_caps_of_a_damaged_cache_are_not_used(void **state)
{
    scoped(qemu_caps_free) struct qemu_caps *caps = parsed();
    scoped(free) char *text = qemu_caps_to_json(caps, "key");

    for (size_t len = 0; len < strlen(text); len++) {
        scoped(free) char *part = xstrndup(text, len);

        leaks_ignore(true);
        assert_null(qemu_caps_from_json(part, "key"));
        leaks_ignore(false);
    }
    assert_null(qemu_caps_from_json("[]", "key"));
    assert_null(qemu_caps_from_json("{\"key\":\"key\"}", "key"));
    assert_null(qemu_caps_from_json("{\"key\":\"key\",\"version\":3}", "key"));
}

/* --- the binary itself --- */

struct place {
    char *dir, *binary, *count;
};

static void write_program(const struct place *p, const char *extra)
{
    scoped(free) char *text =
        xasprintf("#!/bin/sh\necho x >>'%s'\ncat >/dev/null\n%s\ncat <<'END'\n%sEND\n", p->count,
                  extra, answers);

    assert_int_equal(file_write_text(p->binary, text, 0755, NULL), 0);
}

static int setup(void **state)
{
    char template[] = "/tmp/test-caps-XXXXXX";
    struct place *p = xnew(struct place);

    p->dir = xstrdup(mkdtemp(template));
    p->binary = path_join(p->dir, "qemu");
    p->count = path_join(p->dir, "count");
    setenv("XDG_CACHE_HOME", p->dir, 1);
    write_program(p, "");
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;

    unsetenv("XDG_CACHE_HOME");
    unsetenv("QEMU_SYSTEM_X86_64");
    file_remove_tree(p->dir, NULL);
    free(p->dir);
    free(p->binary);
    free(p->count);
    free(p);
    return 0;
}

static void assert_probes(const struct place *p, size_t want)
{
    scoped(buf_done) struct buf count = BUF_INIT;

    assert_int_equal(file_read(p->count, 4096, &count, NULL), 0);
    assert_int_equal(count.len, 2 * want);
}

static void get(const struct place *p)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(qemu_caps_free) struct qemu_caps *caps = NULL;

    assert_works(qemu_caps_get(p->binary, &caps, &err), &err);
    assert_caps(caps);
}

static void test_caps_are_asked_for_once_per_binary(void **state)
{
    struct place *p = *state;

    get(p);
    get(p);
    assert_probes(p, 1);
    write_program(p, "# another version");
    get(p);
    get(p);
    assert_probes(p, 2);
}

static void test_caps_carry_the_words_of_a_binary_that_fails(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct place *p = *state;
    struct qemu_caps *caps = NULL;

    write_program(p, "echo 'no such library' >&2; exit 3");
    assert_fails(qemu_caps_get(p->binary, &caps, &err), &err, EIO,
                 "ended with status 3: no such library");
}

static void test_binary_of_the_environment_wins(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct place *p = *state;
    scoped(free) char *value = xasprintf("%s  -s -S", p->binary);
    scoped(free) char *path = NULL;
    scoped(strv_done) struct strv extra = STRV_INIT;

    setenv("QEMU_SYSTEM_X86_64", value, 1);
    assert_works(qemu_binary_find("x86_64", &path, &extra, &err), &err);
    assert_string_equal(path, p->binary);
    assert_list(&extra, "-s -S");
}

static void test_binary_that_is_missing_names_the_package(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(strv_done) struct strv extra = STRV_INIT;
    char *path;

    setenv("QEMU_SYSTEM_X86_64", "/nonexistent/qemu", 1);
    assert_int_equal(qemu_binary_find("x86_64", &path, &extra, &err), -ENOENT);
    assert_non_null(strstr(err.hint, "qemu-system-x86"));
    error_done(&err);
    assert_fails(qemu_binary_find("vax", &path, &extra, &err), &err, ENOTSUP, "'vax'");
}

/* --- what a configuration needs --- */

static struct config config_of(const char *cpu_type)
{
    return (struct config){.os = "Linux", .arch = "x86_64", .cpu_type = (char *)cpu_type};
}

static void test_validate_accepts_what_the_binary_has(void **state)
{
    scoped(qemu_caps_free) struct qemu_caps *caps = parsed();
    scoped(error_done) struct error err = ERROR_INIT;
    struct config plain = config_of(""), model = config_of("qemu64,+ssse3");

    assert_works(qemu_validate_caps(&plain, "tcg", caps, &err), &err);
    assert_works(qemu_validate_caps(&model, "tcg", caps, &err), &err);
}

static void test_validate_names_what_the_binary_lacks(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(qemu_caps_free) struct qemu_caps *caps = parsed();
    struct config plain = config_of(""), model = config_of("vax780,+fpa");

    assert_fails(qemu_validate_caps(&plain, "kvm", caps, &err), &err, ENOTSUP, "accelerator 'kvm'");
    assert_fails(qemu_validate_caps(&model, "tcg", caps, &err), &err, EINVAL, "CPU model 'vax780'");
    strv_done(&caps->netdevs);
    strv_add(&caps->netdevs, "tap");
    assert_fails(qemu_validate_caps(&plain, "tcg", caps, &err), &err, ENOTSUP, "slirp");
    strv_done(&caps->devices);
    assert_fails(qemu_validate_caps(&plain, "tcg", caps, &err), &err, ENOTSUP, "virtio-blk-pci");
    caps->major = 3;
    assert_fails(qemu_validate_caps(&plain, "tcg", caps, &err), &err, ENOTSUP, "too old");
}

static void test_validate_refuses_what_is_not_supported_with_a_remedy(void **state)
{
    const struct config cases[] = {
        {.os = "Plan9", .arch = "x86_64"},
        {.os = "Linux", .arch = "s390x"},
        {.os = "Linux", .arch = "vax"},
        {.os = "Linux", .arch = "x86_64", .video_display = "gtk"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;

        assert_int_equal(qemu_validate(&cases[i], &err), -ENOTSUP);
        assert_non_null(err.hint);
    }
}

#define place_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_caps_are_read_from_the_answers),
        cmocka_unit_test(test_caps_read_enumerations_of_later_versions),
        cmocka_unit_test(test_caps_need_every_answer),
        cmocka_unit_test(test_caps_refuse_other_words),
        cmocka_unit_test(test_caps_come_back_from_the_cache),
        cmocka_unit_test(test_caps_of_a_damaged_cache_are_not_used),
        place_test(test_caps_are_asked_for_once_per_binary),
        place_test(test_caps_carry_the_words_of_a_binary_that_fails),
        place_test(test_binary_of_the_environment_wins),
        place_test(test_binary_that_is_missing_names_the_package),
        cmocka_unit_test(test_validate_accepts_what_the_binary_has),
        cmocka_unit_test(test_validate_names_what_the_binary_lacks),
        cmocka_unit_test(test_validate_refuses_what_is_not_supported_with_a_remedy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
