/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/memo.h"

#include <string.h>
#include "base/alloc.h"
#include "dns/message.h"

#define ENTRIES    512 /* a power of two */
#define QUERY_MAX  128
#define ANSWER_MAX 512
#define ID_LEN     2

struct entry {
    unsigned generation;
    uint16_t query_len, answer_len;
    uint8_t query[QUERY_MAX]; /* without the id, as the answer */
    uint8_t answer[ANSWER_MAX];
};

struct memo {
    unsigned generation; /* of entries that count; those of others are empty */
    struct entry entries[ENTRIES];
};

struct memo *memo_new(void)
{
    struct memo *memo = xnew(struct memo);

    memo->generation = 1;
    return memo;
}

void memo_free(struct memo *memo)
{
    free(memo);
}

void memo_clear(struct memo *memo)
{
    memo->generation++;
}

/* FNV-1a. */
static size_t slot_of(const uint8_t *data, size_t len)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ data[i]) * 16777619u;
    }
    return (hash ^ hash >> 16) % ENTRIES;
}

bool memo_answer(const struct memo *memo, const uint8_t *query, size_t len, struct buf *out)
{
    const struct entry *entry;

    if (len < DNS_HEADER || len - ID_LEN > QUERY_MAX) {
        return false;
    }
    entry = &memo->entries[slot_of(query + ID_LEN, len - ID_LEN)];
    if (entry->generation != memo->generation || entry->query_len != len - ID_LEN ||
        memcmp(entry->query, query + ID_LEN, entry->query_len) != 0) {
        return false;
    }
    buf_put(out, query, ID_LEN);
    buf_put(out, entry->answer, entry->answer_len);
    return true;
}

void memo_keep(struct memo *memo, const uint8_t *query, size_t len, const uint8_t *answer,
               size_t answer_len)
{
    struct entry *entry;

    if (len < DNS_HEADER || len - ID_LEN > QUERY_MAX || answer_len < DNS_HEADER ||
        answer_len - ID_LEN > ANSWER_MAX) {
        return;
    }
    entry = &memo->entries[slot_of(query + ID_LEN, len - ID_LEN)];
    entry->generation = memo->generation;
    entry->query_len = (uint16_t)(len - ID_LEN);
    entry->answer_len = (uint16_t)(answer_len - ID_LEN);
    memcpy(entry->query, query + ID_LEN, entry->query_len);
    memcpy(entry->answer, answer + ID_LEN, entry->answer_len);
}
