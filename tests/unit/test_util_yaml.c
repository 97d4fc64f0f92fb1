/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include "base/buf.h"
#include "util/yaml.h"

static char *load_as_json(const char *text, struct error *err)
{
    jv value;

    if (yaml_load("x.yaml", text, strlen(text), &value, NULL, err) < 0) {
        return NULL;
    }
    return value_to_json(value, false);
}

static void test_documents_become_trees(void **state)
{
    static const struct {
        const char *yaml;
        const char *json;
    } cases[] = {
        {"", "null"},
        {"# only a comment\n", "null"},
        {"---\n", "null"},
        {"\xef\xbb\xbf"
         "a: 1\n",
         "{\"a\":1}"},
        {"a: 1\n---\nb: 2\n", "{\"a\":1}"},
        {"a: 1\n...\n{{{ not yaml\n", "{\"a\":1}"},
        {"a: [true, True, TRUE, false, yes, no, on, off, y]",
         "{\"a\":[true,true,true,false,\"yes\",\"no\",\"on\",\"off\",\"y\"]}"},
        {"a: [null, Null, NULL, ~, nULL, '~']\nb:\n",
         "{\"a\":[null,null,null,null,\"nULL\",\"~\"],\"b\":null}"},
        {"[0644, 0o644, 0x1F, 0b11, -0x10, 1_000, 08, 0o9, 0x, +5, -]",
         "[420,420,31,3,-16,1000,\"08\",\"0o9\",\"0x\",5,\"-\"]"},
        {"[1.5, 2.0, .5, 5., 1e3, 1.5e-3, 1.2.3, ., e3, 1e]",
         "[1.5,2,0.5,5,1000,0.0015,\"1.2.3\",\".\",\"e3\",\"1e\"]"},
        {"[.inf, -.inf, .nan, 1e999, 99999999999999999999]",
         "[\".inf\",\"-.inf\",\".nan\",\"1e999\",\"99999999999999999999\"]"},
        {"[2026-11-22, 12:30, 0.0.0.0, 1:2]", "[\"2026-11-22\",\"12:30\",\"0.0.0.0\",\"1:2\"]"},
        {"['1', \"true\", !!str 1, !!str null, !!int '7', !!float 1, !!bool 'true', !!null '', ! "
         "5]",
         "[\"1\",\"true\",\"1\",\"null\",7,1,true,null,\"5\"]"},
        {"!!map {a: !!seq [1]}", "{\"a\":[1]}"},
        {"a: !!binary aGVs\nb: !!binary |\n  aGVs\n  bG8=\n", "{\"a\":\"hel\",\"b\":\"hello\"}"},
        {"1: a\ntrue: b\n~: c\n1.50: d\n'': e\n",
         "{\"1\":\"a\",\"true\":\"b\",\"null\":\"c\",\"1.5\":\"d\",\"\":\"e\"}"},
        {"a: &x [1, 2]\nb: *x\n", "{\"a\":[1,2],\"b\":[1,2]}"},
        {"a: &x 1\nb: &x 2\nc: *x\n", "{\"a\":1,\"b\":2,\"c\":2}"},
        {"&k a: 1\nb: *k\n", "{\"a\":1,\"b\":\"a\"}"},
        {"a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3\n",
         "{\"a\":{\"p\":1,\"q\":2},\"b\":{\"q\":3,\"p\":1}}"},
        {"<<: [{a: 1}, {a: 2, b: 3}]\nc: 4\n", "{\"c\":4,\"a\":1,\"b\":3}"},
        {"'<<': 1\n", "{\"<<\":1}"},
        {"a: |\n  x\n   y\n\nb: >-\n  p\n  q\n", "{\"a\":\"x\\n y\\n\",\"b\":\"p q\"}"},
        {"\"\\u00e4\\x41\\n\"", "\"äA\\n\""},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(free) char *json = load_as_json(cases[i].yaml, &err);

        if (!json) {
            fail_msg("%s: %s", cases[i].yaml, error_text(&err));
        }
        assert_string_equal(json, cases[i].json);
    }
}

static void test_bad_texts_are_refused_with_their_position(void **state)
{
    static const struct {
        const char *yaml;
        const char *message;
    } cases[] = {
        {"a: 1\nb: 2\na: 3\n", "x.yaml:3:1: key 'a' is there twice"},
        {"1: a\n'1': b\n", "x.yaml:2:1: key '1' is there twice"},
        {"a: *nope\n", "x.yaml:1:4: unknown alias 'nope'"},
        {"a: &x [*x]\n", "x.yaml:1:8: unknown alias 'x'"},
        {"<<: 1\n", "x.yaml:1:5: a merge key"},
        {"<<: [1]\n", "x.yaml:1:6: a merge key"},
        {"<<: {}\n<<: {}\n", "x.yaml:2:1: key '<<' is there twice"},
        {"{a: 1}: b\n", "x.yaml:1:1: a list or map cannot be a key"},
        {"[1]: b\n", "x.yaml:1:1: a list or map cannot be a key"},
        {"a: !foo 1\n", "x.yaml:1:4: a tag that is not known"},
        {"a: !!set {b}\n", "x.yaml:1:4: a tag that is not known"},
        {"a: !!int x\n", "x.yaml:1:4: 'x' is no !!int"},
        {"a: !!binary '*'\n", "x.yaml:1:4: !!binary needs base64"},
        {"a: !!binary AAAA\n", "x.yaml:1:4: !!binary needs base64"},
        {"a: \"\\0\"\n", "x.yaml:1:4: a text cannot hold a NUL"},
        {"a:\n\tb: 1\n", "x.yaml:2:1: "},
        {"a: [1\nb: 2\n", "x.yaml:2:"},
        {"a: 'x\n", "x.yaml:2:1: "},
        {"a: b: c\n", "x.yaml:1:5: "},
        {"a: \xff\n", "x.yaml:1:1: "},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        jv value;

        assert_fails(yaml_load("x.yaml", cases[i].yaml, strlen(cases[i].yaml), &value, NULL, &err),
                     &err, EINVAL, cases[i].message);
    }
}

static void test_string_fields_get_the_text_of_the_reference(void **state)
{
    static const struct {
        const char *yaml;
        const char *text;
    } cases[] = {
        {"644", "644"},
        {"0644", "420"},
        {"0o644", "420"},
        {"0x10", "16"},
        {"0b11", "3"},
        {"1_000", "1000"},
        {"08", "08"},
        {"2.0", "2"},
        {"1.50", "1.5"},
        {"1e3", "1e3"},
        {"True", "true"},
        {"2.0.0", "2.0.0"},
        {"'0644'", "0644"},
        {"-5", "-5"},
        {"100000000.5", "100000000.5"},
        {"!!str 0644", "0644"},
        {"18446744073709551615", "18446744073709551615"},
        {"9007199254740993", "9007199254740993"},
        {"~", NULL},
        {"[]", NULL},
        {"|\n  a\n", "a\n"},
        {"!!binary /w==", "\xff"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(value_lines_free) struct value_lines *lines = NULL;
        scoped(value_done) jv value = jv_invalid();
        scoped(free) char *text = NULL;

        assert_works(yaml_load("x", cases[i].yaml, strlen(cases[i].yaml), &value, &lines, &err),
                     &err);
        text = value_text(value, lines);
        if (cases[i].text) {
            assert_string_equal(text, cases[i].text);
        } else {
            assert_null(text);
        }
    }
}

static void test_every_node_has_its_position(void **state)
{
    static const char text[] =
        "# c\nä: {b: [1, x]}\nlist:\n- k: v\n  n:\nref: &a\n  p: 1\nuse: *a\n"
        "mix:\n  <<: *a\n";
    static const struct {
        const char *path;
        int line, column, key_column;
    } cases[] = {
        {".", 2, 1, 0},          {".[\"ä\"]", 2, 4, 1},   {".[\"ä\"].b[1]", 2, 12, 0},
        {".list[0].k", 4, 6, 3}, {".list[0].n", 5, 5, 3}, {".use", 8, 6, 1},
        {".use.p", 7, 6, 3},     {".mix.p", 7, 6, 3},
    };
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(value_lines_free) struct value_lines *lines = NULL;
    scoped(value_done) jv value = jv_invalid();

    assert_works(yaml_load("x", text, strlen(text), &value, &lines, &err), &err);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct value_lines *at = value_lines_at(lines, cases[i].path);

        assert_non_null(at);
        assert_int_equal(value_lines_pos(at).line, cases[i].line);
        assert_int_equal(value_lines_pos(at).column, cases[i].column);
        assert_int_equal(value_lines_key_pos(at).column, cases[i].key_column);
    }
}

/* ---- limits ---- */

static void test_depth_is_limited_even_through_aliases(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct buf text = BUF_INIT;
    jv value;

    for (int i = 0; i < 100000; i++) {
        buf_putc(&text, '[');
    }
    assert_fails(yaml_load("x", text.data, text.len, &value, NULL, &err), &err, E2BIG,
                 "too many levels");
    buf_truncate(&text, 0);
    buf_puts(&text, "- &a0 [x]\n");
    for (int i = 1; i < 100; i++) {
        buf_printf(&text, "- &a%d [*a%d]\n", i, i - 1);
    }
    assert_fails(yaml_load("x", text.data, text.len, &value, NULL, &err), &err, E2BIG,
                 "too many levels");
    buf_done(&text);
}

static void test_alias_expansion_is_limited(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct buf text = BUF_INIT;
    jv value;

    buf_puts(&text, "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 12; i++) {
        buf_printf(&text, "a%d: &a%d [", i, i);
        for (int j = 0; j < 10; j++) {
            buf_printf(&text, "*a%d, ", i - 1);
        }
        buf_puts(&text, "]\n");
    }
    assert_fails(yaml_load("x", text.data, text.len, &value, NULL, &err), &err, E2BIG,
                 "too many values");
    buf_done(&text);
}

static void test_length_is_limited_also_after_alias_expansion(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct buf text = BUF_INIT;
    jv value;

    buf_puts(&text, "a: &a ");
    for (size_t i = 0; i < YAML_MAX_EXPANDED / 16; i++) {
        buf_putc(&text, 'x');
    }
    buf_puts(&text, "\nb: [");
    for (int i = 0; i < 20; i++) {
        buf_puts(&text, "*a, ");
    }
    buf_puts(&text, "]\n");
    assert_fails(yaml_load("x", text.data, text.len, &value, NULL, &err), &err, E2BIG, "too long");
    while (text.len <= YAML_MAX_BYTES) {
        buf_puts(&text, "# more and more and more and more and more and more and more and more\n");
    }
    assert_fails(yaml_load("x", text.data, text.len, &value, NULL, &err), &err, E2BIG,
                 "longer than");
    buf_done(&text);
}

/* ---- output ---- */

static void test_trees_become_texts(void **state)
{
    static const struct {
        const char *json;
        const char *yaml;
    } cases[] = {
        {"null", "null\n"},
        {"{}", "{}\n"},
        {"{\"a\":1,\"b\":[1,{\"c\":[],\"d\":{\"e\":null}},[2,[3]]],\"f\":true}",
         "a: 1\nb:\n- 1\n- c: []\n  d:\n    e: null\n- - 2\n  - - 3\nf: true\n"},
        {"[\"plain text\",\"a: b\",\"a #b\",\"#a\",\"\",\" a\",\"a "
         "\",\"true\",\"null\",\"0644\",\"1.5\","
         "\"yes\",\"-\",\"- "
         "a\",\"-a\",\"a:\",\"[x]\",\"*x\",\"{{.Dir}}\",\"https://a/b\",\"~\",\"~/a\",\"---\"]",
         "- plain text\n- \"a: b\"\n- \"a #b\"\n- \"#a\"\n- \"\"\n- \" a\"\n- \"a \"\n- "
         "\"true\"\n- \"null\"\n"
         "- \"0644\"\n- \"1.5\"\n- \"yes\"\n- \"-\"\n- \"- a\"\n- -a\n- \"a:\"\n- \"[x]\"\n- "
         "\"*x\"\n"
         "- \"{{.Dir}}\"\n- https://a/b\n- \"~\"\n- \"~/a\"\n- \"---\"\n"},
        {"{\"s\":\"#!/bin/sh\\necho a: b\\n\",\"t\":\"a\\n b\",\"u\":\" a\\nb\\n\"}",
         "s: |\n  #!/bin/sh\n  echo a: b\nt: |-\n  a\n   b\nu: |2\n   a\n  b\n"},
        {"{\"a\":\"x\\u0001\\ty\",\"b\":\"\\n\",\"c\":\"x\\n\\n\",\"d\":\"\\u2028\\ufeff\"}",
         "a: \"x\\x01\\ty\"\nb: \"\\n\"\nc: \"x\\n\\n\"\nd: \"\\u2028\\uFEFF\"\n"},
        {"{\"a b\":1,\"\":2,\"1\":3,\"k: v\":4}", "a b: 1\n\"\": 2\n\"1\": 3\n\"k: v\": 4\n"},
        {"[1.5,-2,1e100,0.1,1e22]", "- 1.5\n- -2\n- 1e+100\n- 0.1\n- 1e+22\n"},
        {"[333333333333333333333333]", "- 333333333333333300000000.0\n"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(buf_done) struct buf out = BUF_INIT;
        scoped(value_done) jv back = jv_invalid();
        jv value;

        assert_works(value_from_json(cases[i].json, &value, &err), &err);
        yaml_dump(jv_copy(value), &out);
        assert_string_equal(buf_str(&out), cases[i].yaml);
        assert_works(yaml_load("x", out.data, out.len, &back, NULL, &err), &err);
        assert_true(jv_equal(jv_copy(back), value));
    }
}

/* Any text of one or two odd characters comes back from what was written. */
static void test_any_string_survives_a_round_trip(void **state)
{
    static const char *const parts[] = {"",
                                        "a",
                                        "\n",
                                        " ",
                                        "\t",
                                        "#",
                                        ":",
                                        "-",
                                        "?",
                                        "\"",
                                        "'",
                                        "\\",
                                        "|",
                                        ">",
                                        "&",
                                        "*",
                                        "!",
                                        "%",
                                        "@",
                                        "`",
                                        "{",
                                        "}",
                                        "[",
                                        "]",
                                        ",",
                                        "~",
                                        "=",
                                        "<",
                                        ".",
                                        "0",
                                        "é",
                                        "\r",
                                        "\v",
                                        "\x7f",
                                        "\xc2\x85",
                                        "\xe2\x80\xa9",
                                        "\xef\xbf\xbf"};

    for (size_t i = 0; i < ARRAY_LEN(parts) * ARRAY_LEN(parts) * 4; i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(buf_done) struct buf out = BUF_INIT;
        scoped(value_done) jv back = jv_invalid();
        const char *a = parts[i % ARRAY_LEN(parts)];
        const char *b = parts[i / ARRAY_LEN(parts) % ARRAY_LEN(parts)];
        size_t form = i / ARRAY_LEN(parts) / ARRAY_LEN(parts);
        scoped(free) char *text = xasprintf(form == 0   ? "%s%s"
                                            : form == 1 ? "x%s%sx"
                                            : form == 2 ? "%sx\n%s"
                                                        : "%s%sx",
                                            a, b);
        jv value = JV_OBJECT(jv_string(text), JV_ARRAY(jv_string(text), jv_string("end")));

        yaml_dump(jv_copy(value), &out);
        if (yaml_load("x", out.data, out.len, &back, NULL, &err) < 0) {
            fail_msg("%s: %s", out.data, error_text(&err));
        }
        if (!jv_equal(jv_copy(back), value)) {
            fail_msg("not the same: %s", out.data);
        }
    }
}

/* ---- edits ---- */

static const char sample[] = "# head\n"
                             "cpus:   4      # four\n"
                             "memory: null   # default\n"
                             "\n"
                             "mounts: # the mounts\n"
                             "# home\n"
                             "- location: \"~\"\n"
                             "  # inner\n"
                             "  writable: false # ro\n"
                             "- location: /tmp # tmp\n"
                             "\n"
                             "ssh:\n"
                             "  localPort: 0\n"
                             "  # more\n"
                             "\n"
                             "images: [{location: a, arch: x}, {location: b}] # two\n"
                             "empty: [] # none\n"
                             "script: |\n"
                             "  #!/bin/sh\n"
                             "  echo # no comment\n"
                             "\n"
                             "# trailing\n"
                             "param:\n";

/* @from of the sample becomes @to, and nothing else changes. */
static void check_edit(const char *path, const char *json, const char *from, const char *to)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *text = NULL, *want = NULL;
    const char *at = strstr(sample, from);
    jv value = jv_invalid();

    if (json) {
        assert_works(value_from_json(json, &value, &err), &err);
    }
    assert_non_null(at);
    want = xasprintf("%.*s%s%s", (int)(at - sample), sample, to, at + strlen(from));
    assert_works(yaml_edit(sample, path, value, &text, &err), &err);
    assert_string_equal(text, want);
}

static void test_edits_change_nothing_else(void **state)
{
    check_edit(".cpus", "8", "4      #", "8      #");
    check_edit(".cpus", "4", "4", "4");
    check_edit(".memory", "\"4GiB\"", "null", "4GiB");
    check_edit(".memory", "[1]", ": null   # default\n", ":   # default\n- 1\n");
    check_edit(".memory", "{\"a\":1}", ": null   # default\n", ":   # default\n  a: 1\n");
    check_edit(".memory", "\"a\\nb\\n\"", "null   # default\n", "|   # default\n  a\n  b\n");
    check_edit(".memory", NULL, "memory: null   # default\n", "");
    check_edit(".mounts[0].writable", "true", "false", "true");
    check_edit(".mounts[0].location", "\"/x\"", "\"~\"", "/x");
    check_edit(".mounts[0].location", NULL, "location: \"~\"\n  # inner\n  ", "");
    check_edit(".mounts[0].mountPoint", "\"/m\"", "# ro\n", "# ro\n  mountPoint: /m\n");
    check_edit(".mounts[1]", NULL, "- location: /tmp # tmp\n", "");
    check_edit(".mounts[2]", "{\"location\":\"/y\",\"x\":[1]}", "# tmp\n",
               "# tmp\n- location: /y\n  x:\n  - 1\n");
    check_edit(".mounts[1]", "\"s\"", "location: /tmp", "s");
    check_edit(".ssh.localPort", "22", "0\n", "22\n");
    check_edit(".ssh.forwardAgent", "true", "Port: 0\n", "Port: 0\n  forwardAgent: true\n");
    check_edit(".ssh.localPort", NULL, "ssh:\n  localPort: 0\n", "ssh: {}\n");
    check_edit(".images[0].arch", "\"z\"", "arch: x", "arch: z");
    check_edit(".images[0].arch", NULL, ", arch: x", "");
    check_edit(".images[0].location", NULL, "location: a, ", "");
    check_edit(".images[1].variant", "\"a, b\"", "location: b", "location: b, variant: \"a, b\"");
    check_edit(".images[0]", NULL, "{location: a, arch: x}, ", "");
    check_edit(".images[1]", NULL, ", {location: b}", "");
    check_edit(".images[2]", "{\"a\":[1]}", "b}]", "b}, {a: [1]}]");
    check_edit(".empty[0]", "1", ": [] # none\n", ": # none\n- 1\n");
    check_edit(".script", "\"one\"", "|\n  #!/bin/sh\n  echo # no comment\n", "one\n");
    check_edit(".script", "\"x\\ny\\n\"", "#!/bin/sh\n  echo # no comment\n", "x\n  y\n");
    check_edit(".param.a", "\"1\"", "param:\n", "param:\n  a: \"1\"\n");
    check_edit(".new.deep.key", "true", "param:\n", "param:\nnew:\n  deep:\n    key: true\n");
    check_edit(".mounts", "null",
               "mounts: # the mounts\n# home\n- location: \"~\"\n  # inner\n"
               "  writable: false # ro\n- location: /tmp # tmp\n",
               "mounts: null # the mounts\n");
    check_edit(".nothing", NULL, "cpus", "cpus");
}

static void test_items_are_inserted_anywhere(void **state)
{
    static const struct {
        const char *text, *path;
        size_t index;
        const char *want;
    } cases[] = {
        {"a:\n# c\n- 1 # one\n# d\n- 2\nb: 1\n", ".a", 0,
         "a:\n- new\n# c\n- 1 # one\n# d\n- 2\nb: 1\n"},
        {"a:\n# c\n- 1 # one\n# d\n- 2\nb: 1\n", ".a", 1,
         "a:\n# c\n- 1 # one\n- new\n# d\n- 2\nb: 1\n"},
        {"a:\n# c\n- 1 # one\n# d\n- 2\nb: 1\n", ".a", 2,
         "a:\n# c\n- 1 # one\n# d\n- 2\n- new\nb: 1\n"},
        {"a:\n    - 1\n", ".a", 1, "a:\n    - 1\n    - new\n"},
        {"a: [1, 2]\n", ".a", 0, "a: [new, 1, 2]\n"},
        {"a: [1, 2]\n", ".a", 1, "a: [1, new, 2]\n"},
        {"a: [1, 2,]\n", ".a", 2, "a: [1, 2, new,]\n"},
        {"a: []\n", ".a", 0, "a:\n- new\n"},
        {"a:\n", ".a", 0, "a:\n- new\n"},
        {"{a: }\n", ".a", 0, "{a: [new]}\n"},
        {"b: 1\n", ".a", 0, "b: 1\na:\n- new\n"},
        {"- - 1\n", ".[0]", 0, "- - new\n  - 1\n"},
        {"", ".a", 0, "a:\n- new\n"},
        {"# c\n", ".a", 0, "# c\na:\n- new\n"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(free) char *text = NULL;

        assert_works(yaml_insert(cases[i].text, cases[i].path, cases[i].index, jv_string("new"),
                                 &text, &err),
                     &err);
        assert_string_equal(text, cases[i].want);
    }
}

static void test_odd_layouts_are_edited_too(void **state)
{
    static const struct {
        const char *text, *path, *json, *want;
    } cases[] = {
        {"", ".a", "1", "a: 1\n"},
        {"# c\n\n", ".a", "1", "# c\n\na: 1\n"},
        {"---\n# c\n", ".a", "1", NULL},
        {"{}", ".a", "1", "a: 1\n"},
        {"a: 1", ".b", "2", "a: 1\nb: 2\n"},
        {"a: 1\r\nb: 2 # c\r\n", ".a", "3", "a: 3\r\nb: 2 # c\r\n"},
        {"a: 1\n---\nb: 1\n", ".c", "2", "a: 1\nc: 2\n---\nb: 1\n"},
        {"a:\n  b: 1\n  c:\n", ".a.c", "[1]", "a:\n  b: 1\n  c:\n  - 1\n"},
        {"a:\n- b: 1\n  c: 2\n- d\n", ".a[0].b", NULL, "a:\n- c: 2\n- d\n"},
        {"a:\n-\n  b: 1\n", ".a[0].b", "2", "a:\n-\n  b: 2\n"},
        {"a:\n-\n  b: 1\n", ".a[0]", "2", NULL},
        {"a: &x {b: 1}\nc: *x\n", ".c.b", "2", "a: &x {b: 1}\nc:\n  b: 2\n"},
        {"a: &x {b: 1}\nc: *x\n", ".a.b", "2", NULL},
        {"a: &x {b: 1}\nc: *x\n", ".a", NULL, NULL},
        {"a: &x {b: 1}\nc:\n  <<: *x\n", ".c.b", "2", "a: &x {b: 1}\nc:\n  <<: *x\n  b: 2\n"},
        {"a: &x {b: 1}\nc:\n  <<: *x\n", ".c.b", NULL, NULL},
        {"? a\n: 1\n", ".a", "2", NULL},
        {"? a\n: 1\nb: 2\n", ".b", "3", "? a\n: 1\nb: 3\n"},
        {"a: |+\n  x\n\nb: 1\n", ".c", "2", "a: |+\n  x\n\nb: 1\nc: 2\n"},
        {"a: |+\n  x\n\n", ".c", "2", NULL},
        {"a: 'it''s'\n", ".a", "\"b\"", "a: b\n"},
        {"a:\n  plain\n  text # c\n", ".a", "\"b\"", "a: b # c\n"},
        {"a: {b: 1, # one\n  c: 2}\n", ".a.b", "3", "a: {b: 3, # one\n  c: 2}\n"},
        {"ä: 1 # ö\nb: [ü, 2]\n", ".b[1]", "3", "ä: 1 # ö\nb: [ü, 3]\n"},
        {"[a: 1]\n", ".[0].b", "2", NULL},
        {"a:\n- - 1\n  - 2\n- 3\n", ".a[0][0]", NULL, NULL},
        {"a: !!str 1\n", ".a", "\"2\"", "a: \"2\"\n"},
        {"a: [1]\n", ".a[0]", NULL, "a: []\n"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(free) char *text = NULL;
        jv value = jv_invalid();

        if (cases[i].json) {
            assert_works(value_from_json(cases[i].json, &value, &err), &err);
        }
        assert_works(yaml_edit(cases[i].text, cases[i].path, value, &text, &err), &err);
        if (cases[i].want) {
            assert_string_equal(text, cases[i].want);
        }
    }
}

static void test_impossible_edits_are_refused(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    char *text = NULL;

    assert_fails(yaml_edit("a: 1\n", ".a.b", jv_true(), &text, &err), &err, EINVAL, "path '.a.b'");
    assert_fails(yaml_edit("a: [1]\n", ".a.b", jv_true(), &text, &err), &err, EINVAL,
                 "path '.a.b'");
    assert_fails(yaml_edit("a: [1\n", ".b", jv_true(), &text, &err), &err, EINVAL, "lima.yaml:");
    assert_fails(yaml_edit("a: 1\n", "a", jv_true(), &text, &err), &err, EINVAL, "path 'a'");
    assert_fails(yaml_insert("a: [1]\n", ".a", 2, jv_true(), &text, &err), &err, EINVAL, "item 2");
}

/* ---- broken inputs ---- */

static const char all_forms[] = "%YAML 1.1\n---\n# c\na: &x {b: [1, 'y', \"z\\n\"], c: !!str 5}\n"
                                "d:\n  <<: *x\n  e: |-\n    t\n   \nf: >+\n  g\n\n- \n"
                                "h: !!binary aGk=\n? i\n: j\n...\n";

/* Loads and edits; only a crash or a sanitizer's finding counts. */
static void try_everything(const char *text, size_t len)
{
    scoped(value_lines_free) struct value_lines *lines = NULL;
    scoped(error_done) struct error err = ERROR_INIT;
    jv value;

    if (yaml_load("x", text, len, &value, &lines, &err) < 0) {
        assert_non_null(strstr(error_text(&err), "x:"));
        return;
    }
    if (!memchr(text, 0, len)) {
        scoped(free) char *copy = xstrndup(text, len);
        scoped(free) char *a = NULL, *b = NULL, *c = NULL;

        yaml_edit(copy, ".d.e", jv_string("new\ntext"), &a, NULL);
        yaml_edit(copy, ".a.b[0]", jv_invalid(), &b, NULL);
        yaml_insert(copy, ".a.b", 1, jv_true(), &c, NULL);
    }
    jv_free(value);
}

static void test_any_cut_is_survived(void **state)
{
    for (size_t i = 0; i <= strlen(all_forms); i++) {
        try_everything(all_forms, i);
        try_everything(all_forms + i, strlen(all_forms) - i);
    }
    for (size_t i = 0; i <= strlen(sample); i++) {
        try_everything(sample, i);
    }
}

static void test_any_changed_byte_is_survived(void **state)
{
    static const char bytes[] = "\0\n\t \"'#&*!|>%@`:-?[]{},<~\\a0\x80\xff\xef";

    for (size_t i = 0; i < strlen(all_forms); i++) {
        for (size_t j = 0; j < sizeof(bytes) - 1; j++) {
            scoped(free) char *text = xstrdup(all_forms);

            text[i] = bytes[j];
            try_everything(text, strlen(all_forms));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents_become_trees),
        cmocka_unit_test(test_bad_texts_are_refused_with_their_position),
        cmocka_unit_test(test_string_fields_get_the_text_of_the_reference),
        cmocka_unit_test(test_every_node_has_its_position),
        cmocka_unit_test(test_depth_is_limited_even_through_aliases),
        cmocka_unit_test(test_alias_expansion_is_limited),
        cmocka_unit_test(test_length_is_limited_also_after_alias_expansion),
        cmocka_unit_test(test_trees_become_texts),
        cmocka_unit_test(test_any_string_survives_a_round_trip),
        cmocka_unit_test(test_edits_change_nothing_else),
        cmocka_unit_test(test_items_are_inserted_anywhere),
        cmocka_unit_test(test_odd_layouts_are_edited_too),
        cmocka_unit_test(test_impossible_edits_are_refused),
        cmocka_unit_test(test_any_cut_is_survived),
        cmocka_unit_test(test_any_changed_byte_is_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
