/* SPDX-License-Identifier: Apache-2.0 */
/* Pseudo terminals for commands. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include "base/error.h"

/*
 * A new one of this size (0: unknown) that belongs to @uid. Both ends are closed on exec, the
 * master does not block, and neither becomes our terminal.
 */
int pty_open(uid_t uid, unsigned rows, unsigned columns, int *ret_master, int *ret_slave,
             struct error *err);
void pty_resize(int master, unsigned rows, unsigned columns);
/* Signals the process group in the foreground; false when there is none. */
bool pty_signal(int master, int signal);
/* The character that ends input now; '\0': none does. */
char pty_end_of_input(int master);
