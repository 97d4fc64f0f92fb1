/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of the host by vsock, each of which carries one stream. Listens as soon as the kernel
 * has vsock. Who connects must come from the host's address and show the key that the host alone
 * was told, over the port that is root's alone; we show ours first (mux/greeting.h).
 */
#pragma once

#include "base/error.h"
#include "guest.pb.h"
#include "link.h"
#include "loop.h"
#include "uevent.h"

#define VSOCK_PORT 2222

struct vsock;

/*
 * Hands connections to @links. @path: a Unix socket to listen on instead, for tests; then it must
 * work. @uevent may be NULL. All but @path borrowed.
 */
int vsock_open(struct loop *loop, struct uevent *uevent, struct links *links, const char *path,
               struct vsock **ret, struct error *err);
void vsock_close(struct vsock *vsock);
SCOPED_PTR(struct vsock, vsock_close)
/* What the host needs; nothing while there is no vsock. */
void vsock_describe(struct vsock *vsock, lima_guest_v1_Info *info);
