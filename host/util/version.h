/* SPDX-License-Identifier: Apache-2.0 */
/* What we claim to be, in one place. */
#pragma once

/*
 * The release of the reference whose configuration, files and command line we follow. Templates
 * compare it with minimumLimaVersion, create writes it ("v" in front) to lima-version, --version
 * prints it.
 */
#define LIMA_VERSION "2.2.0"
