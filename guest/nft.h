/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's packet filter nf_tables, spoken to by netlink without any program: one table of ours
 * that leads one address and port elsewhere. Each change is one transaction: all of it holds or
 * nothing.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include "base/error.h"

#define NFT_TABLE "lima-dns" /* family ip */

/* Queries to port 53 of @address go to @to, by protocol; port 0: left alone. */
struct nft_redirect {
    struct in_addr address, to;
    uint16_t udp_port, tcp_port;
};

struct nft;

/* Errors: EPROTONOSUPPORT (the kernel has no netfilter), EPERM. */
int nft_open(struct nft **ret, struct error *err);
/* The table goes with it, where the kernel lets tables have owners; else nft_remove() first. */
void nft_close(struct nft *nft);
SCOPED_PTR(struct nft, nft_close)

/*
 * Puts the table there, in the place of an older one. Errors: the kernel's own; EOPNOTSUPP, ENOENT:
 * it lacks nf_tables or a part of it; EPERM also: another process owns the table.
 */
int nft_apply(struct nft *nft, const struct nft_redirect *redirect, struct error *err);
/* It need not be there. */
int nft_remove(struct nft *nft, struct error *err);

/* From now on as on a kernel that knows no owners of tables; for tests. */
void nft_disown(struct nft *nft);

/* Becomes readable when somebody changes the filter. */
int nft_watch_fd(const struct nft *nft);
/* Reads what is there: true when somebody else has taken (parts of) our table away, or may have. */
bool nft_watch_read(struct nft *nft);
/* The same of the messages in @data, which were caused by anybody but @own_port. For tests. */
bool nft_notice_hits(const void *data, size_t len, uint32_t own_port);
