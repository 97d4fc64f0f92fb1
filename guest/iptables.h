/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same redirection by the program iptables, for kernels without nf_tables: chain LIMADNS of
 * table nat, entered first from PREROUTING and OUTPUT. The program runs beside the loop.
 */
#pragma once

#include "child.h"
#include "nft.h"

struct iptables;

/* @failed: commands that did not work out; the chain has been taken away again then. */
typedef void iptables_done_fn(unsigned failed, void *arg);

struct iptables *iptables_new(struct children *children, iptables_done_fn *done, void *arg);
/* What is in the kernel stays there when the program that runs now is stopped. No done() comes. */
void iptables_free(struct iptables *iptables);
SCOPED_PTR(struct iptables, iptables_free)

/*
 * Puts the chain there in the place of an older one; NULL takes it away. While commands run, the
 * last wish is kept. done() comes when a wish for a chain has been fulfilled or has failed, also
 * before this returns; not for one that another has replaced.
 */
void iptables_want(struct iptables *iptables, const struct nft_redirect *redirect);
