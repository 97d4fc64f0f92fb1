/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an image that is built here is made of: the distribution's suite and packages, and the few
 * files laid over them. Data only; build.c carries it out.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "base/error.h"

struct image_recipe {
    const char *name;     /* "debian-12" */
    const char *title;    /* "Debian 12 (bookworm)" */
    const char *id;       /* ID of os-release: whose apt sources may be used */
    const char *suite;    /* "bookworm" */
    const char *keyring;  /* the same path on the host and in the guest */
    const char *packages; /* separated by commas; the kernel comes from struct image_arch */
};

/* How one architecture boots. */
struct image_arch {
    const char *arch;      /* Lima's name */
    const char *deb;       /* the distribution's name */
    const char *kernel;    /* package */
    const char *efi_stub;  /* file of systemd's EFI stub on the host */
    const char *efi_name;  /* where firmware looks for a boot loader */
    const char *root_type; /* GPT type of the root partition */
    const char *console;   /* serial console of the guest */
};

/* A file, or with @link a symlink, of the guest. */
struct image_overlay {
    const char *path; /* relative to / */
    const char *text;
    const char *link;
    mode_t mode;
};

/* Ends with a NULL name. */
extern const struct image_recipe image_recipes[];
/* Laid before the packages are configured: what their scripts read. Ends with a NULL path. */
extern const struct image_overlay image_overlay_early[];
/* Laid last. Ends with a NULL path. */
extern const struct image_overlay image_overlay_late[];
/* What mmdebstrap runs after the packages, with the tree as $1. Ends with NULL. */
extern const char *const image_customize[];
/* The kernel's command line; the console is added for the architecture. */
extern const char image_cmdline[];

/* NULL if there is none. */
const struct image_recipe *image_recipe_find(const char *name);
/* NULL if no image can be built for it. */
const struct image_arch *image_arch_find(const char *arch);
/* Writes @files as a tar archive owned by root; they all get the time @when. */
int image_overlay_write(const struct image_overlay *files, time_t when, const char *tar,
                        struct error *err);
