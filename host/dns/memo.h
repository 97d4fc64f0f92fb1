/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers that depend on nothing but the bytes of the query (but for its id) and on tables that
 * have not changed since, kept for the next time. Of fixed size; a newer answer takes an older
 * one's place.
 */
#pragma once

#include <stdbool.h>
#include "base/buf.h"

struct memo;

struct memo *memo_new(void) _nonnull_;
void memo_free(struct memo *memo);
SCOPED_PTR(struct memo, memo_free)

/* Appends the answer, with the id of @query, if it is known. */
bool memo_answer(const struct memo *memo, const uint8_t *query, size_t len, struct buf *out);
/* Does nothing when one of them is too long to be kept, or too short to be a message. */
void memo_keep(struct memo *memo, const uint8_t *query, size_t len, const uint8_t *answer,
               size_t answer_len);
/* The tables have changed. */
void memo_clear(struct memo *memo);
