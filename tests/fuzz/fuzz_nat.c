/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input is what the kernel answers when asked for chains and rules of nf_tables. What must
 * hold: nothing outside of it is read, and whatever is found is a port.
 */
#include <stdio.h>
#include <stdlib.h>
#include "base/alloc.h"
#include "fuzz.h"
#include "nat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    scoped(portset_done) struct portset set = {0};
    struct nat_tables tables = {0};

    netlink_parse(data, size, nat_on_chain, &tables);
    netlink_parse(data, size, nat_on_rule, &set);
    portset_seal(&set);
    for (size_t i = 0; i < set.count; i++) {
        const struct portset_entry *entry = &set.entries[i];

        if (!entry->port || (entry->address_len != 4 && entry->address_len != 16) ||
            entry->protocol > PORT_UDP) {
            abort();
        }
    }
    return 0;
}
