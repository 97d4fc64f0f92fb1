/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels as files: the ELF image inside a bzImage, and the unified kernel image for UEFI. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "util/strv.h"

/*
 * Writes the ELF kernel inside an x86 bzImage to @out. QEMU enters such a kernel directly (PVH),
 * which saves the guest from unpacking it: six seconds of a boot without hardware help. Returns 0,
 * or 1 when there is none that can be entered so, with nothing written.
 */
int kernel_extract_elf(const char *bzimage, const char *out, struct error *err);

/*
 * The argv of objcopy that puts the four files into @stub behind its own sections. Reads the header
 * of the stub, and the sizes of the files. Errors: EINVAL (not a PE executable).
 */
int kernel_uki_argv(const char *stub, const char *osrel, const char *cmdline, const char *initrd,
                    const char *kernel, const char *out, struct strv *ret, struct error *err);
