/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How both ends of a connection prove themselves where anybody may connect or listen (vsock): each
 * sends a greeting made with its own key, which the session that is open already has told the other
 * end. The listener greets first, and who has connected sends nothing before he has checked that:
 * so neither a program that took the port nor one that found it learns anything.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define GREETING_KEY_LEN 16 /* bytes */
#define GREETING_LEN     24 /* bytes: magic with version, key */

void greeting_make(uint8_t out[GREETING_LEN], const uint8_t key[GREETING_KEY_LEN]);
/* Takes as long for every greeting. */
bool greeting_check(const uint8_t in[GREETING_LEN], const uint8_t key[GREETING_KEY_LEN]);
