/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed files: gzip, bzip2, xz, zstd, lz4, told by their first bytes. Blocks. */
#pragma once

#include <stdbool.h>
#include "base/error.h"

/* True when the file begins as one of the formats does. False also when it cannot be read. */
bool unpack_is_packed(const char *path);
/*
 * Writes the content of @from, unpacked, to a new file @to, with holes for zeros; on failure there
 * is no @to. Errors: EBADMSG (cut off or damaged; of gzip
 * the checksum is not compared), I/O errors.
 */
int unpack_file(const char *from, const char *to, struct error *err);
