/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "template/image.h"
#include "template/locate.h"
#include "util/file.h"
#include "util/path.h"
#include "util/sys.h"
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
    scoped(free) char *share = NULL;
    char template[] = "/tmp/test-template-XXXXXX";

    home = xstrdup(mkdtemp(template));
    share = path_join(home, "share");
    setenv("LIMA_DATADIR", share, 1);
    unsetenv("LIMA_TEMPLATES_PATH");
    put("share/templates/default.yaml", "a: shipped\n");
    put("share/templates/ubuntu-24.04.yaml", "a: 1\n");
    put("share/templates/experimental/foo.yaml", "a: 2\n");
    put("share/templates/_images/x.yaml", "a: 3\n");
    put("share/templates/.hidden.yaml", "a: 4\n");
    put("share/templates/notes.txt", "a: 5\n");
    put("_templates/mine.yaml", "a: mine\n");
    put("_templates/default.yaml", "a: mine too\n");
    put("dir/My-File.YML", "a: file\n");
    put("dir/not a name.yaml", "a: file\n");
    return 0;
}

static int teardown(void **state)
{
    file_remove_tree(home, NULL);
    free(home);
    return 0;
}

static void test_names_are_found_in_the_search_path(void **state)
{
    static const struct {
        const char *locator, *text, *name, *source;
    } cases[] = {
        {"template:default", "a: mine too\n", "default", "template:default"},
        {"template:mine", "a: mine\n", "mine", "template:mine"},
        {"template:mine.yaml", "a: mine\n", "mine", "template:mine.yaml"},
        {"template:mine.", "a: mine\n", "mine.", "template:mine."},
        {"template:ubuntu-24.04", "a: 1\n", "ubuntu-24.04", "template:ubuntu-24.04"},
        {"template:experimental/foo", "a: 2\n", "foo", "template:experimental/foo"},
        {"template:_images/x", "a: 3\n", "x", "template:_images/x"},
        {"template://mine", "a: mine\n", "mine", "template:mine"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(template_done) struct template found = TEMPLATE_INIT;

        assert_works(template_locate(home, cases[i].locator, &found, &err), &err);
        assert_string_equal(found.text, cases[i].text);
        assert_string_equal(found.source, cases[i].source);
        if (strcmp(cases[i].name, "mine.") != 0) {
            assert_string_equal(found.name, cases[i].name);
        }
        assert_int_equal(found.warnings.len, strstr(cases[i].locator, "//") != NULL);
    }
}

static void test_environment_replaces_the_search_path(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(template_done) struct template found = TEMPLATE_INIT;
    scoped(free) char *path = xasprintf("/nonexistent:%s/dir:%s/share/templates", home, home);

    setenv("LIMA_TEMPLATES_PATH", path, 1);
    assert_works(template_locate(home, "template:default", &found, &err), &err);
    assert_string_equal(found.text, "a: shipped\n");
    template_done(&found);
    assert_fails(template_locate(home, "template:mine", &found, &err), &err, ENOENT,
                 "/share/templates");
    unsetenv("LIMA_TEMPLATES_PATH");
}

static void test_list_has_each_name_once_and_no_hidden_one(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct strv names = STRV_INIT;
    scoped(free) char *text = NULL;

    assert_works(template_names(home, &names, &err), &err);
    text = strv_join(&names, " ");
    assert_string_equal(text, "default experimental/foo mine ubuntu-24.04");
    strv_done(&names);
}

static void test_files_are_read_by_path_and_url(void **state)
{
    static const struct {
        const char *format, *name;
    } cases[] = {
        {"%s/dir/My-File.YML", "my-file"},
        {"file://%s/dir/My-File.YML", "my-file"},
        {"%s/dir/not a name.yaml", ""},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(template_done) struct template found = TEMPLATE_INIT;
        scoped(free) char *locator = i == 0   ? xasprintf("%s/dir/My-File.YML", home)
                                     : i == 1 ? xasprintf("file://%s/dir/My-File.YML", home)
                                              : xasprintf("%s/dir/not a name.yaml", home);

        assert_works(template_locate(home, locator, &found, &err), &err);
        assert_string_equal(found.text, "a: file\n");
        assert_string_equal(found.name, cases[i].name);
    }
}

static void test_errors_name_the_place_and_the_remedy(void **state)
{
    static const struct {
        const char *locator;
        int code;
        const char *message, *hint;
    } cases[] = {
        {"", EINVAL, "empty", NULL},
        {"template:nope", ENOENT, "there is no template 'nope' in ", "--list-templates"},
        {"template:vmnet", ENOENT, "'vmnet'", "--network=lima:shared"},
        {"template:experimental/vz", ENOENT, "'experimental/vz'", "--vm-type=vz"},
        {"template:../x", EINVAL, "must not contain '..'", NULL},
        {"template:", EINVAL, "names no template", NULL},
        {"template:experimental/", EINVAL, "names no template", NULL},
        {"/nonexistent/x.yaml", ENOENT, "/nonexistent/x.yaml", "template:NAME"},
        {"file://x/y.yaml", EINVAL, "absolute", "file:///"},
        {"github:lima-vm/lima", EINVAL, "not supported", "https://"},
        {"http://127.0.0.1:1/x.yaml", EIO, "fetching `http://127.0.0.1:1/x.yaml`", "proxy"},
        {"~nobody/x", EINVAL, "~nobody", NULL},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(template_done) struct template found = TEMPLATE_INIT;
        int r = template_locate(home, cases[i].locator, &found, &err);

        if (cases[i].hint && (!err.hint || !strstr(err.hint, cases[i].hint))) {
            fail_msg("%s: hint %s", cases[i].locator, err.hint);
        }
        assert_fails(r, &err, cases[i].code, cases[i].message);
    }
}

static void test_long_texts_are_refused(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(template_done) struct template found = TEMPLATE_INIT;
    scoped(free) char *path = path_join(home, "long.yaml");

    put("long.yaml", "");
    assert_int_equal(truncate(path, TEMPLATE_MAX_BYTES + 1), 0);
    assert_fails(template_locate(home, path, &found, &err), &err, EFBIG, "longer than");
}

static void test_images_become_templates(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(template_done) struct template found = TEMPLATE_INIT;

    assert_works(template_locate(home, "https://example.org/Debian-12-genericcloud-arm64.qcow2",
                                 &found, &err),
                 &err);
    assert_string_equal(found.text,
                        "os: Linux\narch: aarch64\nimages:\n"
                        "- location: https://example.org/Debian-12-genericcloud-arm64.qcow2\n"
                        "  arch: aarch64\n");
    template_done(&found);
    assert_works(template_locate(home, "image:debian-12", &found, &err), &err);
    assert_string_equal(found.name, "debian-12");
    assert_int_equal(found.warnings.len, 0);
    template_done(&found);
    assert_works(template_locate(home, "/x/foo.raw.gz", &found, &err), &err);
    assert_string_equal(found.name, "foo");
    assert_int_equal(found.warnings.len, 1);
}

static void test_image_names_tell_instance_names(void **state)
{
    static const struct {
        const char *location, *host_arch, *name, *os, *arch;
    } cases[] = {
        {"ubuntu-24.04-server-cloudimg-amd64.img", "aarch64", "ubuntu-24.04-amd64", "Linux",
         "x86_64"},
        {"ubuntu-24.04-server-cloudimg-amd64.img", "x86_64", "ubuntu-24.04", "Linux", "x86_64"},
        {"UniversalMac_15.6.1_24G90_Restore.ipsw", "aarch64", "macos-15.6.1", "Darwin", "aarch64"},
        {"FreeBSD-16.0-CURRENT-arm64-aarch64-BASIC-CLOUDINIT-ufs.qcow2.xz", "x86_64",
         "freebsd-16.0-arm64-ufs", "FreeBSD", "aarch64"},
        {"https://x/debian-12-genericcloud-amd64-20260712-2537.qcow2", "x86_64", "debian-12",
         "Linux", "x86_64"},
        {"nocloud_alpine-3.23.0-x86_64-uefi-cloudinit-r0.qcow2", "x86_64", "alpine-3.23.0-r0",
         "Linux", "x86_64"},
        {"Arch-Linux-x86_64-cloudimg-20260715.551.qcow2", "x86_64", "archlinux", "Linux", "x86_64"},
        {"AlmaLinux-9-9.4-x86_64.qcow2", "x86_64", "almalinux-9.4", "Linux", "x86_64"},
        {"foo.raw", "x86_64", "foo", "Linux", NULL},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(free) char *name = template_image_name(cases[i].location, cases[i].host_arch);
        const char *arch = template_image_arch(cases[i].location);

        assert_true(template_is_image(cases[i].location));
        assert_string_equal(name, cases[i].name);
        assert_string_equal(template_image_os(cases[i].location), cases[i].os);
        assert_string_equal(arch ? arch : "", cases[i].arch ? cases[i].arch : "");
    }
    assert_false(template_is_image("template:foo.img"));
    assert_false(template_is_image("foo.yaml"));
    assert_false(template_is_image(".img"));
    assert_false(template_is_image("foo.gz"));
}

static void test_references_are_beside_the_template(void **state)
{
    static const struct {
        const char *source, *reference, *want;
    } cases[] = {
        {"template:experimental/foo", "bar.yaml", "template:experimental/bar.yaml"},
        {"template:foo", "bar", "template:bar"},
        {"/a/b.yaml", "c/d.yaml", "/a/c/d.yaml"},
        {"/a/b.yaml", "./d.yaml", "/a/d.yaml"},
        {"https://h/p/t.yaml", "x.yaml", "https://h/p/x.yaml"},
        {"/a/b.yaml", "/x", "/x"},
        {"-", "template:x", "template:x"},
        {"/a/b.yaml", "http://x/y", "http://x/y"},
        {"-", "x.yaml", NULL},
        {"/a/b.yaml", "../x", NULL},
        {"/a/b.yaml", "", NULL},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(free) char *locator = NULL;
        int r = template_resolve(cases[i].source, cases[i].reference, &locator, &err);

        if (cases[i].want) {
            assert_works(r, &err);
            assert_string_equal(locator, cases[i].want);
        } else {
            assert_int_equal(r, -EINVAL);
        }
    }
}

static void test_shipped_templates_can_be_read(void **state)
{
    static const char *const names[] = {"default", "debian-12", "debian-13"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(template_done) struct template found = TEMPLATE_INIT;
        scoped(free) char *path =
            xasprintf("%s/templates/%s.yaml", getenv("SOURCE_ROOT"), names[i]);
        scoped(value_done) jv tree = jv_invalid();
        scoped(value_done) jv images = jv_invalid();

        assert_works(template_locate(home, path, &found, &err), &err);
        assert_works(yaml_load(path, found.text, strlen(found.text), &tree, NULL, &err), &err);
        images = jv_object_get(jv_copy(tree), jv_string("images"));
        assert_true(jv_array_length(jv_copy(images)) > 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_found_in_the_search_path),
        cmocka_unit_test(test_environment_replaces_the_search_path),
        cmocka_unit_test(test_list_has_each_name_once_and_no_hidden_one),
        cmocka_unit_test(test_files_are_read_by_path_and_url),
        cmocka_unit_test(test_errors_name_the_place_and_the_remedy),
        cmocka_unit_test(test_long_texts_are_refused),
        cmocka_unit_test(test_images_become_templates),
        cmocka_unit_test(test_image_names_tell_instance_names),
        cmocka_unit_test(test_references_are_beside_the_template),
        cmocka_unit_test(test_shipped_templates_can_be_read),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
