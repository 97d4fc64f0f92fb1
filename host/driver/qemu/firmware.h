/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UEFI images of the host: where distributions put them, and which variable store belongs to which
 * code. Each instance has variables of its own, so that what the guest stores there survives.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "base/macros.h"

struct qemu_firmware {
    char *code;         /* NULL: none is needed */
    bool code_writable; /* a combined image of the instance: variables are inside */
    char *vars;         /* the instance's store; NULL for none */
};

void qemu_firmware_done(struct qemu_firmware *fw);
SCOPED_VAL(struct qemu_firmware, qemu_firmware_done)

/*
 * Looks for an image for @arch in the usual places, among them beside @binary.
 * @ret_vars may become NULL. Errors: ENOENT with a hint.
 */
int qemu_firmware_find(const char *arch, const char *binary, char **ret_code, char **ret_vars,
                       struct error *err);
/*
 * Chooses for the instance in @dir (its own qemu-efi-code.fd wins) and makes sure that its
 * variables exist and fit.
 */
int qemu_firmware_prepare(const char *arch, const char *binary, const char *dir,
                          struct qemu_firmware *ret, struct error *err);
/* True when the first bytes of an image say that it begins with a variable store. Pure. */
bool qemu_firmware_has_vars(const void *head, size_t len);
