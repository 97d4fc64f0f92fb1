/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include <stdlib.h>
#include <unistd.h>
#include "template/combine.h"
#include "template/embed.h"
#include "util/file.h"
#include "util/path.h"
#include "util/yaml.h"

static char *home;

static void put(const char *name, const char *text)
{
    scoped(free) char *path = path_join(home, name);
    scoped(free) char *dir = path_dir(path);

    assert_int_equal(file_mkdirs(dir, 0700, NULL), 0);
    assert_int_equal(file_write_text(path, text, 0600, NULL), 0);
}

static int setup(void **state)
{
    char template[] = "/tmp/test-embed-XXXXXX";
    scoped(free) char *templates = NULL;

    home = xstrdup(mkdtemp(template));
    templates = path_join(home, "t");
    setenv("LIMA_TEMPLATES_PATH", templates, 1);
    return 0;
}

static int teardown(void **state)
{
    file_remove_tree(home, NULL);
    free(home);
    home = NULL;
    return 0;
}

static int embed(const char *text, char **ret, struct error *err)
{
    scoped(template_done) struct template template = TEMPLATE_INIT;
    int r;

    put("t/root.yaml", text);
    r = template_locate(home, "template:root", &template, err);
    if (r == 0) {
        r = template_embed(home, &template, err);
    }
    if (r == 0) {
        *ret = steal(template.text);
    }
    return r;
}

static void check(const char *text, const char *want)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *got = NULL;

    assert_works(embed(text, &got, &err), &err);
    assert_string_equal(got, want);
}

static void test_text_without_bases_stays_as_it_is(void **state)
{
    check("# c\ncpus:   4 # x\nmounts: [ {location: \"~\"} ]\n",
          "# c\ncpus:   4 # x\nmounts: [ {location: \"~\"} ]\n");
    check("", "");
}

static void test_bases_fill_what_the_template_lacks(void **state)
{
    put("t/b1.yaml",
        "cpus: 8\nmemory: 1GiB\nssh: {localPort: 1, forwardAgent: true}\nnothing: 1\n");
    check(
        "# head\nbase: b1\ncpus: 4 # four\nssh:\n  localPort: 2 # two\nnothing: null\n",
        "# head\ncpus: 4 # four\nssh:\n  localPort: 2 # two\n  forwardAgent: true\nnothing: null\n"
        "memory: 1GiB\n");
    check("base: [template:b1]\n",
          "cpus: 8\nmemory: 1GiB\nssh:\n  localPort: 1\n  forwardAgent: true\n"
          "nothing: 1\n");
}

static void test_lists_follow_the_order_of_the_bases(void **state)
{
    put("t/b1.yaml", "base: b3\nadditionalDisks: [disk1]\nprovision: [{script: b1}]\n");
    put("t/b2.yaml", "additionalDisks: [disk2]\nprovision: [{script: b2}]\n");
    put("t/b3.yaml", "additionalDisks: [disk3]\nprovision: [{script: b3}]\n");
    check("base: [b1, {url: b2}]\nadditionalDisks: [disk0]\nprovision:\n- script: t # own\n",
          "additionalDisks: [disk0, disk1, disk3, disk2]\n"
          "provision:\n- script: b2\n- script: b3\n- script: b1\n- script: t # own\n");
}

static void test_config_base_comes_first(void **state)
{
    put("_config/base.yaml", "mounts: [{location: \"*\", writable: true}]\ncpus: 2\n");
    put("t/b1.yaml", "mounts: [{location: /b}]\ncpus: 3\n");
    check("base: b1\nmounts:\n- location: /t\n",
          "mounts:\n- location: /t\n  writable: true\n- location: /b\ncpus: 2\n");
}

static void test_base_reached_twice_counts_once(void **state)
{
    put("t/b1.yaml", "base: b3\nadditionalDisks: [disk1]\n");
    put("t/b2.yaml", "base: b3\nadditionalDisks: [disk2]\n");
    put("t/b3.yaml", "additionalDisks: [disk3]\n");
    check("base: [b1, b2]\n", "additionalDisks:\n- disk1\n- disk3\n- disk2\n");
}

static void test_script_files_are_inlined(void **state)
{
    put("t/sub/b.yaml",
        "provision: [{mode: user, file: s.sh}]\nprobes: [{file: {url: p.sh}, description: d}]\n");
    put("t/sub/s.sh", "#!/bin/sh\necho user\n");
    put("t/sub/p.sh", "#!/bin/sh\ntrue\n");
    put("t/data.txt", "plain");
    check("base: sub/b.yaml\nprovision:\n- mode: data\n  file: data.txt # here\n  path: /x\n",
          "provision:\n- mode: user\n  script: |\n    #!/bin/sh\n    echo user\n- mode: data\n  "
          "path: /x\n"
          "  content: plain\nprobes:\n- description: d\n  script: |\n    #!/bin/sh\n    true\n");
}

static void test_bad_bases_are_refused(void **state)
{
    static const struct {
        const char *text;
        int code;
        const char *message;
    } cases[] = {
        {"base: root\n", ELOOP, "'template:root' is a base of itself"},
        {"base: loop\n", ELOOP, "is a base of itself"},
        {"base: nope\n", ENOENT, "there is no template 'nope'"},
        {"base: {url: b, digest: \"sha256:x\"}\n", EINVAL, "digest"},
        {"base: [[b]]\n", EINVAL, "a base has to be a text"},
        {"base: ../x\n", EINVAL, "must not contain '../'"},
        {"base: bad\n", EINVAL, "base 'template:bad': template:bad:2:"},
        {"base: list\n", EINVAL, "template 'template:list' is not a map"},
        {"provision: [{file: nope.sh}]\n", ENOENT, "nope.sh"},
    };

    put("t/loop.yaml", "base: root\n");
    put("t/bad.yaml", "a: [");
    put("t/list.yaml", "[a]\n");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        char *text = NULL;

        assert_fails(embed(cases[i].text, &text, &err), &err, cases[i].code, cases[i].message);
    }
}

static void check_trees(jv (*made)(const char *, const char *), const char *a, const char *b,
                        const char *want)
{
    jv got = made(a, b);
    jv expected = jv_parse(want);
    scoped(free) char *text = value_to_json(jv_copy(got), false);

    assert_true(jv_is_valid(expected));
    if (!jv_equal(got, expected)) {
        fail_msg("%s is not %s", text, want);
    }
}

static jv merged(const char *a, const char *b)
{
    return template_combine(template_merge(jv_parse(a), jv_parse(b)));
}

static void test_rules_of_merging(void **state)
{
    static const struct {
        const char *top, *base, *want;
    } cases[] = {
        {"{\"dns\":[\"1.1.1.1\"]}", "{\"dns\":[\"8.8.8.8\"]}", "{\"dns\":[\"1.1.1.1\"]}"},
        {"{\"dns\":[]}", "{\"dns\":[\"8.8.8.8\"]}", "{\"dns\":[\"8.8.8.8\"]}"},
        {"{\"minimumLimaVersion\":\"1.0.0\"}", "{\"minimumLimaVersion\":\"2.0.0\"}",
         "{\"minimumLimaVersion\":\"2.0.0\"}"},
        {"{\"minimumLimaVersion\":\"2.1.0\"}", "{\"minimumLimaVersion\":\"2.0.0\"}",
         "{\"minimumLimaVersion\":\"2.1.0\"}"},
        {"{\"vmOpts\":{\"qemu\":{\"minimumVersion\":\"8.0.0\"}}}",
         "{\"vmOpts\":{\"qemu\":{\"minimumVersion\":\"9.0.0\",\"cpuType\":{}}}}",
         "{\"vmOpts\":{\"qemu\":{\"minimumVersion\":\"9.0.0\",\"cpuType\":{}}}}"},
        {"{\"mountTypesUnsupported\":[\"9p\"]}",
         "{\"mountTypesUnsupported\":[\"9p\",\"virtiofs\"]}",
         "{\"mountTypesUnsupported\":[\"9p\",\"virtiofs\"]}"},
        {"{\"portForwards\":[{\"guestPortRange\":[80,81]}]}",
         "{\"portForwards\":[{\"guestPortRange\":[90,91]}]}",
         "{\"portForwards\":[{\"guestPortRange\":[80,81]},{\"guestPortRange\":[90,91]}]}"},
        {"{\"a\":null}", "{\"a\":[1],\"b\":2}", "{\"a\":null,\"b\":2}"},
        {"{\"a\":[1]}", "{\"a\":{\"b\":1}}", "{\"a\":[1]}"},
        {"{\"additionalDisks\":[{\"name\":\"1\"},\"2\",{\"name\":\"3\",\"format\":false}]}",
         "{\"additionalDisks\":[\"4\",{\"name\":\"*\",\"format\":true},\"5\"]}",
         "{\"additionalDisks\":[{\"name\":\"1\",\"format\":true},{\"name\":\"2\",\"format\":true},"
         "{\"name\":\"3\",\"format\":false},{\"name\":\"4\",\"format\":true},\"5\"]}"},
        {"{\"networks\":[{\"interface\":\"lima1\"}]}",
         "{\"networks\":[{\"interface\":\"lima2\"},{\"metric\":250},{\"interface\":\"lima1\","
         "\"metric\":100},"
         "{\"interface\":\"*\",\"metric\":123}]}",
         "{\"networks\":[{\"interface\":\"lima1\",\"metric\":100},{\"interface\":\"lima2\","
         "\"metric\":123},"
         "{\"metric\":250}]}"},
        {"{\"networks\":[{\"interface\":\"a\",\"lima\":\"x\"}]}",
         "{\"networks\":[{\"interface\":\"a\",\"socket\":\"/s\"}]}",
         "{\"networks\":[{\"interface\":\"a\",\"lima\":\"x\"}]}"},
        {"{\"mounts\":[{\"location\":\"/a\"}]}",
         "{\"mounts\":[{\"location\":\"/a\",\"writable\":true,\"9p\":{\"cache\":\"none\"}}]}",
         "{\"mounts\":[{\"location\":\"/a\",\"writable\":true,\"9p\":{\"cache\":\"none\"}}]}"},
        {"{\"mounts\":[{\"location\":\"*\",\"writable\":true},{\"location\":\"/a\"}]}", "{}",
         "{\"mounts\":[{\"location\":\"/a\"}]}"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        check_trees(merged, cases[i].top, cases[i].base, cases[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_text_without_bases_stays_as_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bases_fill_what_the_template_lacks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lists_follow_the_order_of_the_bases, setup, teardown),
        cmocka_unit_test_setup_teardown(test_config_base_comes_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_base_reached_twice_counts_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_script_files_are_inlined, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_bases_are_refused, setup, teardown),
        cmocka_unit_test(test_rules_of_merging),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
