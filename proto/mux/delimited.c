/* SPDX-License-Identifier: Apache-2.0 */
#include "mux/delimited.h"

#include <errno.h>
#include <string.h>
#include "base/alloc.h"

void delimited_done(struct delimited *splitter)
{
    free(splitter->buf);
    *splitter = DELIMITED_INIT(splitter->max);
}

size_t delimited_prefix(uint8_t out[DELIMITED_PREFIX_MAX], size_t len)
{
    size_t n = 0;

    while (len >= 0x80) {
        out[n++] = (uint8_t)(len | 0x80);
        len >>= 7;
    }
    out[n++] = (uint8_t)len;
    return n;
}

/* Length of the prefix, 0 when it is not complete, -EBADMSG. */
static int parse_prefix(const uint8_t *data, size_t len, size_t *ret)
{
    uint64_t value = 0;

    for (size_t i = 0; i < len && i < DELIMITED_PREFIX_MAX; i++) {
        value |= (uint64_t)(data[i] & 0x7f) << (7 * i);
        if (!(data[i] & 0x80)) {
            *ret = (size_t)MIN(value, (uint64_t)UINT32_MAX);
            return (int)i + 1;
        }
    }
    return len < DELIMITED_PREFIX_MAX ? 0 : -EBADMSG;
}

static void keep(struct delimited *splitter, const uint8_t *data, size_t len)
{
    if (splitter->cap < splitter->len + len) {
        splitter->cap = splitter->len + len;
        splitter->buf = xrealloc(splitter->buf, splitter->cap, 1);
    }
    memcpy(splitter->buf + splitter->len, data, len);
    splitter->len += len;
}

/*
 * Bytes that the message whose beginning is @data has, with its prefix; 0 when that can't be said
 * yet. *ret_prefix is the prefix's part of it.
 */
static int64_t message_total(const struct delimited *splitter, const uint8_t *data, size_t len,
                             size_t *ret_prefix)
{
    size_t body = 0;
    int prefix = parse_prefix(data, len, &body);

    if (prefix <= 0) {
        return prefix;
    }
    if (body > splitter->max) {
        return -EMSGSIZE;
    }
    *ret_prefix = (size_t)prefix;
    return (int64_t)body + prefix;
}

/* Nothing is kept: the message may lie whole in @data. */
static int next_direct(struct delimited *splitter, const uint8_t *data, size_t len,
                       size_t *ret_used, const uint8_t **ret_message, size_t *ret_len)
{
    size_t prefix = 0;
    int64_t total = message_total(splitter, data, len, &prefix);

    if (total < 0) {
        return (int)total;
    }
    if (total == 0 || (size_t)total > len) {
        if (len > 0) {
            keep(splitter, data, len);
        }
        *ret_used = len;
        return 0;
    }
    *ret_message = data + prefix;
    *ret_len = (size_t)total - prefix;
    *ret_used = (size_t)total;
    return 1;
}

int delimited_next(struct delimited *splitter, const uint8_t *data, size_t len, size_t *ret_used,
                   const uint8_t **ret_message, size_t *ret_len)
{
    size_t used = 0, prefix = 0;
    int64_t total;

    if (splitter->len == 0) {
        free(splitter->buf); /* the message given last time */
        splitter->buf = NULL;
        splitter->cap = 0;
        return next_direct(splitter, data, len, ret_used, ret_message, ret_len);
    }
    for (;;) {
        size_t take;

        total = message_total(splitter, splitter->buf, splitter->len, &prefix);
        if (total < 0) {
            return (int)total;
        }
        if (total > 0 && (size_t)total == splitter->len) {
            break;
        }
        /* byte by byte while the prefix is not complete */
        take = total > 0 ? (size_t)total - splitter->len : 1;
        take = MIN(take, len - used);
        if (take == 0) {
            *ret_used = used;
            return 0;
        }
        keep(splitter, data + used, take);
        used += take;
    }
    splitter->len = 0; /* given out now, freed by the next call */
    *ret_message = splitter->buf + prefix;
    *ret_len = (size_t)total - prefix;
    *ret_used = used;
    return 1;
}
