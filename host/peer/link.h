/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection that carries one stream (mux/direct.h), on the loop: a local program's at ga.sock,
 * or one of our own to the guest where the transport has connections.
 *
 * Of a bare one, who has ended its direction and then goes away is noticed when something is
 * written to it only.
 */
#pragma once

#include "mux/direct.h"
#include "util/loop.h"

struct link;

/* The connection is closed, the stream is gone. Frees nothing of the link: that is done. */
typedef void (*link_closed_fn)(void *arg);

/*
 * Takes the non-blocking, connected @take_fd. The stream is there at once: *ret_stream, whose ops
 * the caller sets before it returns to the loop. The link frees itself behind closed(), which comes
 * from the loop only and may be NULL.
 */
struct link *link_new(struct loop *loop, int take_fd, enum direct_form form,
                      struct mux_stream **ret_stream, link_closed_fn closed, void *arg);
/* Breaks the connection; the stream gets closed(MUX_RESET_SESSION), closed() of the link does not
 * come. */
void link_free(struct link *link);
