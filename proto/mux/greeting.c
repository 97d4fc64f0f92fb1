/* SPDX-License-Identifier: Apache-2.0 */
#include "mux/greeting.h"

#include <string.h>

/* With the version of what follows. */
static const uint8_t magic[GREETING_LEN - GREETING_KEY_LEN] = {'l', 'i', 'm', 'a',
                                                               '-', 's', 't', 1};

void greeting_make(uint8_t out[GREETING_LEN], const uint8_t key[GREETING_KEY_LEN])
{
    memcpy(out, magic, sizeof(magic));
    memcpy(out + sizeof(magic), key, GREETING_KEY_LEN);
}

bool greeting_check(const uint8_t in[GREETING_LEN], const uint8_t key[GREETING_KEY_LEN])
{
    uint8_t want[GREETING_LEN];
    volatile uint8_t differs = 0;

    greeting_make(want, key);
    for (int i = 0; i < GREETING_LEN; i++) {
        differs |= in[i] ^ want[i];
    }
    return differs == 0;
}
