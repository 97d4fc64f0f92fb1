/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket for programs in this guest. It is root's alone, by its mode and by the credentials of
 * whoever connects: through it a program speaks to the host in the guest's name.
 */
#pragma once

#include "base/error.h"
#include "link.h"
#include "loop.h"

#define LOCAL_SOCKET_DEFAULT "/run/lima-guestagent/agent.sock"

struct local;

/* Listens at @path and hands connections to @links, which is borrowed. Makes the folder if need
 * be. */
int local_open(struct loop *loop, const char *path, struct links *links, struct local **ret,
               struct error *err);
/* Stops listening and removes the socket. */
void local_close(struct local *local);
SCOPED_PTR(struct local, local_close)
