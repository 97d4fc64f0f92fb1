/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host has done, as records for a guest that is to touch it (lima/touch.h): one for each
 * path, however much happens to it while it waits; and while one is on its way, or was a moment
 * ago, another only if something else happens than what a touch does to the host's file.
 *
 * Pure, but for look(): no descriptors, no clock.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include "base/buf.h"
#include "lima/touch.h"

#define TOUCHES_MAX      16384 /* that wait */
#define TOUCHES_AGAIN_MS 50    /* from one touch of a path to the next */

struct touches;

/* What the host has at @path now, no link followed: 0, or -errno. */
typedef int touches_look_fn(const char *path, struct stat *ret, void *arg);

struct touches *touches_new(touches_look_fn *look, void *arg);
void touches_free(struct touches *touches);
SCOPED_PTR(struct touches, touches_free)

/*
 * Something has happened to @path, at @now_ns (CLOCK_REALTIME): @what is of enum lima_touch_what.
 * False: too many wait, and this is lost.
 */
bool touches_put(struct touches *touches, const char *path, unsigned what, int64_t now_ns);
/*
 * As that, LIMA_TOUCH_TOUCH, for a change of attributes, which may be what a guest's touch has
 * done; then nothing comes of it.
 */
bool touches_put_attributes(struct touches *touches, const char *path, int64_t now_ns);
/* So many more may wait. */
size_t touches_room(const struct touches *touches);
/*
 * Forgets all that waits, and has the guest forget its folders: they are told anew. Returns since
 * when something is forgotten, @now_ns at the latest.
 */
int64_t touches_reset(struct touches *touches, int64_t now_ns);

/*
 * Appends the records that may go out at @now_ms, any monotonic clock. Returns in how many
 * milliseconds there is more, or -1: not before something else happens.
 */
int touches_take(struct touches *touches, int64_t now_ms, struct buf *out);
/*
 * The guest has done @count more; what happened until then was put before. -EBADMSG: that were more
 * than it was given.
 */
int touches_done(struct touches *touches, size_t count, int64_t now_ms);
