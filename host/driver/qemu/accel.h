/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which accelerator would really work here, and why not a better one. The decision is pure; the
 * facts it rests on are gathered apart, so that every combination can be tested anywhere.
 */
#pragma once

#include <stdbool.h>

struct qemu_accel_facts {
    const char *host_arch; /* Lima's names; borrowed */
    int kvm_open_errno;    /* of opening /dev/kvm; 0: it opens */
    int kvm_api_version;   /* what KVM_GET_API_VERSION answered, -1 for an error */
    bool cpu_lists_virt;   /* x86: /proc/cpuinfo lists vmx or svm; true elsewhere */
};

struct qemu_accel_choice {
    const char *name; /* "kvm" or "tcg" */
    char *reason;     /* one clause, for display; owned */
};

/* Opens /dev/kvm and reads /proc/cpuinfo; takes microseconds and never fails. */
struct qemu_accel_facts qemu_accel_facts_get(void);

/*
 * Decides for @guest_arch. @forced ("kvm", "tcg" or NULL) wins over the facts. The caller frees the
 * reason.
 */
struct qemu_accel_choice qemu_accel_choose(const struct qemu_accel_facts *facts,
                                           const char *guest_arch, const char *forced);

/* The model for -cpu: @configured unless empty, else "host" when accelerated and "max" otherwise.
 */
const char *qemu_accel_cpu_model(const char *accel, const char *configured);

/* True when /proc/cpuinfo text @cpuinfo lists hardware virtualization of x86. */
bool qemu_accel_cpuinfo_has_virt(const char *cpuinfo);
