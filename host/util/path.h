/* SPDX-License-Identifier: Apache-2.0 */
/* Paths: joining, cleaning, "~", and the folders that the environment names. No I/O but where said.
 */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "base/macros.h"

/* Joined with single slashes; an absolute later part does not replace an earlier one. Caller frees.
 */
char *path_join(const char *first, ...) __attribute__((sentinel)) _nonnull_;
#define path_join(...) path_join(__VA_ARGS__, NULL)

/* Lexical: resolves ".", "..", doubled slashes. Caller frees. */
char *path_clean(const char *path) _nonnull_;
/* After the last slash; borrowed. */
const char *path_base(const char *path);
/* Before the last slash ("." or "/" when there is none). Caller frees. */
char *path_dir(const char *path) _nonnull_;
/*
 * "~" and "~/x" become the user's home, relative paths absolute against the working directory.
 * Errors: EINVAL ("~user" forms), ENOENT (no HOME).
 */
int path_expand(const char *path, char **ret, struct error *err);
/* $HOME or the password database. Borrowed, may be NULL. */
const char *path_home(void);
/* $LIMA_HOME resolved through symlinks and made absolute, else ~/.lima. May not exist. */
int path_lima_home(char **ret, struct error *err);
/* $XDG_CACHE_HOME/lima or ~/.cache/lima (macOS: ~/Library/Caches/lima). */
int path_cache(char **ret, struct error *err);
/* The file of this program, or of the one that has taken its place since; NULL with errno. */
char *path_self(void);
/* Installed data: $LIMA_DATADIR (build tree, tests), else <prefix>/share/lima beside the binary. */
char *path_share(const char *name) _nonnull_;
/* Programs that only ours run: $LIMA_LIBEXECDIR, else <prefix>/libexec/lima beside the binary. */
char *path_libexec(const char *name) _nonnull_;
/* The home folder's prefix replaced by "~" for display. Caller frees. */
char *path_tilde(const char *path) _nonnull_;
/* True when @path is @dir or below it, at component boundaries; both clean and absolute. */
bool path_is_below(const char *path, const char *dir);
