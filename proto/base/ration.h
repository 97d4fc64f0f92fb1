/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How often something may happen that somebody hostile can cause: a burst, then so many a second.
 * Pure; the caller tells the time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ration {
    unsigned burst;      /* how many at once */
    unsigned per_second; /* how many come back */
    int64_t left_ms;     /* what is left, each worth 1000 / per_second */
    int64_t last_ms;     /* when it was counted */
    unsigned refused;    /* since the last that was granted */
};

#define RATION_INIT(at_once, a_second)                                                             \
    ((struct ration){.burst = (at_once),                                                           \
                     .per_second = (a_second),                                                     \
                     .left_ms = (int64_t)(at_once)*1000 / (a_second)})

/* True when it may happen at @now_ms, which never goes back; counts the refusals else. */
bool ration_take(struct ration *ration, int64_t now_ms);
