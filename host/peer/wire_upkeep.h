/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of Clock, Health and Upgrade, as wire.h does the others. For this folder alone.
 */
#pragma once

#include "base/buf.h"
#include "peer/clock.h"
#include "peer/health.h"
#include "peer/upgrade.h"

void wire_put_clock_probe(struct buf *out, uint64_t probe);
void wire_put_clock_adjust(struct buf *out, int64_t offset_ns, bool resumed);
void wire_put_upgrade_request(struct buf *out, const struct peer_upgrade_source *source);
void wire_put_rollback_request(struct buf *out);

/* Each hands what it has decoded to a callback, for whose time it lives; or -EBADMSG, -EMSGSIZE. */
typedef void wire_clock_fn(const struct peer_clock_reply *reply, void *arg);
int wire_clock_decode(const uint8_t *data, size_t len, wire_clock_fn *fn, void *arg);
typedef void wire_health_fn(const struct peer_health *health, void *arg);
int wire_health_decode(const uint8_t *data, size_t len, wire_health_fn *fn, void *arg);
/* @error: 0, or a positive errno that @text explains. */
typedef void wire_upgraded_fn(int error, const char *text, const char *version, void *arg);
int wire_upgraded_decode(const uint8_t *data, size_t len, wire_upgraded_fn *fn, void *arg);
