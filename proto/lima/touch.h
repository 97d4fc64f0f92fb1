/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the stream of a Touch call (guest.proto) carries: from the host one record after the other,
 * a head and a path, and from the guest one byte for each, in their order, once it is done: 0 or an
 * errno. At most LIMA_TOUCH_WINDOW records are on their way.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define LIMA_TOUCH_HEAD     4
#define LIMA_TOUCH_PATH_MAX 4095 /* relative to the mount, without a leading '/'; "": its root */
#define LIMA_TOUCH_WINDOW   64

/* In this order, if there are several. */
enum lima_touch_what {
    LIMA_TOUCH_RESET = 1,   /* no folder is known any more; the path is empty */
    LIMA_TOUCH_REMOVED = 2, /* the host has removed this, and what was below */
    LIMA_TOUCH_FOLDER = 4,  /* a folder in which changes will be told */
    LIMA_TOUCH_TOUCH = 8,   /* those who watch shall see it */
};

struct lima_touch {
    unsigned what;
    size_t path_len;
};

static inline void lima_touch_encode(const struct lima_touch *touch, uint8_t out[LIMA_TOUCH_HEAD])
{
    out[0] = (uint8_t)touch->what;
    out[1] = 0;
    out[2] = (uint8_t)touch->path_len;
    out[3] = (uint8_t)(touch->path_len >> 8);
}

static inline struct lima_touch lima_touch_decode(const uint8_t in[LIMA_TOUCH_HEAD])
{
    return (struct lima_touch){.what = in[0], .path_len = in[2] | (size_t)in[3] << 8};
}
