/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdlib.h>
#include <sys/stat.h>
#include "http_fixture.h"
#include "image/build.h"
#include "image/prepare.h"
#include "util/digest.h"
#include "util/file.h"
#include "util/path.h"

#define MIB (INT64_C(1) << 20)

struct fixture {
    struct http_fixture server;
    char *root; /* holds LIMA_HOME, the cache, the images */
    char *home;
    char *dir;
    char *url;
    struct config_image images[3];
    struct config config;
};

static void put(const struct fixture *f, const char *name, const char *text)
{
    scoped(free) char *path = path_join(f->root, name);
    scoped(free) char *dir = path_dir(path);

    assert_int_equal(file_mkdirs(dir, 0700, NULL), 0);
    assert_int_equal(file_write_text(path, text, 0600, NULL), 0);
}

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);

    unsetenv("http_proxy");
    f->root = xstrdup("/tmp/lima-prepare-XXXXXX");
    assert_non_null(mkdtemp(f->root));
    f->home = path_join(f->root, "lima");
    f->dir = path_join(f->home, "a");
    assert_int_equal(file_mkdirs(f->dir, 0700, NULL), 0);
    setenv("XDG_CACHE_HOME", f->root, 1);
    f->server = (struct http_fixture){.content = "from afar", .content_len = 9};
    http_fixture_start(&f->server);
    f->url = http_fixture_url(&f->server, "image.img");
    for (size_t i = 0; i < ARRAY_LEN(f->images); i++) {
        f->images[i] = (struct config_image){
            .file = {.location = "", .arch = "x86_64", .digest = ""},
            .variant = "",
            .arch_variant = "",
            .kernel_cmdline = "",
        };
    }
    f->config = (struct config){.arch = "x86_64", .disk = MIB, .images = f->images};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    http_fixture_stop(&f->server);
    file_remove_tree(f->root, NULL);
    free(f->root);
    free(f->home);
    free(f->dir);
    free(f->url);
    free(f);
    return 0;
}

static int prepare(struct fixture *f, size_t count, struct error *err)
{
    f->config.image_count = count;
    return image_prepare(&f->config, f->home, f->dir, err);
}

/* File @name of the instance begins with @text. */
static void assert_file(const struct fixture *f, const char *name, const char *text)
{
    scoped(free) char *path = path_join(f->dir, name);
    scoped(buf_done) struct buf got = BUF_INIT;
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(file_read(path, 2 * MIB, &got, &err), &err);
    assert_memory_equal(got.data, text, strlen(text));
}

static void assert_absent(const struct fixture *f, const char *name)
{
    scoped(free) char *path = path_join(f->dir, name);

    assert_false(file_exists(path));
}

static void test_local_image_becomes_the_grown_disk(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = path_join(f->root, "x.img");
    scoped(free) char *url = xasprintf("file://%s", path);
    scoped(free) char *disk = path_join(f->dir, "disk");
    struct stat st;

    put(f, "x.img", "near");
    f->images[0].file.location = url;
    assert_works(prepare(f, 1, &err), &err);
    assert_file(f, "disk", "near");
    assert_int_equal(stat(disk, &st), 0);
    assert_int_equal(st.st_size, MIB);
    assert_absent(f, "image.tmp");
    assert_absent(f, "kernel");
}

static void test_kernel_parts_come_along(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *image = path_join(f->root, "x.img");
    scoped(free) char *kernel = path_join(f->root, "k");

    put(f, "x.img", "near");
    put(f, "k", "kernel text");
    f->images[0].file.location = image;
    f->images[0].has_kernel = true;
    f->images[0].kernel = (struct config_file){.location = kernel, .arch = "x86_64", .digest = ""};
    f->images[0].kernel_cmdline = "root=/dev/vda1";
    assert_works(prepare(f, 1, &err), &err);
    assert_file(f, "kernel", "kernel text");
    assert_file(f, "kernel.cmdline", "root=/dev/vda1");
}

static void test_wrong_digest_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *image = path_join(f->root, "x.img");
    scoped(free) char *hex = digest_sha256_hex("other", 5);
    scoped(free) char *digest = xasprintf("sha256:%s", hex);

    put(f, "x.img", "near");
    f->images[0].file.location = image;
    f->images[0].file.digest = digest;
    assert_fails(prepare(f, 1, &err), &err, EBADMSG, "sha256:");
    assert_absent(f, "disk");
    assert_absent(f, "image.tmp");
}

static void test_failure_moves_on_to_the_next_entry(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    f->images[0].file.location = "http://127.0.0.1:1/first.img";
    f->images[1].file.location = f->url;
    assert_works(prepare(f, 2, &err), &err);
    assert_file(f, "disk", "from afar");
}

static void test_kernel_failure_drops_the_image_of_that_entry(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *image = path_join(f->root, "x.img");

    put(f, "x.img", "near");
    f->images[0].file.location = image;
    f->images[0].has_kernel = true;
    f->images[0].kernel =
        (struct config_file){.location = "/nonexistent", .arch = "x86_64", .digest = ""};
    f->images[1].file.location = f->url;
    assert_works(prepare(f, 2, &err), &err);
    assert_file(f, "disk", "from afar");
    assert_absent(f, "kernel");
}

static void test_all_failures_are_told(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    f->images[0].file.location = "/nonexistent/one";
    f->images[1].file.location = "/nonexistent/two";
    assert_int_equal(prepare(f, 2, &err), -ENOENT);
    assert_non_null(strstr(error_text(&err), "/nonexistent/one"));
    assert_non_null(strstr(error_text(&err), "/nonexistent/two"));
}

static void test_other_variants_and_architectures_are_skipped(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    f->images[0].file.location = "/nonexistent/one";
    f->images[1].file.location = f->url;
    f->images[1].variant = "minimal";
    f->images[2].file.location = f->url;
    f->images[2].file.arch = "aarch64";
    assert_fails(prepare(f, 3, &err), &err, ENOENT, "/nonexistent/one");
    assert_int_equal(f->server.gets, 0);
}

static void test_no_entry_for_the_architecture_is_an_error(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    f->images[0].file.arch = "riscv64";
    assert_fails(prepare(f, 1, &err), &err, ENOENT, "x86_64");
}

static void test_built_image_brings_its_kernel(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    put(f, "lima/_images/debian-12/disk", "built");
    put(f, "lima/_images/debian-12/kernel", "k");
    put(f, "lima/_images/debian-12/initrd", "i");
    put(f, "lima/_images/debian-12/cmdline", "root=LABEL=root");
    put(f, "lima/_images/debian-12/info.json", "{}");
    f->images[0].file.location = "/nonexistent/published";
    f->images[0].variant = "genericcloud";
    f->images[1].file.location = "image:debian-12";
    assert_works(prepare(f, 2, &err), &err);
    assert_file(f, "disk", "built");
    assert_file(f, "kernel", "k");
    assert_file(f, "initrd", "i");
    assert_file(f, "kernel.cmdline", "root=LABEL=root");
}

static void test_unknown_built_image_is_an_error(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    f->images[0].file.location = "image:plan9";
    assert_fails(prepare(f, 1, &err), &err, ENOENT, "plan9");
}

static void test_existing_disk_is_kept_and_grown(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *disk = path_join(f->dir, "disk");
    struct stat st;

    put(f, "lima/a/disk", "mine");
    f->images[0].file.location = f->url;
    f->config.disk = 2 * MIB;
    assert_works(prepare(f, 1, &err), &err);
    assert_file(f, "disk", "mine");
    assert_int_equal(stat(disk, &st), 0);
    assert_int_equal(st.st_size, 2 * MIB);
    f->config.disk = MIB;
    assert_fails(prepare(f, 1, &err), &err, EINVAL, "shrinking");
}

static void test_formats_that_refer_to_other_files_are_refused(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *image = path_join(f->root, "x.img");

    put(f, "x.img", "KDMV vmdk");
    f->images[0].file.location = image;
    assert_fails(prepare(f, 1, &err), &err, EINVAL, "vmdk");
    assert_absent(f, "disk");
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_local_image_becomes_the_grown_disk),
        CASE(test_kernel_parts_come_along),
        CASE(test_wrong_digest_leaves_nothing),
        CASE(test_failure_moves_on_to_the_next_entry),
        CASE(test_kernel_failure_drops_the_image_of_that_entry),
        CASE(test_all_failures_are_told),
        CASE(test_other_variants_and_architectures_are_skipped),
        CASE(test_no_entry_for_the_architecture_is_an_error),
        CASE(test_built_image_brings_its_kernel),
        CASE(test_unknown_built_image_is_an_error),
        CASE(test_existing_disk_is_kept_and_grown),
        CASE(test_formats_that_refer_to_other_files_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
