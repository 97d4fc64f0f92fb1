/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages on a stream, each preceded by its length as a base-128 varint. The splitter takes bytes
 * cut anywhere and gives whole messages; it holds at most one, of a size that its owner bounds, in
 * memory that grows with what has really come and is given back between messages.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "base/macros.h"

#define DELIMITED_PREFIX_MAX 5 /* bytes of a length */

struct delimited {
    size_t max;   /* bytes of the longest message that is let through */
    uint8_t *buf; /* length and beginning of a message that is not complete */
    size_t len, cap;
};

#define DELIMITED_INIT(limit) ((struct delimited){.max = (limit)})

void delimited_done(struct delimited *splitter);
SCOPED_VAL(struct delimited, delimited_done)

/*
 * Looks for the next message at @data (of @len bytes), which continues what was given before.
 *
 *   1    a message: *ret_message and *ret_len, valid until the next call here or delimited_done(),
 *        maybe inside @data; *ret_used of @data were taken: call again with the rest
 *   0    none is complete: all of @data was taken, as *ret_used says
 *   <0   -EMSGSIZE: longer than max; -EBADMSG: a length that is none. The stream is spoilt.
 */
int delimited_next(struct delimited *splitter, const uint8_t *data, size_t len, size_t *ret_used,
                   const uint8_t **ret_message, size_t *ret_len);

/* Writes the prefix of a message of @len bytes; returns the prefix's length. */
size_t delimited_prefix(uint8_t out[DELIMITED_PREFIX_MAX], size_t len);
