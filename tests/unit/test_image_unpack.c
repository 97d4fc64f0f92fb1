/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "image/unpack.h"
#include "util/file.h"
#include "util/path.h"

#define DATA_LEN (2u << 20)

static const char *const filters[] = {"gzip", "bzip2", "xz", "zstd", "lz4"};

static char *dir, *packed, *out;
static char *data; /* noise, a long hole, noise */

static int setup(void **state)
{
    uint32_t x = 1;

    dir = xstrdup("/tmp/lima-unpack-XXXXXX");
    assert_non_null(mkdtemp(dir));
    packed = path_join(dir, "packed");
    out = path_join(dir, "out");
    data = xcalloc(1, DATA_LEN);
    for (size_t i = 0; i < DATA_LEN; i++) {
        x = x * 1664525 + 1013904223;
        data[i] = i < 300000 || i > DATA_LEN - 100000 ? (char)(x >> 24) : 0;
    }
    return 0;
}

static int teardown(void **state)
{
    file_remove_tree(dir, NULL);
    free(dir);
    free(packed);
    free(out);
    free(data);
    return 0;
}

static void pack(const char *filter, size_t len)
{
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();

    assert_int_equal(archive_write_add_filter_by_name(a, filter), ARCHIVE_OK);
    assert_int_equal(archive_write_set_format_raw(a), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(a, packed), ARCHIVE_OK);
    archive_entry_set_filetype(entry, AE_IFREG);
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(a, data, len), (la_ssize_t)len);
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_entry_free(entry);
    archive_write_free(a);
}

static void test_every_format_unpacks_with_its_holes(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(buf_done) struct buf got = BUF_INIT;
        struct stat st;

        pack(filters[i], DATA_LEN);
        assert_true(unpack_is_packed(packed));
        assert_works(unpack_file(packed, out, &err), &err);
        assert_works(file_read(out, DATA_LEN, &got, &err), &err);
        assert_int_equal(got.len, DATA_LEN);
        assert_memory_equal(got.data, data, DATA_LEN);
        assert_int_equal(stat(out, &st), 0);
        assert_true(st.st_blocks * 512 < DATA_LEN / 2);
        unlink(out);
    }
}

static void test_trailing_hole_keeps_the_size(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct stat st;

    pack("gzip", 2000000);
    assert_works(unpack_file(packed, out, &err), &err);
    assert_int_equal(stat(out, &st), 0);
    assert_int_equal(st.st_size, 2000000);
}

static void test_cut_off_archive_fails_and_leaves_no_output(void **state)
{
    static const int percent[] = {99, 90, 50, 10};

    for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
        struct stat st;

        pack(filters[i], DATA_LEN);
        assert_int_equal(stat(packed, &st), 0);
        for (size_t k = 0; k < ARRAY_LEN(percent); k++) {
            scoped(error_done) struct error err = ERROR_INIT;

            assert_int_equal(truncate(packed, st.st_size * percent[k] / 100), 0);
            assert_fails(unpack_file(packed, out, &err), &err, EBADMSG, "unpacking");
            assert_false(file_exists(out));
        }
    }
}

static void test_damaged_archive_fails_and_leaves_no_output(void **state)
{
    /* libarchive does not look at the checksum of gzip, and writes none for zstd and lz4. */
    static const char *const checked[] = {"bzip2", "xz"};

    for (size_t i = 0; i < ARRAY_LEN(checked); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(buf_done) struct buf bytes = BUF_INIT;

        pack(checked[i], DATA_LEN);
        assert_works(file_read(packed, DATA_LEN, &bytes, &err), &err);
        memset(bytes.data + bytes.len / 2, 0xff, 64);
        assert_int_equal(file_write(packed, bytes.data, bytes.len, 0600, NULL), 0);
        assert_fails(unpack_file(packed, out, &err), &err, EBADMSG, "unpacking");
        assert_false(file_exists(out));
    }
}

static void test_plain_files_are_not_packed(void **state)
{
    static const char *const texts[] = {"", "B", "BZ", "QFI\xfb", "plain", "\x1f"};

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        assert_int_equal(file_write_text(packed, texts[i], 0600, NULL), 0);
        assert_false(unpack_is_packed(packed));
    }
    assert_false(unpack_is_packed("/nonexistent"));
}

static void test_existing_output_is_not_overwritten(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;

    pack("gzip", 100);
    assert_int_equal(file_write_text(out, "mine", 0600, NULL), 0);
    assert_fails(unpack_file(packed, out, &err), &err, EEXIST, "creating");
    assert_true(file_exists(out));
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_every_format_unpacks_with_its_holes),
        CASE(test_trailing_hole_keeps_the_size),
        CASE(test_cut_off_archive_fails_and_leaves_no_output),
        CASE(test_damaged_archive_fails_and_leaves_no_output),
        CASE(test_plain_files_are_not_packed),
        CASE(test_existing_output_is_not_overwritten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
