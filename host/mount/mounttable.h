/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host mounts in a shared folder, or unmounts there: no watch of folders tells, but the
 * table of mounts says when it has changed (proc_pid_mountinfo(5)).
 */
#pragma once

#include "base/macros.h"

struct mounttable;

/* NULL: this system has none. To be opened before the process is confined. */
struct mounttable *mounttable_open(const char *source);
void mounttable_close(struct mounttable *table);
SCOPED_PTR(struct mounttable, mounttable_close)
/* Readable: mounttable_read() is due. */
int mounttable_fd(const struct mounttable *table);
/* @fn for each path below @source that leads elsewhere since the last call: relative, no "..". */
void mounttable_read(struct mounttable *table, void (*fn)(const char *path, void *arg), void *arg);
