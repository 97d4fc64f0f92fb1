/* SPDX-License-Identifier: Apache-2.0 */
#include "portset.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

void portset_done(struct portset *set)
{
    free(set->entries);
    *set = (struct portset){0};
}

void portset_clear(struct portset *set)
{
    set->count = 0;
    set->sockets = 0;
}

void portset_add(struct portset *set, enum port_protocol protocol, const void *address,
                 size_t address_len, uint16_t port)
{
    struct portset_entry entry = {
        .protocol = (uint8_t)protocol, .address_len = (uint8_t)address_len, .port = port};

    assert(address_len == 4 || address_len == 16);
    set->sockets++;
    if (set->count >= PORTSET_MAX || !port) {
        return;
    }
    if (address_len == 16 && memcmp(address, mapped_prefix, sizeof(mapped_prefix)) == 0) {
        entry.address_len = 4;
        address = (const uint8_t *)address + sizeof(mapped_prefix);
    }
    memcpy(entry.address, address, entry.address_len);
    array_reserve(set->entries, set->cap, set->count + 1);
    set->entries[set->count++] = entry;
}

void portset_add_all(struct portset *set, const struct portset *from, enum port_origin origin)
{
    for (size_t i = 0; i < from->count && set->count < PORTSET_MAX; i++) {
        array_reserve(set->entries, set->cap, set->count + 1);
        set->entries[set->count] = from->entries[i];
        set->entries[set->count++].origin = (uint8_t)origin;
    }
    set->sockets += from->sockets;
}

int portset_compare(const struct portset_entry *a, const struct portset_entry *b)
{
    if (a->port != b->port) {
        return a->port < b->port ? -1 : 1;
    }
    if (a->protocol != b->protocol) {
        return a->protocol < b->protocol ? -1 : 1;
    }
    if (a->address_len != b->address_len) {
        return a->address_len < b->address_len ? -1 : 1;
    }
    return memcmp(a->address, b->address, a->address_len);
}

static int compare_with_origin(const void *a, const void *b)
{
    const struct portset_entry *x = a;
    const struct portset_entry *y = b;
    int order = portset_compare(x, y);

    return order ? order : (x->origin > y->origin) - (x->origin < y->origin);
}

void portset_seal(struct portset *set)
{
    size_t kept = 0;

    if (set->count) {
        qsort(set->entries, set->count, sizeof(*set->entries), compare_with_origin);
    }
    for (size_t i = 0; i < set->count; i++) {
        if (!kept || portset_compare(&set->entries[kept - 1], &set->entries[i]) != 0) {
            set->entries[kept++] = set->entries[i];
        }
    }
    set->count = kept;
}

bool portset_has_port(const struct portset *set, enum port_protocol protocol, uint16_t port)
{
    for (size_t i = 0; i < set->count; i++) {
        if (set->entries[i].port == port && set->entries[i].protocol == protocol) {
            return true;
        }
    }
    return false;
}

bool portset_equal(const struct portset *a, const struct portset *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (size_t i = 0; i < a->count; i++) {
        if (compare_with_origin(&a->entries[i], &b->entries[i]) != 0) {
            return false;
        }
    }
    return true;
}

void portset_copy(struct portset *to, const struct portset *from)
{
    array_reserve(to->entries, to->cap, from->count);
    if (from->count) {
        memcpy(to->entries, from->entries, from->count * sizeof(*from->entries));
    }
    to->count = from->count;
    to->sockets = from->sockets;
}

bool portset_advance(struct portset *known, const struct portset *now, size_t max,
                     struct portset_entry *ret_added, size_t *ret_added_count,
                     struct portset_entry *ret_removed, size_t *ret_removed_count)
{
    scoped(portset_done) struct portset next = {0};
    size_t k = 0, n = 0, added = 0, removed = 0;

    while (k < known->count || n < now->count) {
        int order = k == known->count ? 1
                    : n == now->count ? -1
                                      : portset_compare(&known->entries[k], &now->entries[n]);
        const struct portset_entry *entry = order <= 0 ? &known->entries[k] : &now->entries[n];
        bool moved = order == 0 && entry->origin != now->entries[n].origin;
        bool keep = true;

        if (order < 0 && removed < max) {
            ret_removed[removed++] = *entry;
            keep = false;
        } else if (order > 0 && added < max) {
            ret_added[added++] = *entry;
        } else if (moved && added < max) {
            entry = &now->entries[n];
            ret_added[added++] = *entry;
        } else if (order > 0) {
            keep = false;
        }
        if (keep) {
            array_reserve(next.entries, next.cap, next.count + 1);
            next.entries[next.count++] = *entry;
        }
        k += order <= 0;
        n += order >= 0;
    }
    portset_copy(known, &next);
    *ret_added_count = added;
    *ret_removed_count = removed;
    return added || removed;
}
