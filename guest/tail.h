/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last lines of what a program said, in fixed memory.
 */
#pragma once

#include <stddef.h>

#define TAIL_BYTES 4095
#define TAIL_LINES 40

struct tail {
    size_t len;
    char data[TAIL_BYTES + 1];
};

void tail_clear(struct tail *tail);
void tail_put(struct tail *tail, const void *data, size_t len);
/*
 * The last TAIL_LINES lines as text: a line that was cut at the front is dropped if others are
 * left, and bytes that are no UTF-8 or control characters become '?'. Caller frees.
 */
char *tail_text(const struct tail *tail);
