/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serves SFTP requests (sftp_wire.h) of one guest from a tree. One message in, one answer out; the
 * order is that of the requests. Paths begin at the shared folder, absolute or not, and lead
 * nowhere else; symbolic links are the guest's to follow, unless the options say otherwise.
 *
 * Everything belongs to the guest's user but what the guest has given away (owners.h). The protocol
 * has times of whole seconds, and does not say which user asks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "base/buf.h"
#include "mount/tree.h"

#define SFTP_HANDLES_MAX 1024 /* open files and folders; more are refused */

struct sftp_server;

/*
 * @tree is borrowed. @follow: links are followed on the host, as far as they lead to what is in the
 * shared folder.
 */
struct sftp_server *sftp_server_new(const struct tree *tree, bool follow);
void sftp_server_free(struct sftp_server *server);
SCOPED_PTR(struct sftp_server, sftp_server_free)
/* Who owns everything, as the guest numbers its users. */
void sftp_server_set_owner(struct sftp_server *server, uid_t uid, gid_t gid);

/*
 * Serves the whole message @data (length from sftp_message_len()); its answer is appended to @out,
 * whose cap must allow SFTP_MESSAGE_MAX more. -EBADMSG: something came before INIT; nothing was
 * answered.
 */
int sftp_server_message(struct sftp_server *server, const void *data, size_t len, struct buf *out);
/* Another connection: all that the last one had open is closed. */
void sftp_server_restart(struct sftp_server *server);
/* How many files and folders are open. */
size_t sftp_server_open_count(const struct sftp_server *server);
