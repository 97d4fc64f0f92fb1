/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a QEMU binary can do, asked of itself through QMP in one short run and then remembered in
 * the cache folder until the binary changes (path, modification time, size). Blocks for some 100 ms
 * on the first use of a binary.
 */
#pragma once

#include "base/error.h"
#include "base/macros.h"
#include "util/strv.h"

struct qemu_caps {
    int major, minor, micro;
    struct strv machines;
    struct strv accels;  /* "tcg", "kvm", ... */
    struct strv cpus;    /* models for -cpu */
    struct strv devices; /* for -device */
    struct strv netdevs; /* types for -netdev */
    struct strv aios;    /* for -drive aio= */
};

/*
 * Finds the binary of @arch: QEMU_SYSTEM_<ARCH> of the environment (further words of it go to
 * @ret_extra, in front of all arguments), else qemu-system-* in PATH.
 * Errors: ENOENT with a hint, ENOTSUP (no such architecture).
 */
int qemu_binary_find(const char *arch, char **ret_path, struct strv *ret_extra, struct error *err);

/* From the cache, else by asking @binary. Errors: the program's own words. */
int qemu_caps_get(const char *binary, struct qemu_caps **ret, struct error *err);
void qemu_caps_free(struct qemu_caps *caps);
SCOPED_PTR(struct qemu_caps, qemu_caps_free)

/* True from @major.@minor on. */
bool qemu_caps_at_least(const struct qemu_caps *caps, int major, int minor);

/* Pure parts, for tests: what the probe writes to QEMU, its answer, the cached form. */
extern const char qemu_caps_questions[];
/* Errors: EBADMSG (not QMP), EPROTO (an answer is missing). */
int qemu_caps_parse(const char *answers, size_t len, struct qemu_caps **ret, struct error *err);
/* Caller frees. */
char *qemu_caps_to_json(const struct qemu_caps *caps, const char *key) _nonnull_;
/* NULL when the text is damaged or made for another @key. */
struct qemu_caps *qemu_caps_from_json(const char *text, const char *key);
