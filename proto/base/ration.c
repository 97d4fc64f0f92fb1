/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ration.h"

#include "base/macros.h"

bool ration_take(struct ration *ration, int64_t now_ms)
{
    int64_t full_ms = (int64_t)ration->burst * 1000 / ration->per_second;
    int64_t price_ms = 1000 / ration->per_second;

    if (ration->last_ms) {
        ration->left_ms = MIN(full_ms, ration->left_ms + (now_ms - ration->last_ms));
    }
    ration->last_ms = now_ms;
    if (ration->left_ms < price_ms) {
        ration->refused++;
        return false;
    }
    ration->left_ms -= price_ms;
    ration->refused = 0;
    return true;
}
