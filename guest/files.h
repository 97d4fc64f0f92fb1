/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small files, whole and bounded.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "base/error.h"

#define FILES_TEXT_MAX (1u << 20) /* any configuration text that we edit */

/* The text of @path (up to @max bytes, NUL-terminated), or NULL with @err filled. Caller frees. */
char *files_read(const char *path, size_t max, struct error *err);
bool files_exist(const char *path);
/*
 * Replaces @path by @text atomically, unless it says so already: 1 changed, 0 was the same. Keeps
 * owner and mode of an existing file; a new one belongs to root and gets @mode.
 */
int files_write(const char *path, const char *text, mode_t mode, struct error *err);
/* As files_write() for a file that belongs to @uid, @gid whether new or old. */
int files_write_as(const char *path, const char *text, mode_t mode, uid_t uid, gid_t gid,
                   struct error *err);
/* Makes @path and its missing parents (parents 0755), as root. */
int files_mkdirs(const char *path, mode_t mode, struct error *err);
