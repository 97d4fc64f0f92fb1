/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts this program and its service onto the machine. Runs once by cloud-init on the first boot;
 * later the service itself takes newer versions from the seed.
 */
#pragma once

#include <stdbool.h>
#include "base/error.h"

#define INSTALL_PREFIX_DEFAULT "/usr/local"

/*
 * Copies the seed's agent to <prefix>/bin unless it is there already, writes and enables the
 * service of the running init system, and starts it. @seed_dir holds lima.env and lima-guestagent.
 */
int install_main(const char *seed_dir, struct error *err);
/*
 * Copies the program alone: 1 changed, 0 the same, or the seed's is the one that was there before
 * an upgrade (program.h), which is not undone. @ret_path: where it is; caller frees.
 */
int install_program(const char *seed_dir, const char *prefix, char **ret_path, struct error *err);

/* Texts of the services for the program @path. Caller frees. */
char *install_systemd_unit(const char *path);
char *install_openrc_script(const char *path);
