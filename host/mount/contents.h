/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the servers of both protocols do with a file once they have a descriptor of it. Functions
 * give -errno; nothing is logged.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * Opens what the O_PATH descriptor @path_fd stands for, as tree_reopen(); if @may_change, a file of
 * ours also when its mode forbids that (by changing it for a moment), as the guest's user may have
 * been allowed to when it was made or opened.
 */
int contents_open(int path_fd, int flags, bool may_change);
/* Writes all; less, in *@ret, when something stands in the way of the rest. */
int contents_write(int fd, const void *data, size_t len, off_t offset, size_t *ret);
/*
 * Takes set-user-ID and set-group-ID away, as the kernel does for a write by who is not root; the
 * host's server may be root.
 */
void contents_drop_privileges(int fd);
