/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "test.h"
#include "cidata/documents.h"
#include "util/file.h"
#include "util/path.h"
#include "util/value.h"
#include "util/yaml.h"

static struct strv keys;

static int setup(void **state)
{
    strv_add(&keys, "ssh-ed25519 AAAA lima");
    return 0;
}

static int teardown(void **state)
{
    strv_done(&keys);
    return 0;
}

static struct config example(void)
{
    return (struct config){
        .instance = "a",
        .user = {.name = "me",
                 .comment = "Me",
                 .home = "/home/me.guest",
                 .shell = "/bin/bash",
                 .uid = 501,
                 .passwordless_sudo = true},
        .timezone = "",
    };
}

static void read_source(const char *name, struct buf *ret)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = path_join(getenv("SOURCE_ROOT"), name);

    assert_works(file_read(path, 1 << 20, ret, &err), &err);
}

static char *render(const struct config *config, const char *base_name)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(buf_done) struct buf base = BUF_INIT;
    scoped(buf_done) struct buf out = BUF_INIT;

    read_source(base_name, &base);
    assert_works(documents_user_data(config, &keys, base_name, buf_str(&base), &out, &err), &err);
    return buf_steal(&out);
}

/* The result of a jq program over a YAML text, as JSON. Caller frees. */
static char *query(const char *yaml, const char *program)
{
    scoped(error_done) struct error err = ERROR_INIT;
    jv tree, results;

    assert_works(yaml_load("document", yaml, strlen(yaml), &tree, NULL, &err), &err);
    assert_works(value_query(tree, program, &results, &err), &err);
    return value_to_json(results, true);
}

#define assert_query(yaml, program, want)                                                          \
    do {                                                                                           \
        scoped(free) char *query_got_ = query((yaml), (program));                                  \
        assert_string_equal(query_got_, (want));                                                   \
    } while (0)

static void assert_golden(const char *name, const char *got)
{
    scoped(free) char *path = path_join("tests/unit/golden", name);
    scoped(buf_done) struct buf want = BUF_INIT;

    if (getenv("UPDATE_GOLDEN")) {
        scoped(free) char *full = path_join(getenv("SOURCE_ROOT"), path);

        assert_int_equal(file_write_text(full, got, 0644, NULL), 0);
    }
    read_source(path, &want);
    assert_string_equal(got, buf_str(&want));
}

static void test_user_data_of_a_usual_guest(void **state)
{
    struct config config = example();
    scoped(free) char *text = render(&config, "cloud-init/user-data.yaml");

    assert_golden("cidata_user-data", text);
}

static void test_user_data_of_a_plain_guest_that_asks_for_much(void **state)
{
    struct config config = example();
    scoped(free) char *text = NULL;

    config.plain = true;
    config.upgrade_packages = true;
    config.timezone = "Europe/Berlin";
    config.user.passwordless_sudo = false;
    text = render(&config, "cloud-init/plain.yaml");
    assert_golden("cidata_user-data_plain", text);
}

static void test_an_upgrade_brings_its_module_back(void **state)
{
    struct config config = example();
    scoped(free) char *text = NULL;

    config.upgrade_packages = true;
    text = render(&config, "cloud-init/user-data.yaml");
    assert_query(text, ".cloud_final_modules, .package_upgrade",
                 "[[\"package_update_upgrade_install\"],true]");
}

static void test_dns_servers_take_the_place_of_those_of_dhcp(void **state)
{
    scoped(buf_done) struct buf network = BUF_INIT;
    scoped(strv_done) struct strv dns = STRV_INIT;

    strv_add_all(&dns, "10.0.0.53", "fd00::53", NULL);
    documents_network_config("52:55:55:01:02:03", &dns, &network);
    assert_non_null(strstr(buf_str(&network), "      route-metric: 200\n      use-dns: false\n"));
    assert_non_null(strstr(buf_str(&network), "    nameservers:\n      addresses:\n"
                                              "      - 10.0.0.53\n      - fd00::53\n"));
}

static void test_meta_data_and_network_config(void **state)
{
    scoped(buf_done) struct buf meta = BUF_INIT;
    scoped(buf_done) struct buf network = BUF_INIT;
    const struct strv none = STRV_INIT;

    documents_meta_data("iid-0", "lima-a", &meta);
    assert_golden("cidata_meta-data", buf_str(&meta));
    documents_network_config("52:55:55:01:02:03", &none, &network);
    assert_golden("cidata_network-config", buf_str(&network));
}

static const char *const nasty[] = {
    "x\ty",         "a: b",       "a #b",  "'",     "\"",      "\\",  "- a",   "[a]",
    "{a: b}",       "yes",        "null",  "~",     "0x10",    "010", "1_000", "1e3",
    "12:30",        "2001-01-01", "*x",    "&x y",  "!!int 3", "|",   ">",     "%YAML",
    "@a",           "`a`",        "<<",    "---",   "...",     "? a", "é",     "{{.Name}}",
    "$(id)",        "# c",        "",      " lead", "trail ",  "a:",  "=",     "\xe2\x80\xa8",
    "\xef\xbb\xbf", "😀",          "a\\nb", "x]\"}",
};

static void test_no_string_leaves_its_place(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(nasty); i++) {
        struct config config = example();
        scoped(free) char *home = xasprintf("/%s", strchr(nasty[i], ':') ? "x" : nasty[i]);
        scoped(free) char *key = xasprintf("ssh-rsa AAAA %s", nasty[i]);
        scoped(free) char *text = NULL;
        scoped(free) char *got = NULL, *want = NULL, *clean = xstrdup(nasty[i]);
        jv expect;

        if (strchr(home, '\t')) {
            continue; /* refused: see below */
        }
        for (char *p = clean; (p = strchr(p, ':'));) {
            memmove(p, p + 1, strlen(p));
        }
        config.user.home = home;
        config.user.shell = home;
        config.user.comment = (char *)nasty[i];
        config.timezone = (char *)nasty[i];
        strv_add(&keys, key);
        text = render(&config, "cloud-init/user-data.yaml");
        free(keys.items[--keys.len]);
        keys.items[keys.len] = NULL;

        got =
            query(text, "[.users[0] | .homedir, .shell, (.gecos // \"\"), .ssh_authorized_keys[1]]"
                        " + [.timezone // \"\", (.users|length), (.users[0]|length >= 7)] | .[]");
        expect = JV_ARRAY(jv_string(home), jv_string(home), jv_string(clean), jv_string(key),
                          jv_string(nasty[i]), jv_number(1), jv_true());
        want = value_to_json(expect, true);
        assert_string_equal(got, want);
        assert_query(text, "[keys[] | select(startswith(\"cloud_\") | not)] | length",
                     *nasty[i] ? "[12]" : "[11]");
    }
}

static void test_strings_that_no_guest_can_have_are_named(void **state)
{
    static const char *const bad[] = {"/a\nb",     "/a\rb", "/\x01", "/\x7f",
                                      "/\xc2\x85", "/\xff", "/a\tb"};
    scoped(buf_done) struct buf out = BUF_INIT;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct config config = example();
        char **const fields[] = {&config.user.name, &config.user.home, &config.user.shell,
                                 &config.timezone};
        static const char *const names[] = {"user.name", "user.home", "user.shell", "timezone"};

        for (size_t f = 0; f < ARRAY_LEN(fields); f++) {
            scoped(error_done) struct error err = ERROR_INIT;
            char *good = *fields[f];

            *fields[f] = (char *)bad[i];
            assert_fails(documents_user_data(&config, &keys, "x", "{}", &out, &err), &err, EINVAL,
                         names[f]);
            *fields[f] = good;
        }
    }
    assert_int_equal(out.len, 0);
}

static void test_users_that_cannot_be_made_are_refused(void **state)
{
    static const struct {
        const char *name, *home, *shell;
        unsigned uid;
        const char *part;
    } cases[] = {
        {"root", "/r", "/s", 1, "user.name"}, {"", "/r", "/s", 1, "user.name"},
        {"a:b", "/r", "/s", 1, "user.name"},  {"a b", "/r", "/s", 1, "user.name"},
        {"a/b", "/r", "/s", 1, "user.name"},  {"a", "r", "/s", 1, "user.home"},
        {"a", "/r", "s", 1, "user.shell"},    {"a", "/r:/x", "/s", 1, "user.home"},
        {"a", "/r", "/s", 0, "user.uid"},
    };
    scoped(buf_done) struct buf out = BUF_INIT;
    const struct strv none = STRV_INIT;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        struct config config = example();

        config.user.name = (char *)cases[i].name;
        config.user.home = (char *)cases[i].home;
        config.user.shell = (char *)cases[i].shell;
        config.user.uid = cases[i].uid;
        assert_fails(documents_user_data(&config, &keys, "x", "{}", &out, &err), &err, EINVAL,
                     cases[i].part);
    }
    {
        scoped(error_done) struct error err = ERROR_INIT;
        struct config config = example();

        assert_fails(documents_user_data(&config, &none, "x", "{}", &out, &err), &err, EINVAL,
                     "ssh key");
        assert_fails(documents_user_data(&config, &keys, "x", "[]", &out, &err), &err, EINVAL,
                     "not a map");
    }
}

static void test_the_id_changes_with_what_cloud_init_applies(void **state)
{
    scoped(free) char *a = documents_instance_id("user", "network");
    scoped(free) char *b = documents_instance_id("user", "network");
    scoped(free) char *c = documents_instance_id("userx", "network");
    scoped(free) char *d = documents_instance_id("user", "xnetwork");
    scoped(free) char *e = documents_instance_id("usern", "etwork");

    assert_string_equal(a, b);
    assert_string_not_equal(a, c);
    assert_string_not_equal(a, d);
    assert_string_not_equal(a, e);
    assert_int_equal(strlen(a), 24);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_user_data_of_a_usual_guest),
        TEST(test_user_data_of_a_plain_guest_that_asks_for_much),
        TEST(test_an_upgrade_brings_its_module_back),
        TEST(test_dns_servers_take_the_place_of_those_of_dhcp),
        TEST(test_meta_data_and_network_config),
        TEST(test_no_string_leaves_its_place),
        TEST(test_strings_that_no_guest_can_have_are_named),
        TEST(test_users_that_cannot_be_made_are_refused),
        TEST(test_the_id_changes_with_what_cloud_init_applies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
