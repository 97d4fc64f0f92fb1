/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/qemu/accel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "util/file.h"
#include "util/strv.h"
#include "util/sys.h"

#define KVM_PATH       "/dev/kvm"
#define CPUINFO_PATH   "/proc/cpuinfo"
#define CPUINFO_MAX    (8u << 20)
#define KVM_API_WANTED 12 /* the only one since Linux 2.6.22 */

/* True when the blank-separated words of @line hold @word. */
static bool line_has_word(const char *line, size_t len, const char *word)
{
    size_t n = strlen(word);

    for (size_t at = 0; at + n <= len; at++) {
        if (memcmp(line + at, word, n) == 0 && (at == 0 || strchr(" \t:", line[at - 1])) &&
            (at + n == len || strchr(" \t", line[at + n]))) {
            return true;
        }
    }
    return false;
}

bool qemu_accel_cpuinfo_has_virt(const char *cpuinfo)
{
    for (const char *line = cpuinfo; *line;) {
        size_t len = strcspn(line, "\n");

        if (str_starts(line, "flags")) {
            return line_has_word(line, len, "vmx") || line_has_word(line, len, "svm");
        }
        line += len + (line[len] == '\n');
    }
    return false;
}

static void kvm_facts(struct qemu_accel_facts *facts)
{
    scoped(fd_close) int fd = open(KVM_PATH, O_RDWR | O_CLOEXEC);

    facts->kvm_api_version = -1;
    if (fd < 0) {
        facts->kvm_open_errno = errno;
        return;
    }
    facts->kvm_api_version = ioctl(fd, KVM_GET_API_VERSION, 0);
}

struct qemu_accel_facts qemu_accel_facts_get(void)
{
    struct qemu_accel_facts facts = {.host_arch = sys_arch(), .cpu_lists_virt = true};
    scoped(buf_done) struct buf text = BUF_INIT;

    kvm_facts(&facts);
    if (str_eq(facts.host_arch, "x86_64")) {
        facts.cpu_lists_virt = file_read(CPUINFO_PATH, CPUINFO_MAX, &text, NULL) == 0 &&
                               qemu_accel_cpuinfo_has_virt(buf_str(&text));
    }
    return facts;
}

/* Why kvm cannot be used, or NULL. Caller frees. */
static char *kvm_obstacle(const struct qemu_accel_facts *facts, const char *guest_arch)
{
    if (!str_eq(facts->host_arch, guest_arch)) {
        return xasprintf("the guest is %s and the host %s", guest_arch,
                         *facts->host_arch ? facts->host_arch : "of another kind");
    }
    if (facts->kvm_open_errno == ENOENT) {
        return xstrdup("the host has no " KVM_PATH);
    }
    if (facts->kvm_open_errno == EACCES) {
        return xstrdup(KVM_PATH " is not yours to open; add yourself to the group kvm");
    }
    if (facts->kvm_open_errno) {
        return xasprintf("opening " KVM_PATH ": %s", strerror(facts->kvm_open_errno));
    }
    if (facts->kvm_api_version != KVM_API_WANTED) {
        return xstrdup(KVM_PATH " does not answer as KVM does");
    }
    if (!facts->cpu_lists_virt) {
        return xstrdup("the CPU lists neither vmx nor svm");
    }
    return NULL;
}

struct qemu_accel_choice qemu_accel_choose(const struct qemu_accel_facts *facts,
                                           const char *guest_arch, const char *forced)
{
    char *obstacle;

    if (forced) {
        return (struct qemu_accel_choice){.name = str_eq(forced, "kvm") ? "kvm" : "tcg",
                                          .reason = xstrdup("as demanded")};
    }
    obstacle = kvm_obstacle(facts, guest_arch);
    if (obstacle) {
        return (struct qemu_accel_choice){.name = "tcg", .reason = obstacle};
    }
    return (struct qemu_accel_choice){.name = "kvm", .reason = xstrdup(KVM_PATH " works")};
}

const char *qemu_accel_cpu_model(const char *accel, const char *configured)
{
    if (configured && *configured) {
        return configured;
    }
    return str_eq(accel, "tcg") ? "max" : "host";
}
