/* SPDX-License-Identifier: Apache-2.0 */
/* Programs beside QEMU that serve one of its devices (vhost-user). */
#pragma once

#include "base/macros.h"

/*
 * In PATH, where cargo installs, and where distributions put what is not for users. Caller frees;
 * NULL: not installed.
 */
char *qemu_helper_find(const char *name) _nonnull_;
