/* SPDX-License-Identifier: Apache-2.0 */
/* Small facts about the host and an instance folder that the driver looks up before a start. */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "util/strv.h"

/* "raw" or "qcow2", from the file's first bytes. Borrowed. */
int qemu_disk_format(const char *path, const char **ret, struct error *err);
/* The same for bytes; pure. */
const char *qemu_disk_format_of(const void *head, size_t len);
/* True when io_uring can be used by this user (containers and sysctls forbid it). */
bool qemu_io_uring_works(void);
/* Errors: EADDRINUSE, and others of bind(). */
int qemu_port_check(int port, struct error *err);
/* The process's arguments; ESRCH when there is no such process. */
int qemu_process_args(int pid, struct strv *ret, struct error *err);
/* Last lines of a log file, on one line; "" when there are none. Caller frees. */
char *qemu_log_tail(const char *path) _nonnull_;
