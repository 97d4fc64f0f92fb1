/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <string.h>
#include "driver/qemu/host.h"

/* A guest writes what it likes to the first sector of its raw disk. */
static void test_guest_cannot_turn_its_disk_into_a_format_that_names_host_files(void **state)
{
    static const char *const heads[] = {
        "# Disk DescriptorFile\nRW 2048 FLAT \"/etc/passwd\" 0\n",
        "KDMV\1\0\0\0",
        "vhdxfile",
        "conectix",
        "<<< Oracle VM VirtualBox Disk Image >>>",
    };

    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        assert_string_equal(qemu_disk_format_of(heads[i], strlen(heads[i])), "raw");
    }
}

static void test_qcow2_is_told_from_raw(void **state)
{
    assert_string_equal(qemu_disk_format_of("QFI\xfb\0\0\0\3", 8), "qcow2");
    assert_string_equal(qemu_disk_format_of("QFI", 3), "raw");
    assert_string_equal(qemu_disk_format_of("", 0), "raw");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guest_cannot_turn_its_disk_into_a_format_that_names_host_files),
        cmocka_unit_test(test_qcow2_is_told_from_raw),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
