/* SPDX-License-Identifier: Apache-2.0 */
/* What can be said about a configuration before QEMU is started. */
#pragma once

#include "config/config.h"
#include "driver/qemu/caps.h"

int qemu_validate(const struct config *config, struct error *err);
char *qemu_describe(const struct config *config);
/* Checks what is going to be used against what the binary has. Pure. */
int qemu_validate_caps(const struct config *config, const char *accel, const struct qemu_caps *caps,
                       struct error *err);
