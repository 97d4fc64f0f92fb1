/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What build.c (a build as a whole) and its stages, build_packages.c and build_disk.c, share.
 * Nobody else includes it.
 */
#pragma once

#include "image/build.h"
#include "image/sources.h"
#include "image/tool.h"

#define MIB (INT64_C(1) << 20)

struct build {
    const struct image_recipe *recipe;
    const struct image_arch *arch;
    const struct image_build_options *options;
    char *images; /* $LIMA_HOME/_images */
    char *work;   /* .NAME.tmp in it */
    char *cache;  /* packages of earlier builds; NULL: none kept */
    struct tool *tool;
    struct image_mirrors mirrors;
    int64_t esp_size;
    int64_t root_size;
    int64_t start_ms;
};

/* ---- build.c ---- */

/* Of the folder where all work happens; caller frees. */
char *build_work_path(const struct build *build, const char *name);

/* ---- build_packages.c ---- */

/* Errors: ENOENT (programs are missing), EPERM. */
int build_check_needs(const struct build *build, struct error *err);
/* The root file system's tree. */
int build_stage_packages(struct build *build, struct error *err);

/* ---- build_disk.c ---- */

/* Kernel, initrd, command line. */
int build_stage_boot_files(struct build *build, struct error *err);
int build_stage_disk(struct build *build, struct error *err);
