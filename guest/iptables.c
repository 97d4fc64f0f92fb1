/* SPDX-License-Identifier: Apache-2.0 */
/*
 * States: idle (the kernel is as wished, as far as can be known), clearing, filling. A wish that
 * comes while commands run is looked at when they are over:
 *
 *     wish      -> clearing
 *     clearing  -> filling, if a chain is wished; else idle
 *     filling   -> idle; clearing, if the wish is another by now, or a command failed
 */
#include "iptables.h"

#include <arpa/inet.h>
#include <stdio.h>
#include "base/alloc.h"
#include "steps.h"

#define CHAIN   "LIMADNS"
#define PROGRAM "iptables", "-w", "-t", "nat"

struct iptables {
    struct children *children;
    struct steps *steps; /* NULL: idle */
    bool wanted, again;  /* a chain; once more from the beginning */
    struct nft_redirect redirect;
    unsigned failed; /* of the wish that is given up */
    iptables_done_fn *done;
    void *arg;
};

static const char *const hooks[] = {"PREROUTING", "OUTPUT"};

static void on_cleared(unsigned failed, void *arg);

/* What is not there cannot be taken away, so failures say nothing. */
static void clear(struct iptables *ipt)
{
    ipt->again = false;
    ipt->steps = steps_new(ipt->children, on_cleared, ipt);
    for (size_t i = 0; i < ARRAY_LEN(hooks); i++) {
        steps_add(ipt->steps, PROGRAM, "-D", hooks[i], "-j", CHAIN, NULL);
    }
    steps_add(ipt->steps, PROGRAM, "-F", CHAIN, NULL);
    steps_add(ipt->steps, PROGRAM, "-X", CHAIN, NULL);
    steps_start(ipt->steps);
}

static void give_up(struct iptables *ipt, unsigned failed)
{
    ipt->wanted = false;
    ipt->failed = failed;
    clear(ipt);
}

static void on_filled(unsigned failed, void *arg)
{
    struct iptables *ipt = arg;

    ipt->steps = NULL;
    if (ipt->again || !ipt->wanted) {
        clear(ipt);
    } else if (failed) {
        give_up(ipt, failed);
    } else {
        ipt->done(0, ipt->arg);
    }
}

static void add_rule(struct iptables *ipt, const char *protocol, uint16_t port)
{
    char address[INET_ADDRSTRLEN], to[INET_ADDRSTRLEN], target[INET_ADDRSTRLEN + 8];

    if (port) {
        inet_ntop(AF_INET, &ipt->redirect.address, address, sizeof(address));
        inet_ntop(AF_INET, &ipt->redirect.to, to, sizeof(to));
        snprintf(target, sizeof(target), "%s:%u", to, port);
        steps_add(ipt->steps, PROGRAM, "-A", CHAIN, "-p", protocol, "-d", address, "--dport", "53",
                  "-j", "DNAT", "--to-destination", target, NULL);
    }
}

static void fill(struct iptables *ipt)
{
    ipt->steps = steps_new(ipt->children, on_filled, ipt);
    steps_add(ipt->steps, PROGRAM, "-N", CHAIN, NULL);
    add_rule(ipt, "udp", ipt->redirect.udp_port);
    add_rule(ipt, "tcp", ipt->redirect.tcp_port);
    for (size_t i = 0; i < ARRAY_LEN(hooks); i++) {
        steps_add(ipt->steps, PROGRAM, "-I", hooks[i], "1", "-j", CHAIN, NULL);
    }
    steps_start(ipt->steps);
}

static void on_cleared(unsigned failed, void *arg)
{
    struct iptables *ipt = arg;
    unsigned given_up = ipt->failed;

    ipt->steps = NULL;
    ipt->failed = 0;
    if (ipt->again) {
        clear(ipt);
    } else if (ipt->wanted) {
        fill(ipt);
    } else if (given_up) {
        ipt->done(given_up, ipt->arg);
    }
}

struct iptables *iptables_new(struct children *children, iptables_done_fn *done, void *arg)
{
    struct iptables *ipt = xnew(struct iptables);

    *ipt = (struct iptables){.children = children, .done = done, .arg = arg};
    return ipt;
}

void iptables_free(struct iptables *ipt)
{
    if (ipt) {
        steps_free(ipt->steps);
        free(ipt);
    }
}

void iptables_want(struct iptables *ipt, const struct nft_redirect *redirect)
{
    ipt->wanted = redirect;
    ipt->failed = 0;
    if (redirect) {
        ipt->redirect = *redirect;
    }
    if (ipt->steps) {
        ipt->again = true;
    } else {
        clear(ipt);
    }
}
