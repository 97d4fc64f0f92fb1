/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ration.h"

#include "base/macros.h"

static int64_t price_ms(const struct ration *ration)
{
    return 1000 / ration->per_second;
}

static int64_t left_at(const struct ration *ration, int64_t now_ms)
{
    int64_t full_ms = (int64_t)ration->burst * 1000 / ration->per_second;

    return ration->last_ms ? MIN(full_ms, ration->left_ms + (now_ms - ration->last_ms))
                           : ration->left_ms;
}

bool ration_take(struct ration *ration, int64_t now_ms)
{
    ration->left_ms = left_at(ration, now_ms);
    ration->last_ms = now_ms;
    if (ration->left_ms < price_ms(ration)) {
        ration->refused++;
        return false;
    }
    ration->left_ms -= price_ms(ration);
    ration->refused = 0;
    return true;
}

unsigned ration_wait_ms(const struct ration *ration, int64_t now_ms)
{
    return (unsigned)MAX(price_ms(ration) - left_at(ration, now_ms), 0);
}
