/* SPDX-License-Identifier: Apache-2.0 */
/* What a fuzz target defines: libFuzzer or replay.c calls it with one input. Returns 0. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __func__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)
