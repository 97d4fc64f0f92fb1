/* SPDX-License-Identifier: Apache-2.0 */
/* Image locations as templates: what the file name tells about system, architecture and name. */
#pragma once

#include <stdbool.h>
#include "base/macros.h"

/* "image:NAME", or a name that ends in .img .qcow2 .raw .iso .ipsw, maybe with .gz .xz .bz2
 * .zst(d). */
bool template_is_image(const char *location);
/* "Linux", "FreeBSD" or "Darwin". */
const char *template_image_os(const char *location);
/* Lima's name of the architecture in the file name, or NULL when it tells none. */
const char *template_image_arch(const char *location);
/* Name for an instance on a host of @host_arch: "debian-12" for debian-12-genericcloud-amd64.qcow2.
 */
char *template_image_name(const char *location, const char *host_arch) _nonnull_;
