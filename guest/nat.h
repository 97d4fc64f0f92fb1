/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports of this machine that address translation leads on, as engines do for their containers'
 * published ports: by rules of nf_tables in chains of type nat, whoever wrote them (nft, or
 * iptables over nf_tables). Kept current by the kernel's notices of changed rules. Rules of the
 * older ip_tables, of which there are no notices, are not looked at.
 */
#pragma once

#include "base/error.h"
#include "loop.h"
#include "netlink.h"
#include "portset.h"

struct nat;

/* @changed: the set differs from that of the last call; from the loop only. Looks soon, not now. */
int nat_open(struct loop *loop, loop_fn *changed, void *arg, struct nat **ret, struct error *err);
void nat_close(struct nat *nat);
/* Sealed; borrowed, valid until the next change. */
const struct portset *nat_current(const struct nat *nat);

/* ---- the answers of the kernel; for tests ---- */

#define NAT_TABLES_MAX 32

struct nat_table {
    uint8_t family;
    char name[64];
};

/* Tables with a base chain of type nat where packets arrive or leave from here. */
struct nat_tables {
    struct nat_table list[NAT_TABLES_MAX];
    size_t count;
};

/* Both for netlink_parse(); @arg is a struct nat_tables, or a struct portset to add to. */
int nat_on_chain(const struct netlink_message *message, void *arg);
int nat_on_rule(const struct netlink_message *message, void *arg);
