/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another version of the guest agent in a running guest:
 *
 *   IDLE      nothing is asked for
 *   SENDING   the program is on its way; the guest checks it and says whether it takes it
 *   WAITING   the guest has taken it: the session ends and another begins, with the new program; or
 *             with the old one, if the guest had to go back
 *
 * Done when somebody asks, and once by itself if the guest's agent is older than ours; a guest that
 * went back is not upgraded by itself again as long as this host agent runs.
 */
#pragma once

#include "api/server.h"
#include "peer/client.h"
#include "util/value.h"

#define UPGRADE_PROGRAM_MAX (32u << 20) /* bytes */
#define UPGRADE_SEND_MS     120000      /* for which the guest may take to receive and check it */
#define UPGRADE_WAIT_MS     90000       /* more than the guest waits before it goes back */

struct upgrade;

/* @program is the path of the guest agent that belongs to us, @peer and it are borrowed. */
struct upgrade *upgrade_new(struct loop *loop, struct peer *peer, const char *program);
/* An exchange that waits is refused. */
void upgrade_free(struct upgrade *upgrade);

/* A session is up with an agent of @version, or gone. */
void upgrade_connected(struct upgrade *upgrade, const char *version);
void upgrade_disconnected(struct upgrade *upgrade);
/* Upgrades an agent that is older than ours, if that was not tried before. */
void upgrade_if_older(struct upgrade *upgrade);
/* See guest_upgrade(). */
void upgrade_request(struct upgrade *upgrade, struct api_exchange *take_exchange, jv body);

/* True when @theirs is a version before @ours; false when either is none. */
bool upgrade_is_older(const char *theirs, const char *ours);
