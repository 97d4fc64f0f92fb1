/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waits until an SSH server behind a forwarded port says its name ("SSH-2.0-..."), for plain mode,
 * where no guest agent tells. The user-mode network accepts connections before the guest listens,
 * so a connection alone says nothing; there is no event to wait for, so attempts are repeated with
 * growing pauses.
 */
#pragma once

#include "base/macros.h"
#include "util/loop.h"

struct banner;

/* Calls @fn once, when the server on 127.0.0.1:@port has answered. */
struct banner *banner_new(struct loop *loop, int port, loop_fn fn, void *arg);
void banner_free(struct banner *banner);
SCOPED_PTR(struct banner, banner_free)
