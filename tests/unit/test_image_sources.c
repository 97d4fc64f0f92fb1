/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdlib.h>
#include "image/recipe.h"
#include "image/sources.h"
#include "util/file.h"
#include "util/path.h"

static void test_lines_give_both_mirrors(void **state)
{
    static const char text[] =
        "# deb http://old/debian bookworm main\n"
        "deb-src http://src/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://near/debian bookworm main\n"
        "deb\thttps://sec/debian-security\tbookworm-security\tmain contrib\n"
        "deb http://later/debian bookworm main\n";
    scoped(image_mirrors_done) struct image_mirrors m = {0};

    image_mirrors_scan(text, false, "bookworm", &m);
    assert_string_equal(m.archive, "http://near/debian");
    assert_string_equal(m.security, "https://sec/debian-security");
}

static void test_stanzas_give_both_mirrors(void **state)
{
    static const char text[] = "Types: deb deb-src\n"
                               "# a comment\n"
                               "URIs: http://near/debian http://far/debian\n"
                               "Suites: bookworm\n"
                               " bookworm-updates\n"
                               "Components: main\n"
                               "\n"
                               "types: deb\n"
                               "uris: http://sec/x\n"
                               "suites: bookworm-security\n"
                               "components: main\n";
    scoped(image_mirrors_done) struct image_mirrors m = {0};

    image_mirrors_scan(text, true, "bookworm", &m);
    assert_string_equal(m.archive, "http://near/debian");
    assert_string_equal(m.security, "http://sec/x");
}

static void test_unusable_sources_are_passed_over(void **state)
{
    static const struct {
        bool deb822;
        const char *text;
    } cases[] = {
        {false, ""},
        {false, "deb"},
        {false, "deb ["},
        {false, "deb [arch=amd64"},
        {false, "deb http://x"},
        {false, "deb http://x bookworm"},
        {false, "deb cdrom:[Debian] bookworm main"},
        {false, "deb mirror+file:/etc/m.list bookworm main"},
        {false, "deb http://x trixie main"},
        {false, "deb http://x bookworm contrib"},
        {true, ""},
        {true, ":"},
        {true, " continued"},
        {true, "Types: deb\nURIs: http://x\nSuites: bookworm\n"},
        {true, "Types: deb-src\nURIs: http://x\nSuites: bookworm\nComponents: main\n"},
        {true, "Enabled: no\nTypes: deb\nURIs: http://x\nSuites: bookworm\nComponents: main\n"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(image_mirrors_done) struct image_mirrors m = {0};

        image_mirrors_scan(cases[i].text, cases[i].deb822, "bookworm", &m);
        assert_null(m.archive);
        assert_null(m.security);
    }
}

static void put(const char *etc, const char *name, const char *text)
{
    scoped(free) char *path = path_join(etc, name);

    assert_int_equal(file_write_text(path, text, 0600, NULL), 0);
}

/* The archive mirror for debian-13 on a host with this os-release and sources.list. */
static char *mirror_on(const char *release, const char *list)
{
    scoped(image_mirrors_done) struct image_mirrors m = {0};
    scoped(free) char *etc = xstrdup("/tmp/lima-etc-XXXXXX");
    scoped(free) char *dir = NULL;

    assert_non_null(mkdtemp(etc));
    dir = path_join(etc, "apt/sources.list.d");
    assert_int_equal(file_mkdirs(dir, 0700, NULL), 0);
    put(etc, "os-release", release);
    put(etc, "apt/sources.list", list);
    image_mirrors_find(image_recipe_find("debian-13"), etc, &m);
    file_remove_tree(etc, NULL);
    return steal(m.archive);
}

static void test_mirror_of_another_release_serves_too(void **state)
{
    scoped(free) char *got = mirror_on("ID=debian\nVERSION_CODENAME=bookworm\n",
                                       "deb http://near/debian bookworm main\n"
                                       "deb http://near/sec bookworm-security main\n");
    scoped(free) char *alone = mirror_on("ID=debian\nVERSION_CODENAME=bookworm\n",
                                         "deb http://near/debian bookworm main\n");

    assert_string_equal(got, "http://near/debian");
    assert_null(alone); /* a guest without security updates is not wanted */
}

static void test_other_distribution_leaves_the_choice_to_mmdebstrap(void **state)
{
    scoped(free) char *got =
        mirror_on("ID=\"ubuntu\"\nVERSION_CODENAME=noble\n", "deb http://near/ubuntu noble main\n");

    assert_null(got);
}

static void test_hosts_own_files_are_commented_out_in_the_guest(void **state)
{
    const struct image_recipe *recipe = image_recipe_find("debian-12");
    struct image_mirrors m = {.archive = "file:/srv/mirror", .security = "http://near/sec"};
    scoped(buf_done) struct buf host = BUF_INIT;
    scoped(buf_done) struct buf guest = BUF_INIT;

    image_sources_format(recipe, &m, false, &host);
    image_sources_format(recipe, &m, true, &guest);
    assert_non_null(strstr(buf_str(&host), "] file:/srv/mirror bookworm main\n"));
    assert_null(strstr(buf_str(&guest),
                       "\ndeb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] file:"));
    assert_memory_equal(buf_str(&guest), "# Of the machine", 16);
    assert_non_null(strstr(buf_str(&guest), "] http://near/sec bookworm-security main\n"));
}

static void test_only_transport_options_are_taken_over(void **state)
{
    static const char dump[] = "Acquire \"\";\n"
                               "Acquire::http \"\";\n"
                               "Acquire::http::Proxy \"http://proxy:3128\";\n"
                               "Acquire::Check-Date \"false\";\n"
                               "Acquire::AllowInsecureRepositories \"1\";\n"
                               "Acquire::httpX \"1\";\n";
    scoped(buf_done) struct buf out = BUF_INIT;

    image_apt_options(dump, &out);
    assert_string_equal(buf_str(&out), "Acquire::http \"\";\n"
                                       "Acquire::http::Proxy \"http://proxy:3128\";\n"
                                       "Acquire::Check-Date \"false\";\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_give_both_mirrors),
        cmocka_unit_test(test_stanzas_give_both_mirrors),
        cmocka_unit_test(test_unusable_sources_are_passed_over),
        cmocka_unit_test(test_mirror_of_another_release_serves_too),
        cmocka_unit_test(test_other_distribution_leaves_the_choice_to_mmdebstrap),
        cmocka_unit_test(test_hosts_own_files_are_commented_out_in_the_guest),
        cmocka_unit_test(test_only_transport_options_are_taken_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
