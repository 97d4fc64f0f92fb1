/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include "config/edit.h"
#include "config/flags.h"
#include "util/yaml.h"

static const char template_text[] = "cpus: 1\n"
                                    "dns: [1.1.1.1]\n"
                                    "mounts:\n"
                                    "- location: /a\n"
                                    "- location: \"~\"\n"
                                    "  mountPoint: /b\n"
                                    "networks:\n"
                                    "- socket: /x\n"
                                    "- lima: shared\n"
                                    "param:\n"
                                    "  release: v1\n"
                                    "images:\n"
                                    "- {location: i, variant: server}\n"
                                    "- {location: j, variant: minimal, archVariant: v3}\n";

/* Flags as "name=value" words, "|" between two; a list value has ";" between its parts. */
struct outcome {
    struct strv expressions;
    struct strv warnings;
    char *json; /* the edited tree */
};

static void outcome_done(struct outcome *out)
{
    strv_done(&out->expressions);
    strv_done(&out->warnings);
    free(out->json);
}
SCOPED_VAL(struct outcome, outcome_done)

static int translate_flags(const char *words, bool is_new, struct outcome *out, struct error *err)
{
    struct strv flags = STRV_INIT, values[8] = {0};
    struct config_flag_given given[8];
    struct config_flag_options options = {.is_new = is_new};
    int r;

    strv_split(&flags, words, '|');
    assert_in_range(flags.len, 1, ARRAY_LEN(given));
    for (size_t i = 0; i < flags.len; i++) {
        char *equals = strchr(flags.items[i], '=');

        *equals = '\0';
        strv_split(&values[i], equals + 1, ';');
        given[i] = (struct config_flag_given){.name = flags.items[i], .values = &values[i]};
    }
    assert_works(yaml_load("x", template_text, strlen(template_text), &options.template, NULL, err),
                 err);
    r = config_flags_expressions(given, flags.len, &options, &out->expressions, &out->warnings,
                                 err);
    jv_free(options.template);
    for (size_t i = 0; i < flags.len; i++) {
        strv_done(&values[i]);
    }
    strv_done(&flags);
    return r;
}

/* The value of @key in the template after the flags. Caller frees. */
static char *key_after(const struct outcome *out, const char *key)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *text = NULL;
    jv tree;

    assert_works(config_edit(template_text, &out->expressions, &text, &err), &err);
    assert_works(yaml_load("x", text, strlen(text), &tree, NULL, &err), &err);
    return value_to_json(jv_object_get(tree, jv_string(key)), false);
}

static void test_each_flag_has_its_effect(void **state)
{
    static const struct {
        const char *flags;
        const char *key;
        const char *json;
    } cases[] = {
        {"cpus=4", "cpus", "4"},
        {"cpus=0x10", "cpus", "16"},
        {"dns=8.8.8.8;1.1.1.1;::1", "dns", "[\"1.1.1.1\",\"8.8.8.8\",\"::1\"]"},
        {"dns=8.8.8.8", "hostResolver", "{\"enabled\":false}"},
        {"memory=2", "memory", "\"2GiB\""},
        {"memory=0.5", "memory", "\"0.5GiB\""},
        {"memory=1.1", "memory", "\"1.1GiB\""},
        {"disk=100", "disk", "\"100GiB\""},
        {"mount=/x;/y:w", "mounts",
         "[{\"location\":\"/y\",\"mountPoint\":\"/y\",\"writable\":true},{\"location\":\"/"
         "x\",\"mountPoint\":"
         "\"/x\",\"writable\":false},{\"location\":\"/a\"},{\"location\":\"~\",\"mountPoint\":\"/"
         "b\"}]"},
        {"mount=/a:w", "mounts",
         "[{\"location\":\"/a\",\"mountPoint\":\"/"
         "a\",\"writable\":true},{\"location\":\"~\",\"mountPoint\":"
         "\"/b\"}]"},
        {"mount-only=/x;/y", "mounts",
         "[{\"location\":\"/x\",\"mountPoint\":\"/x\",\"writable\":false},{\"location\":\"/y\","
         "\"mountPoint\":\"/y\",\"writable\":false}]"},
        {"mount-none=true", "mounts", "null"},
        {"mount-type=9p", "mountType", "\"9p\""},
        {"vm-type=qemu", "vmType", "\"qemu\""},
        {"mount-inotify=true", "mountInotify", "true"},
        {"mount-writable=true", "mounts",
         "[{\"location\":\"/a\",\"writable\":true},{\"location\":\"~\",\"mountPoint\":\"/"
         "b\",\"writable\":true}]"},
        {"network=lima:shared;vzNAT;lima:user-v2;vzNAT", "networks",
         "[{\"socket\":\"/x\"},{\"lima\":\"shared\"},{\"vzNAT\":true},{\"lima\":\"user-v2\"}]"},
        {"nested-virt=true", "nestedVirtualization", "true"},
        {"rosetta=true", "vmOpts", "{\"vz\":{\"rosetta\":{\"enabled\":true,\"binfmt\":true}}}"},
        {"set=.cpus = 7;.cpus += 1", "cpus", "8"},
        {"param=release=v1.35=x", "param", "{\"release\":\"v1.35=x\"}"},
        {"param=release=1.30", "param", "{\"release\":\"1.30\"}"},
        {"video=true", "video", "{\"display\":\"default\"}"},
        {"video=false", "video", "{\"display\":\"none\"}"},
        {"audio-device=default", "audio", "{\"device\":\"default\"}"},
        {"audio-interface=hda", "audio", "{\"interface\":\"hda\"}"},
        {"ssh-port=60022", "ssh", "{\"localPort\":60022}"},
        {"image-variant=minimal", "images",
         "[{\"location\":\"j\",\"variant\":\"minimal\",\"archVariant\":\"v3\"}]"},
        {"arch-variant=v3", "images",
         "[{\"location\":\"j\",\"variant\":\"minimal\",\"archVariant\":\"v3\"}]"},
        {"arch=aarch64", "arch", "\"aarch64\""},
        {"containerd=user+system", "containerd", "{\"user\":true,\"system\":true}"},
        {"containerd=none", "containerd", "{\"user\":false,\"system\":false}"},
        {"plain=true", "plain", "true"},
        {"port-forward=8080:80; 1:2,static=true ", "portForwards",
         "[{\"guestPort\":80,\"hostPort\":8080,\"static\":false},{\"guestPort\":2,\"hostPort\":1,"
         "\"static\":"
         "true}]"},
        {"shell=/bin/zsh", "user", "{\"shell\":\"/bin/zsh\"}"},
        {"vm-type=a\"b\\(c)", "vmType", "\"a\\\"b\\\\(c)\""},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(outcome_done) struct outcome out = {0};
        scoped(free) char *json = NULL;

        assert_works(translate_flags(cases[i].flags, true, &out, &err), &err);
        json = key_after(&out, cases[i].key);
        assert_string_equal(json, cases[i].json);
    }
}

static void test_home_mounts_are_recognised(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(outcome_done) struct outcome out = {0};
    struct strv all = STRV_INIT;
    scoped(free) char *text = NULL;

    setenv("HOME", "/home/someone", 1);
    assert_works(translate_flags("mount=~:w", true, &out, &err), &err);
    assert_works(
        config_edit("mounts:\n- location: \"~\"\n- location: ~/x\n", &out.expressions, &text, &err),
        &err);
    assert_string_equal(text, "mounts:\n- location: /home/someone\n  mountPoint: /home/someone\n"
                              "  writable: true\n- location: ~/x\n");
    strv_done(&all);
}

static void test_bad_values_name_the_flag(void **state)
{
    static const struct {
        const char *flags;
        const char *message;
    } cases[] = {
        {"cpus=-1", "error while processing flag `cpus`: -1 is not in the range"},
        {"cpus=x", "error while processing flag `cpus`: 'x' is not a whole number"},
        {"dns=host", "error while processing flag `dns`: 'host' is not an IP address"},
        {"memory=-1", "flag `memory`: '-1' is not a size"},
        {"memory=inf", "flag `memory`: 'inf' is not a size"},
        {"disk=1x", "flag `disk`: '1x' is not a size"},
        {"mount=/a|mount-only=/b", "flag `mount`: it cannot be given together with `--mount-only`"},
        {"mount-none=false|mount-only=/b", "flag `mount-none`: it cannot be given"},
        {"mount-none=true|mount=/b", "flag `mount-none`: it cannot be given"},
        {"mount=:w", "flag `mount`: mount ':w' names no folder"},
        {"network=x", "flag `network`: 'x' is neither"},
        {"network=lima:", "flag `network`: 'lima:' is neither"},
        {"param=nope=1",
         "error while processing flag `param`: template does not define param `nope`"},
        {"param=release", "flag `param`: 'release' is not of the form"},
        {"ssh-port=65536", "flag `ssh-port`: 65536 is not in the range"},
        {"image-variant=", "flag `image-variant`: the value is empty"},
        {"image-variant=x", "no image of the template has variant 'x', only: minimal, server"},
        {"containerd=x", "flag `containerd`: 'x' is none of"},
        {"port-forward=80", "flag `port-forward`: '80' is not of the form"},
        {"port-forward=80:0", "flag `port-forward`: 0 is not in the range"},
        {"port-forward=1:2,x=y", "flag `port-forward`: option 'x=y'"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(outcome_done) struct outcome out = {0};

        assert_fails(translate_flags(cases[i].flags, true, &out, &err), &err, EINVAL,
                     cases[i].message);
    }
}

static void test_flags_for_new_instances_are_skipped_elsewhere(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(outcome_done) struct outcome out = {0};

    assert_works(translate_flags("arch=aarch64|plain=true|cpus=2", false, &out, &err), &err);
    assert_int_equal(out.expressions.len, 1);
    assert_string_equal(out.expressions.items[0], ".cpus = 2");
    assert_int_equal(out.warnings.len, 2);
    assert_non_null(strstr(out.warnings.items[0], "create a new instance"));
}

static void test_order_is_that_of_the_table(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(outcome_done) struct outcome out = {0};

    assert_works(translate_flags("disk=1|set=.cpus += 1|memory=2|cpus=3", true, &out, &err), &err);
    assert_string_equal(out.expressions.items[0], ".cpus = 3");
    assert_string_equal(out.expressions.items[1], ".memory = \"2GiB\"");
    assert_string_equal(out.expressions.items[2], ".cpus += 1");
    assert_string_equal(out.expressions.items[3], ".disk = \"1GiB\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_flag_has_its_effect),
        cmocka_unit_test(test_home_mounts_are_recognised),
        cmocka_unit_test(test_bad_values_name_the_flag),
        cmocka_unit_test(test_flags_for_new_instances_are_skipped_elsewhere),
        cmocka_unit_test(test_order_is_that_of_the_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
