/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input is what the kernel answers when asked for sockets, and what it tells of destroyed ones.
 * What must hold: nothing outside of it is read, whatever is found is a port, and a set of ports
 * reaches another in pieces.
 */
#include <stdlib.h>
#include "base/alloc.h"
#include "fuzz.h"
#include "sockdiag.h"

#define PIECE 3

static void check_advance(const struct portset *from, const struct portset *to)
{
    struct portset_entry added[PIECE], removed[PIECE];
    scoped(portset_done) struct portset known = {0};
    size_t added_count, removed_count, rounds = 0;

    portset_copy(&known, from);
    while (portset_advance(&known, to, PIECE, added, &added_count, removed, &removed_count)) {
        if (added_count > PIECE || removed_count > PIECE || ++rounds > from->count + to->count) {
            abort();
        }
    }
    if (!portset_equal(&known, to)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    scoped(portset_done) struct portset tcp = {0}, udp = {0}, both = {0};
    struct sockdiag_gone gone = {0};

    sockdiag_parse(data, size, PORT_TCP, &tcp);
    sockdiag_parse(data, size, PORT_UDP, &udp);
    portset_seal(&tcp);
    portset_seal(&udp);
    sockdiag_notice_parse(data, size, &tcp, &udp, &gone);
    portset_add_all(&both, &tcp, PORT_CONTAINER);
    portset_add_all(&both, &udp, PORT_SOCKET);
    portset_seal(&both);
    if (both.count != tcp.count + udp.count) {
        abort();
    }
    for (size_t i = 0; i < both.count; i++) {
        if (!both.entries[i].port) {
            abort();
        }
    }
    check_advance(&udp, &both);
    check_advance(&both, &tcp);
    return 0;
}
