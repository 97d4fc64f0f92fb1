/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <endian.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "image/disk.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"

#define GIB        (INT64_C(1) << 30)
#define IMAGE_SIZE 262144 /* of the file: four clusters */

static char *dir;
static char *path;

static int setup(void **state)
{
    dir = xstrdup("/tmp/lima-disk-XXXXXX");
    assert_non_null(mkdtemp(dir));
    path = path_join(dir, "disk");
    return 0;
}

static int teardown(void **state)
{
    file_remove_tree(dir, NULL);
    free(dir);
    free(path);
    return 0;
}

static void put32(unsigned char *image, size_t at, uint32_t value)
{
    value = htobe32(value);
    memcpy(image + at, &value, sizeof(value));
}

static void put64(unsigned char *image, size_t at, uint64_t value)
{
    value = htobe64(value);
    memcpy(image + at, &value, sizeof(value));
}

/* A header as qemu-img writes it, for 1 GiB. */
static void make_qcow2(unsigned char *image)
{
    memset(image, 0, IMAGE_SIZE);
    put32(image, 0, 0x514649fb);
    put32(image, 4, 3);
    put32(image, 20, 16);
    put64(image, 24, GIB);
    put32(image, 36, 2);
    put64(image, 40, 196608);
    put64(image, 48, 65536);
    put32(image, 56, 1);
    put32(image, 96, 4);
    put32(image, 100, 112);
}

static void write_image(const unsigned char *image, size_t len)
{
    assert_int_equal(file_write(path, image, len, 0600, NULL), 0);
}

static void test_qcow2_is_told_with_its_size(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) unsigned char *image = xmalloc(IMAGE_SIZE);
    struct disk_info info;

    make_qcow2(image);
    write_image(image, IMAGE_SIZE);
    assert_works(disk_probe(path, &info, &err), &err);
    assert_int_equal(info.format, DISK_FORMAT_QCOW2);
    assert_int_equal(info.size, GIB);
}

static void test_qcow2_with_a_broken_field_is_refused(void **state)
{
    static const struct {
        const char *what;
        size_t at;
        size_t width;
        uint64_t value;
        int code;
        const char *part;
    } cases[] = {
        {"version 0", 4, 4, 0, EINVAL, "version"},
        {"version 4", 4, 4, 4, EINVAL, "version"},
        {"backing offset", 8, 8, 512, EPERM, "backing file"},
        {"backing length", 16, 4, 5, EPERM, "backing file"},
        {"cluster bits 8", 20, 4, 8, EINVAL, "cluster size"},
        {"cluster bits 22", 20, 4, 22, EINVAL, "cluster size"},
        {"cluster bits huge", 20, 4, 0xffffffff, EINVAL, "cluster size"},
        {"negative size", 24, 8, UINT64_MAX, EINVAL, "size out of range"},
        {"size beyond tables", 24, 8, UINT64_C(1) << 62, EINVAL, "size out of range"},
        {"size beyond its table", 24, 8, 2 * GIB, EINVAL, "cluster table"},
        {"no L1 entries", 36, 4, 0, EINVAL, "cluster table"},
        {"L1 entries huge", 36, 4, 0x7fffffff, EINVAL, "cluster table"},
        {"L1 outside", 40, 8, UINT64_C(1) << 40, EINVAL, "outside"},
        {"L1 unaligned", 40, 8, 196609, EINVAL, "outside"},
        {"external data file", 72, 8, 4, EPERM, "external data file"},
        {"unknown feature", 72, 8, 1 << 5, EINVAL, "unknown features"},
        {"unknown high feature", 72, 8, UINT64_C(1) << 63, EINVAL, "unknown features"},
        {"header length short", 100, 4, 96, EINVAL, "header length"},
        {"header length odd", 100, 4, 113, EINVAL, "header length"},
        {"header length huge", 100, 4, 0xfffffff8, EINVAL, "header length"},
        {"data file extension", 112, 4, 0x44415441, EPERM, "external data file"},
        {"backing format extension", 112, 4, 0xe2792aca, EPERM, "backing file"},
    };
    scoped(free) unsigned char *image = xmalloc(IMAGE_SIZE);

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        struct disk_info info;

        make_qcow2(image);
        if (cases[i].width == 4) {
            put32(image, cases[i].at, (uint32_t)cases[i].value);
        } else {
            put64(image, cases[i].at, cases[i].value);
        }
        write_image(image, IMAGE_SIZE);
        print_message("# %s\n", cases[i].what);
        assert_fails(disk_probe(path, &info, &err), &err, cases[i].code, cases[i].part);
    }
}

static void test_qcow2_extension_longer_than_the_header_is_refused(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) unsigned char *image = xmalloc(IMAGE_SIZE);
    struct disk_info info;

    make_qcow2(image);
    put32(image, 112, 0x12345678);
    put32(image, 116, 0xfffffff0);
    write_image(image, IMAGE_SIZE);
    assert_fails(disk_probe(path, &info, &err), &err, EINVAL, "extension");
}

static void test_qcow2_data_file_behind_other_extensions_is_found(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) unsigned char *image = xmalloc(IMAGE_SIZE);
    struct disk_info info;

    make_qcow2(image);
    put32(image, 112, 0x6803f857);
    put32(image, 116, 43);
    put32(image, 112 + 8 + 48, 0x44415441);
    put32(image, 112 + 8 + 52, 8);
    write_image(image, IMAGE_SIZE);
    assert_fails(disk_probe(path, &info, &err), &err, EPERM, "external data file");
}

static void test_qcow2_cut_off_anywhere_is_refused(void **state)
{
    scoped(free) unsigned char *image = xmalloc(IMAGE_SIZE);

    make_qcow2(image);
    for (size_t len = 4; len < 104; len += 4) {
        scoped(error_done) struct error err = ERROR_INIT;
        struct disk_info info;

        write_image(image, len);
        assert_fails(disk_probe(path, &info, &err), &err, EINVAL, "cut off");
    }
}

static void test_version_2_needs_no_longer_header(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) unsigned char *image = xmalloc(IMAGE_SIZE);
    struct disk_info info;

    make_qcow2(image);
    memset(image + 72, 0, 40);
    put32(image, 4, 2);
    write_image(image, IMAGE_SIZE);
    assert_works(disk_probe(path, &info, &err), &err);
    assert_int_equal(info.format, DISK_FORMAT_QCOW2);
}

static void test_formats_are_told_by_content(void **state)
{
    static const struct {
        const char *magic;
        size_t len;
        size_t at;
        enum disk_format format;
    } cases[] = {
        {"", 0, 0, DISK_FORMAT_RAW},          {"KDMV", 4, 0, DISK_FORMAT_VMDK},
        {"vhdxfile", 8, 0, DISK_FORMAT_VHDX}, {"\x7f\x10\xda\xbe", 4, 64, DISK_FORMAT_VDI},
        {"CD001", 5, 32769, DISK_FORMAT_ISO},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(free) unsigned char *image = xcalloc(1, IMAGE_SIZE);
        struct disk_info info;

        memcpy(image + cases[i].at, cases[i].magic, cases[i].len);
        write_image(image, IMAGE_SIZE);
        assert_works(disk_probe(path, &info, &err), &err);
        assert_string_equal(disk_format_name(info.format), disk_format_name(cases[i].format));
    }
}

static void test_empty_file_is_raw(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct disk_info info;

    write_image((const unsigned char *)"", 0);
    assert_works(disk_probe(path, &info, &err), &err);
    assert_int_equal(info.format, DISK_FORMAT_RAW);
    assert_int_equal(info.size, 0);
}

static void test_folder_is_refused(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct disk_info info;

    assert_fails(disk_probe(dir, &info, &err), &err, EINVAL, "not a regular file");
}

static void test_raw_grows_without_a_program(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct disk_info info = {.format = DISK_FORMAT_RAW, .size = 5};
    struct stat st;

    write_image((const unsigned char *)"hello", 5);
    assert_works(disk_grow(path, &info, GIB, &err), &err);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, GIB);
}

static void test_shrinking_is_refused(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct disk_info info = {.format = DISK_FORMAT_QCOW2, .size = 2 * GIB};

    assert_fails(disk_grow(path, &info, GIB, &err), &err, EINVAL, "shrinking is not supported");
}

static void test_other_formats_cannot_grow(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct disk_info info = {.format = DISK_FORMAT_VMDK, .size = -1};

    assert_fails(disk_grow(path, &info, GIB, &err), &err, EINVAL, "vmdk");
}

static void test_qcow2_of_qemu_is_accepted_and_grows(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *program = process_find_program("qemu-img");
    struct disk_info info;

    if (!program) {
        skip();
    }
    assert_works(disk_create(path, GIB, &err), &err);
    assert_works(disk_probe(path, &info, &err), &err);
    assert_int_equal(info.size, GIB);
    assert_works(disk_grow(path, &info, 3 * GIB, &err), &err);
    assert_works(disk_probe(path, &info, &err), &err);
    assert_int_equal(info.size, 3 * GIB);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_qcow2_is_told_with_its_size),
        CASE(test_qcow2_with_a_broken_field_is_refused),
        CASE(test_qcow2_extension_longer_than_the_header_is_refused),
        CASE(test_qcow2_data_file_behind_other_extensions_is_found),
        CASE(test_qcow2_cut_off_anywhere_is_refused),
        CASE(test_version_2_needs_no_longer_header),
        CASE(test_formats_are_told_by_content),
        CASE(test_empty_file_is_raw),
        CASE(test_folder_is_refused),
        CASE(test_raw_grows_without_a_program),
        CASE(test_shrinking_is_refused),
        CASE(test_other_formats_cannot_grow),
        CASE(test_qcow2_of_qemu_is_accepted_and_grows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
