/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images made on this machine from a distribution's signed packages, under $LIMA_HOME/_images/NAME:
 *
 *   disk       qcow2 with a GPT: an ESP that holds kernel, initrd and command line as one unified
 *              kernel image, which UEFI firmware starts by itself, and the root file system
 *   kernel, initrd, cmdline   the same for direct boot, which is quicker
 *   info.json  suite, time, sizes, versions of the tools
 *
 * A folder is there complete or not at all. These functions block, draw progress, and log what they
 * did; the command line calls them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include "base/error.h"
#include "image/recipe.h"
#include "util/strv.h"

#define IMAGE_DISK    "disk"
#define IMAGE_KERNEL  "kernel"
#define IMAGE_INITRD  "initrd"
#define IMAGE_CMDLINE "cmdline"
#define IMAGE_INFO    "info.json"

struct image_build_options {
    const char *mirror;          /* URI of the archive; NULL: the host's own, else the public one */
    const char *security;        /* URI of the security archive; NULL: likewise */
    const struct strv *packages; /* more of the distribution's; borrowed, NULL: none */
    bool keep;                   /* an image that is there is fine: nothing to do then */
    bool no_cache;               /* neither use packages kept by earlier builds nor keep them */
};

/*
 * Builds @name, replacing an older build of it. @options may be NULL.
 * Errors: EINVAL (what is no name of a package), ENOENT (no such recipe, or missing programs: the
 * hint installs them), EPERM (not allowed to build: the message says what is missing), EINTR
 * (Ctrl-C; nothing is left behind), EIO (a step failed; the message has its last lines of output).
 */
int image_build(const char *name, const char *lima_home, const struct image_build_options *options,
                struct error *err);

/* $LIMA_HOME/_images/NAME; caller frees. */
char *image_dir(const char *lima_home, const char *name) _nonnull_;
/* True when a complete build is there. */
bool image_is_built(const char *lima_home, const char *name);

struct image_info {
    char *name;
    int64_t bytes; /* on disk, all files */
    time_t built;
};

struct image_list {
    struct image_info *items; /* by name */
    size_t len;
};

/* What is built. No images is an empty list. */
int image_list_load(const char *lima_home, struct image_list *ret, struct error *err);
void image_list_done(struct image_list *list);
SCOPED_VAL(struct image_list, image_list_done)

/* Removes a build. Errors: ENOENT, EBUSY (being built). */
int image_delete(const char *name, const char *lima_home, struct error *err);
