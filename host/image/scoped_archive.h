/* SPDX-License-Identifier: Apache-2.0 */
/* Scope cleanup for the objects of libarchive. */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include "base/macros.h"

SCOPED_PTR(struct archive_entry, archive_entry_free)

static inline void _unused_ scoped_archive_write_free(struct archive **a)
{
    archive_write_free(*a);
}

static inline void _unused_ scoped_archive_read_free(struct archive **a)
{
    archive_read_free(*a);
}
