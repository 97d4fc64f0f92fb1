/* SPDX-License-Identifier: Apache-2.0 */
/* Another program for the guest agent to go on as. */
#pragma once

#include "base/buf.h"
#include "peer/client.h"

#define PEER_DIGEST_SIZE 32 /* bytes of SHA-256 */

struct peer_upgrade_source {
    const char *version;
    uint64_t size; /* bytes */
    uint8_t sha256[PEER_DIGEST_SIZE];
};

struct peer_upgrade;

/*
 * Once. 0: the guest has the program in place and is about to go on as it; the session ends.
 * -errno: it stays what it is, @text says why (or NULL). Errors: EALREADY: it is that program;
 * ENOTCONN: the session ended before. @version of the new one, "" after a rollback.
 */
typedef void peer_upgrade_fn(int r, const char *text, const char *version, void *arg);

/*
 * Sends the program, whose bytes (@source->size, consumed) are kept until they are out. NULL while
 * the session is down or has no stream left; @done does not come then.
 */
struct peer_upgrade *peer_upgrade_send(struct peer *peer, const struct peer_upgrade_source *source,
                                       struct buf *take_program, peer_upgrade_fn *done, void *arg);
/* Back to the program before. ENOENT: there is none. */
struct peer_upgrade *peer_upgrade_rollback(struct peer *peer, peer_upgrade_fn *done, void *arg);
/* @done does not come. Takes NULL. */
void peer_upgrade_cancel(struct peer_upgrade *upgrade);
