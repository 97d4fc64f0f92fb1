/* SPDX-License-Identifier: Apache-2.0 */
/* The pid file, whose lock makes a process the only host agent of its instance. */
#pragma once

#include "base/error.h"

/*
 * Locks @path, makes it if need be, and writes our pid. Whoever gives the claim up removes the file
 * first, then closes *@ret_fd. Errors: EBUSY (another process has it), and of I/O.
 */
int pidfile_claim(const char *path, int *ret_fd, struct error *err);
