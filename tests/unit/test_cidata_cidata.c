/* SPDX-License-Identifier: Apache-2.0 */
#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "test.h"
#include "base/buf.h"
#include "cidata/cidata.h"
#include "cidata/iso.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"

static char *folder;
static struct strv keys;

static int setup(void **state)
{
    char name[] = "/tmp/lima-test-cidata-XXXXXX";

    folder = xstrdup(mkdtemp(name));
    setenv("LIMA_DATADIR", getenv("SOURCE_ROOT"), 1);
    strv_add(&keys, "ssh-ed25519 AAAA lima");
    return 0;
}

static int teardown(void **state)
{
    file_remove_tree(folder, NULL);
    free(folder);
    strv_done(&keys);
    return 0;
}

static struct config_provision scripts[] = {
    {CONFIG_PROVISION_SYSTEM, "#!/bin/sh\ntrue\n"},
    {CONFIG_PROVISION_USER, "#!/bin/sh\nid\n"},
    {CONFIG_PROVISION_BOOT, ""},
};
static struct config_probe probes[] = {{"it's up", "#!/bin/sh\n", "see the log"}};

static struct config example(void)
{
    return (struct config){
        .instance = "a_b",
        .vm_type = "qemu",
        .user = {.name = "me",
                 .comment = "",
                 .home = "/home/me.guest",
                 .shell = "/bin/bash",
                 .uid = 501,
                 .passwordless_sudo = true},
        .timezone = "",
        .guest_install_prefix = "/usr/local",
        .provision = scripts,
        .provision_count = ARRAY_LEN(scripts),
        .probes = probes,
        .probe_count = ARRAY_LEN(probes),
    };
}

/* "NAME MODE SIZE" of every file of the image, sorted, one a line; @want_text of @want_name. */
static char *list_image(const char *path, const char *want_name, struct buf *want_text)
{
    struct archive *a = archive_read_new();
    struct archive_entry *entry;
    scoped(strv_done) struct strv lines = STRV_INIT;

    archive_read_support_format_iso9660(a);
    assert_int_equal(archive_read_open_filename(a, path, 65536), ARCHIVE_OK);
    while (archive_read_next_header(a, &entry) == ARCHIVE_OK) {
        const char *name = archive_entry_pathname(entry);
        char data[65536];
        la_ssize_t n = archive_read_data(a, data, sizeof(data));

        assert_int_equal(archive_entry_uid(entry), 0);
        if (strcmp(name, ".") != 0) {
            strv_addf(&lines, "%s %o", name, (unsigned)archive_entry_mode(entry) & 0177777);
        }
        if (want_name && strcmp(name, want_name) == 0) {
            buf_put(want_text, data, (size_t)n);
        }
    }
    archive_read_free(a);
    strv_sort(&lines);
    return strv_join(&lines, "\n");
}

static char *write_seed(const struct config *config, const char *agent)
{
    const struct cidata_options options = {
        .config = config, .ssh_keys = &keys, .guestagent = agent, .dir = folder};
    scoped(error_done) struct error err = ERROR_INIT;
    char *id;

    assert_works(cidata_write(&options, &id, &err), &err);
    return id;
}

static void test_the_medium_holds_every_file_with_its_mode(void **state)
{
    struct config config = example();
    scoped(free) char *id = write_seed(&config, "/bin/true");
    scoped(free) char *path = path_join(folder, "cidata.iso");
    scoped(buf_done) struct buf text = BUF_INIT;
    scoped(free) char *list = list_image(path, "meta-data", &text);
    scoped(free) char *meta = xasprintf("instance-id: %s\nlocal-hostname: lima-a-b\n", id);

    assert_string_equal(list, "etc_environment 100600\n"
                              "lima-guestagent 100755\n"
                              "lima.env 100600\n"
                              "meta-data 100600\n"
                              "network-config 100600\n"
                              "param.env 100600\n"
                              "probes 40700\n"
                              "probes/00000000 100700\n"
                              "probes/00000000.description 100600\n"
                              "probes/00000000.hint 100600\n"
                              "provision.boot 40700\n"
                              "provision.boot/00000002 100700\n"
                              "provision.system 40700\n"
                              "provision.system/00000000 100700\n"
                              "provision.user 40700\n"
                              "provision.user/00000001 100700\n"
                              "ssh_authorized_keys 100600\n"
                              "user-data 100600");
    assert_string_equal(buf_str(&text), meta);
}

static void test_plain_mode_has_no_agent(void **state)
{
    struct config config = example();
    scoped(free) char *path = path_join(folder, "cidata.iso");
    scoped(free) char *id = NULL;
    scoped(free) char *list = NULL;

    config.plain = true;
    id = write_seed(&config, NULL);
    list = list_image(path, NULL, NULL);
    assert_null(strstr(list, "lima-guestagent"));
    assert_non_null(strstr(list, "plain.sh 100700"));
}

static void test_the_label_is_lower_case(void **state)
{
    struct config config = example();
    scoped(free) _unused_ char *id = write_seed(&config, "/bin/true");
    scoped(free) char *path = path_join(folder, "cidata.iso");
    scoped(free) char *blkid = process_find_program("/sbin/blkid");
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(buf_done) struct buf image = BUF_INIT;
    scoped(buf_done) struct buf out = BUF_INIT;
    const char *argv[] = {blkid, "-p", "-o", "value", "-s", "LABEL", path, NULL};

    assert_works(file_read(path, 8 << 20, &image, &err), &err);
    assert_memory_equal(image.data + 32768 + 1, "CD001", 5);
    assert_memory_equal(image.data + 32768 + 40, "cidata                          ", 32);
    if (blkid) {
        assert_works(process_check(argv, 10000, &out, &err), &err);
        assert_string_equal(buf_str(&out), "cidata\n");
    }
}

static void test_the_readable_copy_is_what_cloud_init_gets(void **state)
{
    struct config config = example();
    scoped(free) char *id = write_seed(&config, "/bin/true");
    scoped(free) char *again = write_seed(&config, "/bin/true");
    scoped(free) char *iso = path_join(folder, "cidata.iso");
    scoped(free) char *path = path_join(folder, "cloud-config.yaml");
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(buf_done) struct buf copy = BUF_INIT;
    scoped(buf_done) struct buf seed = BUF_INIT;
    scoped(free) _unused_ char *list = list_image(iso, "user-data", &seed);
    struct stat st;

    assert_works(file_read(path, 1 << 20, &copy, &err), &err);
    assert_string_equal(buf_str(&copy), buf_str(&seed));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0444);
    assert_string_equal(id, again);
}

static void test_what_the_agent_applies_leaves_the_id_alone(void **state)
{
    struct config config = example();
    struct config_pair pair = {"k", "v"};
    scoped(free) char *id = write_seed(&config, "/bin/true");
    scoped(free) char *other = NULL;

    config.instance = "renamed";
    config.provision_count = 1;
    config.probe_count = 0;
    config.env = (struct config_pairs){&pair, 1};
    config.param = (struct config_pairs){&pair, 1};
    other = write_seed(&config, "/bin/false");
    assert_string_equal(id, other);
    free(other);
    config.user.uid = 502;
    other = write_seed(&config, "/bin/false");
    assert_string_not_equal(id, other);
}

static void test_scripts_arrive_unchanged(void **state)
{
    struct config config = example();
    struct config_provision odd = {CONFIG_PROVISION_SYSTEM,
                                   "#!/bin/sh\necho '\"$x\"' \\\n  # é\n---\n...\n\nx: [y\r\n"};
    scoped(free) char *path = path_join(folder, "cidata.iso");
    scoped(buf_done) struct buf text = BUF_INIT;
    scoped(free) char *id = NULL;
    scoped(free) char *list = NULL;

    config.provision = &odd;
    config.provision_count = 1;
    id = write_seed(&config, "/bin/true");
    list = list_image(path, "provision.system/00000000", &text);
    assert_string_equal(buf_str(&text), odd.script);
}

static void test_a_failure_leaves_no_medium(void **state)
{
    struct config config = example();
    const struct cidata_options options = {
        .config = &config, .ssh_keys = &keys, .guestagent = "/nowhere", .dir = folder};
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = path_join(folder, "cidata.iso");
    char *id;

    assert_fails(cidata_write(&options, &id, &err), &err, ENOENT, "guest agent");
    assert_false(file_exists(path));
}

static void test_names_that_the_format_would_cut_are_refused(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(iso_free) struct iso *iso = NULL;

    assert_works(iso_new("x", &iso, &err), &err);
    assert_works(iso_add(iso, "a/123456789012345678901234567890", 0600, "", 0, &err), &err);
    assert_fails(iso_add(iso, "a/1234567890123456789012345678901", 0600, "", 0, &err), &err,
                 ENAMETOOLONG, "ISO");
    assert_fails(iso_add(iso, "/a", 0600, "", 0, &err), &err, ENAMETOOLONG, "ISO");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_medium_holds_every_file_with_its_mode),
        TEST(test_plain_mode_has_no_agent),
        TEST(test_the_label_is_lower_case),
        TEST(test_the_readable_copy_is_what_cloud_init_gets),
        TEST(test_what_the_agent_applies_leaves_the_id_alone),
        TEST(test_scripts_arrive_unchanged),
        TEST(test_a_failure_leaves_no_medium),
        TEST(test_names_that_the_format_would_cut_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
