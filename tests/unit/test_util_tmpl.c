/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include "base/buf.h"
#include "util/tmpl.h"

static const char data_json[] = "{\"Name\": \"box\", \"Param\": {\"a\": \"x\", \"empty\": \"\"}, "
                                "\"CPUs\": 4, \"Flag\": true, \"Off\": "
                                "false, \"List\": [\"p\", \"q\"], \"None\": null, \"Map\": {\"z\": "
                                "1, \"b\": [2]}, \"Float\": 1.5}";

static jv data(void)
{
    jv value = jv_parse(data_json);

    assert_true(jv_is_valid(value));
    return value;
}

static void test_templates_expand_as_in_go(void **state)
{
    static const struct {
        const char *text;
        const char *want;
    } cases[] = {
        {"", ""},
        {"plain } text }}", "plain } text }}"},
        {"a {{.Name}} b", "a box b"},
        {"{{ .Param.a }}", "x"},
        {"{{.Param.nope}}|{{.nope.deeper}}", "<no value>|<no value>"},
        {"{{.None}} {{.CPUs}} {{.Float}} {{.Flag}} {{.List}} {{.Map}}",
         "<nil> 4 1.5 true [p q] map[b:[2] z:1]"},
        {"{{if .Flag}}y{{end}}{{if .Off}}n{{end}}", "y"},
        {"{{if .Param.empty}}a{{else if .Param.nope}}b{{else}}c{{end}}", "c"},
        {"{{if eq .Name \"box\"}}same{{end}}{{if eq .nope \"box\"}}bad{{end}}", "same"},
        {"{{if eq .CPUs 1 2 4}}any{{end}}{{if ne .CPUs 4}}bad{{end}}", "any"},
        {"{{if and .Flag (not .Off)}}1{{end}}{{if or .Off .nope}}2{{end}}", "1"},
        {"{{and .Flag .Name}} {{or .Off .Name}}", "box box"},
        {"{{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge \"b\" \"a\"}}", "true true false true"},
        {"a \n {{- .Name -}} \n b", "aboxb"},
        {"a {{- /* gone */ -}} b{{/* too */}}", "ab"},
        {"{{\"{{\"}}{{`raw \\n`}}{{\"a\\tb\\u00e4\\\"\"}}", "{{raw \\na\tbä\""},
        {"{{range .List}}<{{.}}>{{end}}", "<p><q>"},
        {"{{range $i, $e := .List}}{{$i}}{{$e}}{{$.Name}} {{end}}", "0pbox 1qbox "},
        {"{{range $k, $v := .Map}}{{$k}}={{$v}};{{end}}", "b=[2];z=1;"},
        {"{{range .nope}}x{{else}}none{{end}}", "none"},
        {"{{range 3}}{{.}}{{end}}", "012"},
        {"{{with .Param}}{{.a}}{{end}}{{with .nope}}x{{else}}{{.Name}}{{end}}", "xbox"},
        {"{{with $p := .Param}}{{$p.a}}{{end}}", "x"},
        {"{{$x := 1}}{{if .Flag}}{{$x = 2}}{{end}}{{$x}}", "2"},
        {"{{$x := 1}}{{if .Flag}}{{$x := 2}}{{end}}{{$x}}", "1"},
        {"{{.Name | printf \"%s-%d\" \"n\" | len}}", NULL},
        {"{{.Name | printf \"%5s|%s\" \"n\"}}", "    n|box"},
        {"{{printf \"%03d %x %.2f %q %v %%\" 7 255 1.5 \"a\" .List}}", "007 ff 1.50 \"a\" [p q] %"},
        {"{{len .List}}{{len .Name}}{{len .Map}}", "232"},
        {"{{index .List 1}}{{index .Map \"b\" 0}}{{index .Map \"nope\"}}", "q2<no value>"},
        {"{{slice .Name 1}} {{slice .List 0 1}}", "ox [p]"},
        {"{{print 1 2 \"a\" 3}}|{{println .Name 1}}", "1 2a3|box 1\n"},
        {"{{json .Map}} {{json .Name}}", "{\"z\":1,\"b\":[2]} \"box\""},
        {"{{yaml .Map}}", "---\nz: 1\nb:\n- 2"},
        {"{{indent \"a\\nb\"}}|{{\"a\" | indent 4}}", "  a\n  b|    a"},
        {"{{missing .nope}} {{missing \"-\" .Param.empty}} {{missing .Name}}", "<missing> - box"},
        {"{{(index .List 0)}}{{(.Param).a}}{{$.Param.a}}", "pxx"},
        {"{{true}}{{nil | print}}{{-1}}{{.5}}", "true<nil>-10.5"},
        {"{{- .Name}}", "box"},
        {"{{-1}}", "-1"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(free) char *text = NULL;

        if (!cases[i].want) {
            assert_fails(tmpl_expand(cases[i].text, data(), false, &text, &err), &err, EINVAL,
                         "printf");
            continue;
        }
        if (tmpl_expand(cases[i].text, data(), false, &text, &err) < 0) {
            fail_msg("%s: %s", cases[i].text, error_text(&err));
        }
        assert_string_equal(text, cases[i].want);
    }
}

static void test_bad_templates_name_the_place(void **state)
{
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"a\n {{.Name", "line 2 column 9: unclosed action"},
        {"{{nope .Name}}", "line 1 column 3: function \"nope\" not defined"},
        {"{{if .Name}}", "'end' is missing"},
        {"{{end}}", "unexpected 'end'"},
        {"{{else}}", "unexpected 'end' or 'else'"},
        {"{{if}}x{{end}}", "missing value"},
        {"{{}}", "missing value"},
        {"{{.Name | }}", "missing value"},
        {"{{.Name | .CPUs}}", "only a function can stand behind"},
        {"{{.Name .CPUs}}", "only a function takes arguments"},
        {"{{(.Name}}", "unclosed left paren"},
        {"{{\"a}}", "unterminated string"},
        {"{{\"\\q\"}}", "bad escape"},
        {"{{/* x }}", "unclosed comment"},
        {"{{$x}}", "undefined variable \"$x\""},
        {"{{$x = 1}}", "undefined variable \"$x\""},
        {"{{define \"x\"}}{{end}}", "not supported"},
        {"{{.Name.deeper}}", "can't evaluate field deeper"},
        {"{{len 1}}", "len of type number"},
        {"{{index .List 2}}", "index out of range"},
        {"{{index .List \"a\"}}", "cannot index with type string"},
        {"{{slice .Name 3 2}}", "invalid slice index"},
        {"{{lt 1 \"a\"}}", "incompatible types"},
        {"{{eq 1}}", "wrong number of args for eq"},
        {"{{not}}", "wrong number of args for not"},
        {"{{printf \"%d\" \"a\"}}", "does not fit"},
        {"{{printf \"%d\"}}", "too few values"},
        {"{{printf \"%999999d\" 1}}", "bad directive"},
        {"{{range .Name}}{{end}}", "range can't iterate"},
        {"{{1x}}", "bad number"},
        {"{{.Name ]}}", "only a function"},
        {"{{]}}", "unexpected character"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        char *text = NULL;

        assert_fails(tmpl_expand(cases[i].text, data(), false, &text, &err), &err, EINVAL,
                     cases[i].message);
        assert_null(text);
    }
}

static void test_strict_refuses_unknown_fields(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    char *text = NULL;

    assert_fails(tmpl_expand("{{.nope}}", data(), true, &text, &err), &err, EINVAL,
                 "can't evaluate field nope");
    assert_fails(tmpl_expand("{{.Param.nope}}", data(), true, &text, &err), &err, EINVAL,
                 "can't evaluate field nope");
    assert_works(tmpl_expand("{{.Name}}", data(), true, &text, &err), &err);
    free(text);
}

static void test_work_is_limited(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct buf text = BUF_INIT;
    char *out = NULL;

    assert_fails(
        tmpl_expand("{{range 100000}}{{range 100000}}x{{end}}{{end}}", data(), false, &out, &err),
        &err, E2BIG, "too many steps");
    for (int i = 0; i < 1000; i++) {
        buf_puts(&text, "{{if 1}}");
    }
    assert_fails(tmpl_expand(text.data, data(), false, &out, &err), &err, E2BIG, "nested too deep");
    buf_truncate(&text, 0);
    buf_puts(&text, "{{");
    for (int i = 0; i < 1000; i++) {
        buf_puts(&text, "(");
    }
    assert_fails(tmpl_expand(text.data, data(), false, &out, &err), &err, E2BIG, "nested too deep");
    buf_truncate(&text, 0);
    buf_puts(&text, "{{range 100000}}");
    for (int i = 0; i < 1000; i++) {
        buf_puts(&text, "0123456789");
    }
    buf_puts(&text, "{{end}}");
    assert_fails(tmpl_expand(text.data, data(), false, &out, &err), &err, E2BIG, "too long");
    buf_done(&text);
}

static void test_any_cut_or_byte_is_survived(void **state)
{
    static const char all[] =
        "{{- /* c */}}{{range $i, $e := .List -}}{{if eq $i 0}}{{printf \"%d\\n\" "
        "(len $e)}}{{else if and .Flag `r`}}{{$x := .Map.b | json}}{{$x}}{{else}}"
        "{{index $.List 1 | indent 2}}{{end}}{{end}}{{with .Param}}{{.a}}{{end}}";
    static const char bytes[] = "{}()|\"`\\$.-=: 0a/*%\n\x01\xff";

    for (size_t i = 0; i < sizeof(all); i++) {
        scoped(free) char *cut = xstrndup(all, i);
        scoped(free) char *out = NULL, *out2 = NULL;

        tmpl_expand(cut, data(), i % 2, &out, NULL);
        tmpl_expand(all + i, data(), i % 2, &out2, NULL);
        for (size_t j = 0; i < sizeof(all) - 1 && j < sizeof(bytes) - 1; j++) {
            scoped(free) char *text = xstrdup(all);
            scoped(free) char *out3 = NULL;

            text[i] = bytes[j];
            tmpl_expand(text, data(), false, &out3, NULL);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_templates_expand_as_in_go),
        cmocka_unit_test(test_bad_templates_name_the_place),
        cmocka_unit_test(test_strict_refuses_unknown_fields),
        cmocka_unit_test(test_work_is_limited),
        cmocka_unit_test(test_any_cut_or_byte_is_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
