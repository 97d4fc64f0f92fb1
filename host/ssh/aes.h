/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the CPU has AES instructions: with them AES-GCM is the fastest cipher, else ChaCha20. */
#pragma once

#include <stdbool.h>

bool aes_in_hardware(void);
