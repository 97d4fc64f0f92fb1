/* SPDX-License-Identifier: Apache-2.0 */
#include "tail.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "base/alloc.h"

void tail_clear(struct tail *tail)
{
    tail->len = 0;
}

void tail_put(struct tail *tail, const void *data, size_t len)
{
    const char *from = data;
    size_t drop;

    if (len > TAIL_BYTES) {
        from += len - TAIL_BYTES;
        len = TAIL_BYTES;
    }
    drop = tail->len + len > TAIL_BYTES ? tail->len + len - TAIL_BYTES : 0;
    memmove(tail->data, tail->data + drop, tail->len - drop);
    tail->len -= drop;
    memcpy(tail->data + tail->len, from, len);
    tail->len += len;
}

/* Length of the UTF-8 character at @at, or 0 when it is none. */
static size_t character(const unsigned char *at, size_t left)
{
    size_t len = *at < 0x80                   ? 1
                 : *at >= 0xc2 && *at <= 0xdf ? 2
                 : *at >= 0xe0 && *at <= 0xef ? 3
                 : *at >= 0xf0 && *at <= 0xf4 ? 4
                                              : 0;

    if (len > left) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    /* Overlong forms, surrogates and what lies beyond the last plane. */
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
        (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f)) {
        return 0;
    }
    return len;
}

static void clean(char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        unsigned char *at = (unsigned char *)text + i;
        size_t n = character(at, len - i);

        if (n == 0 || (n == 1 && (*at < 0x20 || *at == 0x7f) && *at != '\n' && *at != '\t')) {
            *at = '?';
            n = 1;
        }
        i += n;
    }
}

char *tail_text(const struct tail *tail)
{
    size_t end = tail->len;
    size_t start, lines = 0;
    char *text;

    while (end && (tail->data[end - 1] == '\n' || tail->data[end - 1] == '\r')) {
        end--;
    }
    for (start = end; start > 0 && lines < TAIL_LINES; start--) {
        lines += tail->data[start - 1] == '\n';
    }
    if (lines == TAIL_LINES) {
        start++; /* behind the newline that ended the search */
    } else if (tail->len == TAIL_BYTES && lines) {
        start = (size_t)((char *)memchr(tail->data, '\n', end) - tail->data) + 1;
    }
    text = xstrndup(tail->data + start, end - start);
    clean(text, strlen(text));
    return text;
}
