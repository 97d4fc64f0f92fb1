/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that the next process of this service gets: after a kill from systemd's descriptor
 * store (sd_notify(3), FDSTORE), after an upgrade by inheritance. Without systemd only the latter.
 */
#pragma once

#include <stdbool.h>

#define KEEP_MAX      128 /* FileDescriptorStoreMax= of the unit */
#define KEEP_NAME_MAX 64

/* A next process gets what is put, or is about to get what it was made for by keep_for_exec(). */
bool keep_is_kept(void);

/* Stores a copy under @name (letters, digits, '-', '.'). */
void keep_put(const char *name, int fd);
void keep_remove(const char *name);

/* Hands out what an earlier process has kept, name by name; the callee owns @take_fd. */
void keep_take_all(void (*take)(const char *name, int take_fd, void *arg), void *arg);

/* Before the program executes another in its place: a copy of @fd is for that, under @name. */
void keep_for_exec(const char *name, int fd);
