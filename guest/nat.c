/* SPDX-License-Identifier: Apache-2.0 */
#include "nat.h"

#include <linux/filter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include "base/alloc.h"
#include "base/log.h"
#include "files.h"
#include "natrule.h"
#include "ownaddr.h"

#define HOOK_PREROUTING 0
#define HOOK_OUTPUT     3
#define RANGE_MAX       1024 /* a rule for more ports than that publishes none in particular */
#define SETTLE_MS       10   /* an engine writes several rules for one port */
#define GAP_MS          100
#define COST_SHARE      50 /* looks take at most this part of the time */
#define UNUSED_MS       3000

struct nat {
    struct loop *loop;
    loop_fn *changed;
    void *arg;
    int dump_fd;
    int notice_fd;
    struct loop_watch *watch;
    struct loop_timer *timer; /* the next look, if one is planned */
    uint64_t next_us;         /* none before */
    struct portset current;
};

struct request {
    struct nlmsghdr header;
    struct nfgenmsg body;
    struct nlattr table;
    char name[64];
};

/* Behind the family of a message of @type; false when it is none. */
static bool take_attrs(const struct netlink_message *message, uint16_t type, uint8_t *ret_family,
                       struct netlink_attrs *ret)
{
    struct nfgenmsg head;

    if (message->type != (NFNL_SUBSYS_NFTABLES << 8 | type) || message->len < sizeof(head)) {
        return false;
    }
    memcpy(&head, message->body, sizeof(head));
    *ret_family = head.nfgen_family;
    *ret = (struct netlink_attrs){message->body + sizeof(head), message->len - sizeof(head)};
    return true;
}

static bool is_nat_hook(struct netlink_attrs chain)
{
    struct netlink_attr type, hook, where;
    uint32_t number;

    return netlink_attr_find(chain, NFTA_CHAIN_TYPE, &type) && netlink_attr_is(&type, "nat") &&
           netlink_attr_find(chain, NFTA_CHAIN_HOOK, &hook) &&
           netlink_attr_find(netlink_attr_nested(&hook), NFTA_HOOK_HOOKNUM, &where) &&
           netlink_attr_be32(&where, &number) &&
           (number == HOOK_PREROUTING || number == HOOK_OUTPUT);
}

int nat_on_chain(const struct netlink_message *message, void *arg)
{
    struct nat_tables *tables = arg;
    struct nat_table table = {0};
    struct netlink_attrs chain;
    struct netlink_attr name;

    if (!take_attrs(message, NFT_MSG_NEWCHAIN, &table.family, &chain) || !is_nat_hook(chain) ||
        !netlink_attr_find(chain, NFTA_CHAIN_TABLE, &name) || name.len > sizeof(table.name) - 1 ||
        tables->count == ARRAY_LEN(tables->list)) {
        return 0;
    }
    memcpy(table.name, name.data, name.len);
    for (size_t i = 0; i < tables->count; i++) {
        if (memcmp(&tables->list[i], &table, sizeof(table)) == 0) {
            return 0;
        }
    }
    tables->list[tables->count++] = table;
    return 0;
}

int nat_on_rule(const struct netlink_message *message, void *arg)
{
    struct portset *set = arg;
    struct netlink_attrs attrs;
    struct natrule rule;
    uint8_t family;

    if (!take_attrs(message, NFT_MSG_NEWRULE, &family, &attrs) ||
        !natrule_parse(family, attrs, &rule) || rule.last - rule.first >= RANGE_MAX) {
        return 0;
    }
    for (uint32_t port = rule.first; port <= rule.last; port++) {
        portset_add(set, rule.protocol, rule.address, rule.address_len, (uint16_t)port);
    }
    return 0;
}

static int dump(int fd, uint16_t type, const struct nat_table *table, netlink_fn *fn, void *arg)
{
    struct request request = {
        .header = {.nlmsg_len = NLMSG_HDRLEN + sizeof(request.body),
                   .nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type),
                   .nlmsg_seq = (uint32_t)loop_now_us()},
        .body = {.nfgen_family = table ? table->family : AF_UNSPEC, .version = NFNETLINK_V0},
    };
    size_t len = table ? strlen(table->name) + 1 : 0;

    if (table) {
        request.table =
            (struct nlattr){.nla_len = (uint16_t)(NLA_HDRLEN + len), .nla_type = NFTA_RULE_TABLE};
        memcpy(request.name, table->name, len);
        request.header.nlmsg_len += NLMSG_ALIGN(request.table.nla_len);
    }
    return netlink_dump(fd, &request.header, fn, arg);
}

static bool is_any(const struct portset_entry *entry)
{
    static const uint8_t zero[16];

    return memcmp(entry->address, zero, entry->address_len) == 0;
}

/* IPv6 cannot be led on from ::1, so where IPv4 leads to the same port that is what counts. */
static bool has_v4_twin(const struct portset *set, const struct portset_entry *v6)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct portset_entry *entry = &set->entries[i];

        if (entry->port == v6->port && entry->protocol == v6->protocol && entry->address_len == 4 &&
            is_any(entry)) {
            return true;
        }
    }
    return false;
}

/* Without what a connection from this machine does not reach, or belongs to another one's address.
 */
static void keep_reachable(struct portset *set)
{
    uint32_t scope;
    size_t kept = 0;

    for (size_t i = 0; i < set->count; i++) {
        const struct portset_entry entry = set->entries[i];

        if (is_any(&entry) ? entry.address_len == 4 || !has_v4_twin(set, &entry)
                           : ownaddr_is(entry.address, entry.address_len, &scope)) {
            set->entries[kept++] = entry;
        }
    }
    set->count = kept;
}

/* -ENOENT: a table went away in the middle; a notice of that comes. */
static int list(int fd, struct portset *set)
{
    struct nat_tables tables = {0};
    int r = dump(fd, NFT_MSG_GETCHAIN, NULL, nat_on_chain, &tables);

    for (size_t i = 0; i < tables.count && r == 0; i++) {
        r = dump(fd, NFT_MSG_GETRULE, &tables.list[i], nat_on_rule, set);
        r = r == -ENOENT ? 0 : r;
    }
    portset_seal(set);
    keep_reachable(set);
    return r;
}

static void on_look_due(void *arg)
{
    struct nat *nat = arg;
    scoped(portset_done) struct portset now = {0};
    uint64_t begin_us = loop_now_us(), end_us;
    int r = list(nat->dump_fd, &now);

    end_us = loop_now_us();
    nat->next_us = end_us + MAX(GAP_MS * 1000, COST_SHARE * (end_us - begin_us));
    if (r < 0) {
        log_warn("listing rules of address translation: %s, ignoring", strerror(-r));
    } else if (!portset_equal(&nat->current, &now)) {
        portset_copy(&nat->current, &now);
        nat->changed(nat->arg);
    }
}

static void on_notice_readable(int fd, short revents, void *arg)
{
    struct nat *nat = arg;
    uint64_t now_us = loop_now_us();
    char notice[4096];

    while (recv(fd, notice, sizeof(notice), 0) > 0 || errno == ENOBUFS) {
    }
    if (!loop_timer_active(nat->timer)) {
        loop_timer_start(nat->timer, nat->next_us > now_us + SETTLE_MS * 1000
                                         ? (unsigned)((nat->next_us - now_us) / 1000)
                                         : SETTLE_MS);
    }
}

/* Of all that a change of the rules is told by, only the last message, one for each change. */
static void filter_notices(int fd)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN), 0,
                 1),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {.len = ARRAY_LEN(code), .filter = code};

    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0) {
        log_debug("filtering notices of rules: %s, ignoring", strerror(errno));
    }
}

int nat_open(struct loop *loop, loop_fn *changed, void *arg, struct nat **ret, struct error *err)
{
    struct nat *nat = xnew(struct nat);
    int r;

    *nat =
        (struct nat){.loop = loop, .changed = changed, .arg = arg, .dump_fd = -1, .notice_fd = -1};
    r = netlink_open(NETLINK_NETFILTER, 0, &nat->dump_fd, err);
    r = r < 0 ? r
              : netlink_open(NETLINK_NETFILTER, 1u << (NFNLGRP_NFTABLES - 1), &nat->notice_fd, err);
    if (r < 0) {
        nat_close(nat);
        return error_wrap(err, r, "watching rules of address translation");
    }
    filter_notices(nat->notice_fd);
    nat->timer = loop_timer_new(loop, on_look_due, nat);
    nat->watch = loop_watch_new(loop, nat->notice_fd, POLLIN, on_notice_readable, nat);
    /* Where the module is not there yet, a look loads it and waits for that: not during a boot. */
    loop_timer_start(nat->timer, files_exist("/sys/module/nf_tables") ? 0 : UNUSED_MS);
    *ret = nat;
    return 0;
}

void nat_close(struct nat *nat)
{
    if (!nat) {
        return;
    }
    loop_watch_free(nat->watch);
    loop_timer_free(nat->timer);
    fd_close(nat->dump_fd);
    fd_close(nat->notice_fd);
    portset_done(&nat->current);
    free(nat);
}

const struct portset *nat_current(const struct nat *nat)
{
    return &nat->current;
}
