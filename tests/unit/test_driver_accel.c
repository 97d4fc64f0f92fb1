/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include "driver/qemu/accel.h"
#include "util/strv.h"

static const struct qemu_accel_facts good = {
    .host_arch = "x86_64", .kvm_api_version = 12, .cpu_lists_virt = true};

static void assert_choice(struct qemu_accel_facts facts, const char *guest, const char *forced,
                          const char *name, const char *part)
{
    struct qemu_accel_choice choice = qemu_accel_choose(&facts, guest, forced);

    assert_string_equal(choice.name, name);
    if (!strstr(choice.reason, part)) {
        fail_msg("reason \"%s\" lacks \"%s\"", choice.reason, part);
    }
    free(choice.reason);
}

static void test_accel_is_kvm_when_all_is_well(void **state)
{
    struct qemu_accel_facts arm = good;

    assert_choice(good, "x86_64", NULL, "kvm", "works");
    arm.host_arch = "aarch64";
    assert_choice(arm, "aarch64", NULL, "kvm", "works");
}

static void test_accel_is_tcg_and_says_why(void **state)
{
    struct qemu_accel_facts f = good;

    assert_choice(f, "aarch64", NULL, "tcg", "the guest is aarch64 and the host x86_64");
    f.kvm_open_errno = ENOENT;
    assert_choice(f, "x86_64", NULL, "tcg", "no /dev/kvm");
    f.kvm_open_errno = EACCES;
    assert_choice(f, "x86_64", NULL, "tcg", "group kvm");
    f.kvm_open_errno = EBUSY;
    assert_choice(f, "x86_64", NULL, "tcg", "opening /dev/kvm");
    f = good;
    f.kvm_api_version = -1;
    assert_choice(f, "x86_64", NULL, "tcg", "does not answer");
    f = good;
    f.cpu_lists_virt = false;
    assert_choice(f, "x86_64", NULL, "tcg", "neither vmx nor svm");
    f.host_arch = "";
    assert_choice(f, "x86_64", NULL, "tcg", "of another kind");
}

static void test_accel_obeys_a_demand(void **state)
{
    assert_choice(good, "x86_64", "tcg", "tcg", "demanded");
    assert_choice(good, "aarch64", "kvm", "kvm", "demanded");
}

static void test_accel_reads_cpuinfo_flags_as_words(void **state)
{
    assert_true(qemu_accel_cpuinfo_has_virt("processor\t: 0\nflags\t\t: fpu vmx sse\n"));
    assert_true(qemu_accel_cpuinfo_has_virt("flags\t\t: fpu svm\n"));
    assert_true(qemu_accel_cpuinfo_has_virt("flags\t\t:svm"));
    assert_false(
        qemu_accel_cpuinfo_has_virt("flags\t\t: fpu vmxx xsvm svm_lock\nvmx flags\t: vnmi\n"));
    assert_false(qemu_accel_cpuinfo_has_virt("model name\t: vmx svm\nbugs\t\t: svm\n"));
    assert_false(qemu_accel_cpuinfo_has_virt(""));
}

static void test_accel_gives_the_cpu_model(void **state)
{
    assert_string_equal(qemu_accel_cpu_model("kvm", ""), "host");
    assert_string_equal(qemu_accel_cpu_model("tcg", ""), "max");
    assert_string_equal(qemu_accel_cpu_model("tcg", NULL), "max");
    assert_string_equal(qemu_accel_cpu_model("kvm", "qemu64,+ssse3"), "qemu64,+ssse3");
}

static void test_accel_facts_are_found_on_this_host(void **state)
{
    struct qemu_accel_facts facts = qemu_accel_facts_get();

    assert_non_null(facts.host_arch);
    assert_true(facts.kvm_open_errno > 0 || facts.kvm_api_version >= -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accel_is_kvm_when_all_is_well),
        cmocka_unit_test(test_accel_is_tcg_and_says_why),
        cmocka_unit_test(test_accel_obeys_a_demand),
        cmocka_unit_test(test_accel_reads_cpuinfo_flags_as_words),
        cmocka_unit_test(test_accel_gives_the_cpu_model),
        cmocka_unit_test(test_accel_facts_are_found_on_this_host),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
