/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host agent knows of the guest and does for its upkeep: who it is (Info), how it does
 * (Health, asked when somebody wants to know), its clock, the version of its agent.
 */
#pragma once

#include "api/server.h"
#include "peer/client.h"
#include "peer/health.h"
#include "util/value.h"

#define GUEST_ANSWER_MS                                                                            \
    500 /* for which a question waits for the guest; then what was known counts */

struct guest;

struct guest_options {
    struct loop *loop;
    struct peer *peer;   /* borrowed */
    const char *program; /* path of the guest agent that belongs to us; borrowed */
};

struct guest *guest_new(const struct guest_options *options);
/* Questions that wait are refused. */
void guest_free(struct guest *guest);

/* A session is up, or gone. */
void guest_connected(struct guest *guest, const struct peer_info *info);
void guest_disconnected(struct guest *guest);
/* Its boot is over: an agent older than ours may be upgraded. */
void guest_ready(struct guest *guest);
/* The VM was stopped and goes on. */
void guest_resumed(struct guest *guest);

/*
 * GET /v1/guest: ends @take_exchange with what `limactl list --json` shows as "guest"; "age" is the
 * seconds since the guest said so. ENOTCONN: its agent does not speak.
 */
void guest_describe(struct guest *guest, struct api_exchange *take_exchange);
/*
 * POST /v1/guest/upgrade {"rollback": bool, "program": path}: ends @take_exchange once the guest
 * goes on as the other program: {"upgraded": bool, "version": text}. @body is consumed.
 */
void guest_upgrade(struct guest *guest, struct api_exchange *take_exchange, jv body);

/* The document, for the test. @health NULL: not known. */
jv guest_document(const struct peer_info *info, const struct peer_health *health, double age_s);
