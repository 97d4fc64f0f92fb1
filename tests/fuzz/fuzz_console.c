/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input is what a guest writes to its serial console. What must hold: at most one cause is
 * found, and neither it nor the tail depends on how the text was cut; the tail is bounded and
 * printable.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "driver/console.h"
#include "fuzz.h"

#define TAIL_MAX (16 * 401)

struct outcome {
    char *cause, *tail;
};

static struct outcome watch(const uint8_t *data, size_t size, size_t step)
{
    scoped(console_watch_free) struct console_watch *w = console_watch_new();
    struct outcome out = {0};

    for (size_t at = 0; at < size; at += step) {
        char *cause = console_watch_feed(w, (const char *)data + at, MIN(step, size - at));

        CHECK(!cause || !out.cause);
        out.cause = cause ? cause : out.cause;
    }
    out.tail = console_watch_tail(w);
    return out;
}

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole = watch(data, size, size ? size : 1);
    struct outcome bytes = watch(data, size, 1);

    CHECK(same(whole.cause, bytes.cause));
    CHECK(same(whole.tail, bytes.tail));
    CHECK(strlen(whole.tail) <= TAIL_MAX);
    for (const char *c = whole.tail; *c; c++) {
        CHECK(*c == '\n' || (*c >= ' ' && *c < 0x7f));
    }
    free(whole.cause);
    free(whole.tail);
    free(bytes.cause);
    free(bytes.tail);
    return 0;
}
