/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One ssh connection to 127.0.0.1 by libssh2, on the loop, from connect() to its loss. It never
 * comes back: who wants another one makes a new link.
 *
 * libssh2 writes into a buffer here, which takes everything, so that none of its calls stops half
 * way through a packet; its -EAGAIN means "more input", and nothing else. Who gives it data looks
 * at ssh_link_room() first. All the memory that it takes is counted and limited, because the other
 * end is a guest.
 *
 * The host key is not checked: the port is one that our QEMU listens on, the guest makes its key by
 * itself, and a public key login shows a wrong server nothing that it could use.
 */
#pragma once

#include <libssh2.h>
#include <stdbool.h>
#include "base/error.h"
#include "base/macros.h"
#include "util/loop.h"

struct ssh_link;

struct ssh_link_options { /* borrowed as long as the link lives */
    int port;             /* on 127.0.0.1 */
    const char *user;
    const char *key; /* file with the private key, no passphrase */
};

struct ssh_link_events {
    void (*up)(void *arg); /* logged in */
    /*
     * Only when up, and the one place where channels may be touched: bytes have come, what was
     * written has gone, or ssh_link_kick() asked for it. Must not free the link.
     */
    void (*drive)(void *arg);
    /*
     * It failed or was lost: EACCES (the login was refused), ETIMEDOUT, or whatever. Once, the
     * last call; the channels are to be forgotten, the link is to be freed, here or later.
     */
    void (*down)(const struct error *why, void *arg);
};

/* Begins to connect. No event comes before this has returned. */
struct ssh_link *ssh_link_new(struct loop *loop, const struct ssh_link_options *options,
                              const struct ssh_link_events *events, void *arg) _nonnull_;
/* Frees the channels too. Not from drive(). */
void ssh_link_free(struct ssh_link *link);
SCOPED_PTR(struct ssh_link, ssh_link_free)

/* For channels, inside drive(). */
LIBSSH2_SESSION *ssh_link_session(struct ssh_link *link);
/* Bytes that can be written now so that the connection is kept busy and no more is in memory. */
size_t ssh_link_room(const struct ssh_link *link);
/* Bytes so far; while they stay the same, a channel that had nothing to read has nothing. */
uint64_t ssh_link_received(const struct ssh_link *link);
/* drive() comes, from the loop. */
void ssh_link_kick(struct ssh_link *link);
/*
 * A call of libssh2 in drive() has failed so that the connection makes no sense any more: down()
 * comes when drive() has returned. @what names the call.
 */
void ssh_link_broken(struct ssh_link *link, const char *what);
/* The number of channels that its memory must suffice for. */
void ssh_link_set_channels(struct ssh_link *link, size_t count);
/*
 * Asks the other end for a sign of life; none within @patience_ms ends the link. Does nothing
 * before it is up, or while an earlier question is open that ends sooner.
 */
void ssh_link_probe(struct ssh_link *link, int patience_ms);
