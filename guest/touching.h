/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host has done to a folder that it shares by a device, shown to those who watch there: a
 * file is given the mode that it has, of which the kernel tells. No time changes but that of the
 * last change, and no symbolic link is followed: the host's user decides what is in the folder.
 *
 * 9p knows a folder that is looked up twice as two folders, one of them watched in vain, unless
 * somebody holds the first. So those in which changes will be told are held, up to a bound.
 *
 * All of it waits for the server of the files, so only a child process may call it.
 */
#pragma once

#include <stdint.h>

struct touching {
    const char *source, *path, *type; /* of the mount */
    int fd; /* a stream socket: a byte goes out when all is ready, 0 or an errno; then lima/touch.h
             */
};

/* Until the socket's or the mount's end. @arg: a struct touching; an exit status. */
int touching_run(void *arg);
