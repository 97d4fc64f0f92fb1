/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream of the host joined to a connected UDP socket. On the stream each datagram is preceded by
 * its length as a message is, so their boundaries hold, up to the 65,507 bytes that UDP over IPv4
 * has. As with UDP, what finds no room is lost: datagrams of the host that the socket does not take
 * are dropped, those for the host wait in the socket, which drops what comes on top. So one that
 * stands still costs a bounded amount of memory and holds nobody up.
 *
 * A datagram that nobody listens for ends the stream (MUX_RESET_CONNECTION).
 */
#pragma once

#include <stddef.h>
#include "loop.h"
#include "mux/mux.h"

#define DATAGRAM_MAX 65507

struct datagrams;

struct datagrams *datagrams_new(struct loop *loop);
/* Resets all. */
void datagrams_free(struct datagrams *datagrams);
SCOPED_PTR(struct datagrams, datagrams_free)
size_t datagrams_count(const struct datagrams *datagrams);
/*
 * Answers @stream that it is served and takes it and the connected socket over. @early bytes came
 * behind the request and are not consumed yet.
 */
void datagram_start(struct datagrams *datagrams, struct mux_stream *stream, int take_fd,
                    const void *early, size_t early_len);
