/* SPDX-License-Identifier: Apache-2.0 */
/* What listens in the guest, kept as its events tell it. */
#include "base/alloc.h"
#include "base/log.h"
#include "forward/internal.h"

#define LISTENERS_MAX 2048 /* that are considered; a guest may claim any number */

void forward_drop_stale(struct forward_table *table)
{
    size_t kept = 0;

    for (size_t i = 0; i < table->listening_count; i++) {
        if (!table->listening[i].stale) {
            table->listening[kept++] = table->listening[i];
        }
    }
    table->listening_count = kept;
}

static struct forward_endpoint endpoint_of(const struct peer_port *port)
{
    return (struct forward_endpoint){
        .proto = port->proto, .address = port->address, .port = port->port};
}

static struct forward_listening *find_listening(struct forward_table *table,
                                                const struct forward_endpoint *endpoint)
{
    for (size_t i = 0; i < table->listening_count; i++) {
        if (forward_endpoint_equal(&table->listening[i].endpoint, endpoint)) {
            return &table->listening[i];
        }
    }
    return NULL;
}

/* False when there are too many. */
static bool add_listening(struct forward_table *table, const struct peer_port *port)
{
    struct forward_endpoint endpoint = endpoint_of(port);
    struct forward_listening *known = find_listening(table, &endpoint);

    if (known) {
        known->stale = false;
        known->origin = port->origin;
        return true;
    }
    if (table->listening_count >= LISTENERS_MAX) {
        forward_drop_stale(table);
    }
    if (table->listening_count >= LISTENERS_MAX) {
        return false;
    }
    array_reserve(table->listening, table->listening_alloc, table->listening_count + 1);
    table->listening[table->listening_count++] =
        (struct forward_listening){.endpoint = endpoint, .origin = port->origin, .said = -1};
    return true;
}

void forward_table_update(struct forward_table *table, bool snapshot, const struct peer_port *added,
                          size_t added_count, const struct peer_port *removed, size_t removed_count)
{
    bool fits = true;

    for (size_t i = 0; snapshot && i < table->listening_count; i++) {
        table->listening[i].stale = true;
    }
    for (size_t i = 0; i < removed_count; i++) {
        struct forward_endpoint endpoint = endpoint_of(&removed[i]);
        struct forward_listening *known = find_listening(table, &endpoint);

        if (known) {
            known->stale = true;
        }
    }
    for (size_t i = 0; i < added_count && fits; i++) {
        fits = add_listening(table, &added[i]);
    }
    if (!fits && !table->too_many_said) {
        table->too_many_said = true;
        log_warn("the guest reports more than %d listeners, ignoring the rest", LISTENERS_MAX);
    }
    forward_schedule(table);
}
