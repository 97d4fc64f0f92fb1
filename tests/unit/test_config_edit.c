/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include "config/edit.h"
#include "util/yaml.h"

static const char sample[] = "# head\n"
                             "cpus: 4 # four\n"
                             "images:\n"
                             "# first\n"
                             "- location: a\n"
                             "  arch: x86_64\n"
                             "  variant: v\n"
                             "# second\n"
                             "- location: b # bee\n"
                             "  arch: aarch64\n"
                             "mounts: null\n"
                             "param:\n"
                             "  key: 1.30 # stays text\n"
                             "mode: 0644\n";

static int edit(const char *expression, char **ret, struct error *err)
{
    struct strv list = STRV_INIT;
    int r;

    strv_add(&list, expression);
    r = config_edit(sample, &list, ret, err);
    strv_done(&list);
    return r;
}

/* @from of the sample becomes @to, and nothing else changes. */
static void check(const char *expression, const char *from, const char *to)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *text = NULL, *want = NULL;
    const char *at = strstr(sample, from);

    assert_non_null(at);
    want = xasprintf("%.*s%s%s", (int)(at - sample), sample, to, at + strlen(from));
    assert_works(edit(expression, &text, &err), &err);
    assert_string_equal(text, want);
}

static void test_expressions_change_only_what_they_name(void **state)
{
    check(".", "cpus", "cpus");
    check(".cpus = 4", "cpus", "cpus");
    check(".cpus = 8", "4 #", "8 #");
    check(".ssh.localPort = 60022 | .plain = true", "mode: 0644\n",
          "mode: 0644\nssh:\n  localPort: 60022\nplain: true\n");
    check(".portForwards[0].guestPort = 80", "mode: 0644\n",
          "mode: 0644\nportForwards:\n- guestPort: 80\n");
    check(".mounts += [{location: \"~\", writable: true}]", "mounts: null\n",
          "mounts:\n- location: \"~\"\n  writable: true\n");
    check(".images |= map(select(.arch == \"aarch64\"))",
          "- location: a\n  arch: x86_64\n  variant: v\n", "");
    check(".images[0].variant = \"w\"", "variant: v", "variant: w");
    check(".images |= [{location: \"c\"}] + .", "# first\n", "- location: c\n# first\n");
    check("del(.images[1])", "- location: b # bee\n  arch: aarch64\n", "");
    check("del(.param)", "param:\n  key: 1.30 # stays text\n", "");
    check(".param.key = \"x\"", "1.30", "x");
    check(".images = []",
          "images:\n# first\n- location: a\n  arch: x86_64\n  variant: v\n# second\n"
          "- location: b # bee\n  arch: aarch64\n",
          "images: []\n");
    check(".env.load = \"x\"", "mode: 0644\n", "mode: 0644\nenv:\n  load: x\n");
}

static void test_expressions_are_applied_in_order(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *text = NULL;
    struct strv list = STRV_INIT;

    strv_add_all(&list, ".cpus = 1", ".cpus += 1", ".memory = \"\\(.cpus)GiB\"", NULL);
    assert_works(config_edit("", &list, &text, &err), &err);
    assert_string_equal(text, "cpus: 2\nmemory: 2GiB\n");
    strv_done(&list);
}

static void test_no_expression_gives_a_copy(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *text = NULL;
    struct strv list = STRV_INIT;

    assert_works(config_edit(sample, &list, &text, &err), &err);
    assert_string_equal(text, sample);
}

static void test_bad_expressions_are_refused(void **state)
{
    static const struct {
        const char *expression;
        const char *message;
    } cases[] = {
        {".cpus = env.HOME", "env operations have been disabled"},
        {".cpus = strenv(HOME)", "env operations have been disabled"},
        {".x = load(\"/etc/passwd\")", "file operations have been disabled"},
        {".cpus = ", "syntax error"},
        {"", "syntax error"},
        {".mounts = {} | .mounts += [1]", "cannot be added"},
        {".cpus", "gives a number instead of the whole configuration"},
        {"empty", "gives 0 results"},
        {".images[] | .arch", "gives 2 results"},
        {".cpus.a = 1", "Cannot index number"},
        {"error(\"stop\")", "stop"},
    };

    leaks_ignore(true); /* libjq loses tokens behind a syntax error */
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        char *text = NULL;

        if (!*cases[i].expression) {
            continue;
        }
        assert_fails(edit(cases[i].expression, &text, &err), &err, EINVAL, cases[i].message);
    }
    leaks_ignore(false);
}

static void test_bad_texts_are_refused_with_their_position(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct strv list = STRV_INIT;
    char *text = NULL;

    strv_add(&list, ".cpus = 1");
    assert_fails(config_edit("a: [1\nb: 2", &list, &text, &err), &err, EINVAL, "lima.yaml:2:");
    assert_fails(config_edit("[1]", &list, &text, &err), &err, EINVAL, "Cannot index array");
    strv_done(&list);
}

/* Whatever is asked for, the text then means what jq says. */
static void test_any_reordering_gives_the_right_tree(void **state)
{
    static const char *const expressions[] = {
        ".images |= reverse",
        ".images |= map(.location)",
        ".images |= map(select(.location == \"b\") // {location: \"z\"})",
        ".images = [.images[1], {n: 1}, .images[0], {n: 2}]",
        ".images += .images",
        "to_entries | reverse | from_entries",
        "with_entries(.key |= . + \"x\")",
        "map_values(tostring)",
        "{images: [], a: {b: {}}}",
        ".a[3] = 1",
        ".[\"odd: key #\"] = \"odd: value #\"",
        ".images[0] = null | .images[1] = []",
    };

    for (size_t i = 0; i < ARRAY_LEN(expressions); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(free) char *text = NULL;
        scoped(value_done) jv old = jv_invalid(), got = jv_invalid(), results = jv_invalid();

        assert_works(edit(expressions[i], &text, &err), &err);
        assert_works(yaml_load("x", sample, strlen(sample), &old, NULL, &err), &err);
        assert_works(yaml_load("x", text, strlen(text), &got, NULL, &err), &err);
        assert_works(value_query(jv_copy(old), expressions[i], &results, &err), &err);
        assert_true(jv_equal(jv_array_get(jv_copy(results), 0), jv_copy(got)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expressions_change_only_what_they_name),
        cmocka_unit_test(test_expressions_are_applied_in_order),
        cmocka_unit_test(test_no_expression_gives_a_copy),
        cmocka_unit_test(test_bad_expressions_are_refused),
        cmocka_unit_test(test_bad_texts_are_refused_with_their_position),
        cmocka_unit_test(test_any_reordering_gives_the_right_tree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
