/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table, as nft(8) would write it:
 *
 *     table ip lima-dns {
 *             flags owner                             # where the kernel knows it: goes with our
 * socket chain prerouting {                      # containers type nat hook prerouting priority
 * -101 ip daddr 192.168.5.3 udp dport 53 dnat to 192.168.5.2:UDP ip daddr 192.168.5.3 tcp dport 53
 * dnat to 192.168.5.2:TCP
 *             }
 *             chain output { ... hook output ... }    # processes of this machine
 *     }
 *
 * One before the usual priority, since the first translation of a connection is the one that
 * counts.
 */
#include "nft.h"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"

#define PRIORITY     (-101)
#define DNS_PORT     53
#define OFFSET_DADDR 16 /* of an IPv4 header */
#define OFFSET_DPORT 2  /* of UDP's and TCP's */
#define RECEIVE_MAX  16384
#ifndef NFT_TABLE_F_OWNER
#define NFT_TABLE_F_OWNER 2
#endif

struct nft {
    int fd, watch_fd;
    uint32_t port; /* our address among netlink's */
    uint32_t seq;
    bool applied;
    bool no_owner; /* the kernel does not know that flag */
};

/* --- messages --- */

struct batch {
    struct buf bytes;
    uint32_t first, seq; /* of its messages */
};

static size_t message_begin(struct batch *b, uint16_t type, uint16_t flags, uint8_t family,
                            uint16_t resource)
{
    struct nlmsghdr header = {.nlmsg_type = type,
                              .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags),
                              .nlmsg_seq = b->seq++};
    struct nfgenmsg body = {.nfgen_family = family, .version = NFNETLINK_V0, .res_id = resource};
    size_t at = b->bytes.len;

    buf_put(&b->bytes, &header, sizeof(header));
    buf_put(&b->bytes, &body, sizeof(body));
    return at;
}

static void message_end(struct batch *b, size_t at)
{
    uint32_t len = (uint32_t)(b->bytes.len - at);

    memcpy(b->bytes.data + at, &len, sizeof(len));
}

static size_t ours_begin(struct batch *b, unsigned type, unsigned flags)
{
    return message_begin(b, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type),
                         (uint16_t)(NLM_F_ACK | flags), NFPROTO_IPV4, 0);
}

static void put_padded(struct buf *out, const void *data, size_t len)
{
    static const char zeros[NLA_ALIGNTO];

    buf_put(out, data, len);
    buf_put(out, zeros, NLA_ALIGN(len) - len);
}

static void put(struct batch *b, unsigned type, const void *data, size_t len)
{
    struct nlattr attr = {.nla_type = (uint16_t)type, .nla_len = (uint16_t)(NLA_HDRLEN + len)};

    buf_put(&b->bytes, &attr, sizeof(attr));
    put_padded(&b->bytes, data, len);
}

static void put_text(struct batch *b, unsigned type, const char *text)
{
    put(b, type, text, strlen(text) + 1);
}

static void put_u32(struct batch *b, unsigned type, uint32_t value)
{
    value = htonl(value);
    put(b, type, &value, sizeof(value));
}

static size_t nest_begin(struct batch *b, unsigned type)
{
    size_t at = b->bytes.len;

    put(b, type | NLA_F_NESTED, NULL, 0);
    return at;
}

static void nest_end(struct batch *b, size_t at)
{
    uint16_t len = (uint16_t)(b->bytes.len - at);

    memcpy(b->bytes.data + at, &len, sizeof(len));
}

/* --- expressions: each works on registers of a packet's own --- */

struct expression {
    size_t element, data;
};

static struct expression expression_begin(struct batch *b, const char *name)
{
    struct expression e = {.element = nest_begin(b, NFTA_LIST_ELEM)};

    put_text(b, NFTA_EXPR_NAME, name);
    e.data = nest_begin(b, NFTA_EXPR_DATA);
    return e;
}

static void expression_end(struct batch *b, struct expression e)
{
    nest_end(b, e.data);
    nest_end(b, e.element);
}

static void put_value(struct batch *b, unsigned type, const void *value, size_t len)
{
    size_t nest = nest_begin(b, type);

    put(b, NFTA_DATA_VALUE, value, len);
    nest_end(b, nest);
}

static void put_compare(struct batch *b, const void *value, size_t len)
{
    struct expression e = expression_begin(b, "cmp");

    put_u32(b, NFTA_CMP_SREG, NFT_REG_1);
    put_u32(b, NFTA_CMP_OP, NFT_CMP_EQ);
    put_value(b, NFTA_CMP_DATA, value, len);
    expression_end(b, e);
}

static void match_protocol(struct batch *b, uint8_t protocol)
{
    struct expression e = expression_begin(b, "meta");

    put_u32(b, NFTA_META_KEY, NFT_META_L4PROTO);
    put_u32(b, NFTA_META_DREG, NFT_REG_1);
    expression_end(b, e);
    put_compare(b, &protocol, sizeof(protocol));
}

static void match_payload(struct batch *b, unsigned base, unsigned offset, const void *value,
                          size_t len)
{
    struct expression e = expression_begin(b, "payload");

    put_u32(b, NFTA_PAYLOAD_DREG, NFT_REG_1);
    put_u32(b, NFTA_PAYLOAD_BASE, base);
    put_u32(b, NFTA_PAYLOAD_OFFSET, offset);
    put_u32(b, NFTA_PAYLOAD_LEN, (uint32_t)len);
    expression_end(b, e);
    put_compare(b, value, len);
}

static void put_immediate(struct batch *b, unsigned reg, const void *value, size_t len)
{
    struct expression e = expression_begin(b, "immediate");

    put_u32(b, NFTA_IMMEDIATE_DREG, reg);
    put_value(b, NFTA_IMMEDIATE_DATA, value, len);
    expression_end(b, e);
}

static void put_translation(struct batch *b, struct in_addr to, uint16_t port)
{
    struct expression e;

    port = htons(port);
    put_immediate(b, NFT_REG_1, &to, sizeof(to));
    put_immediate(b, NFT_REG_2, &port, sizeof(port));
    e = expression_begin(b, "nat");
    put_u32(b, NFTA_NAT_TYPE, NFT_NAT_DNAT);
    put_u32(b, NFTA_NAT_FAMILY, NFPROTO_IPV4);
    put_u32(b, NFTA_NAT_REG_ADDR_MIN, NFT_REG_1);
    put_u32(b, NFTA_NAT_REG_PROTO_MIN, NFT_REG_2);
    expression_end(b, e);
}

/* --- the table --- */

static void put_table(struct batch *b, unsigned type, unsigned flags, uint32_t table_flags)
{
    size_t at = ours_begin(b, type, flags);

    put_text(b, NFTA_TABLE_NAME, NFT_TABLE);
    put_u32(b, NFTA_TABLE_FLAGS, table_flags);
    message_end(b, at);
}

static void put_chain(struct batch *b, const char *name, unsigned hook)
{
    size_t at = ours_begin(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
    size_t nest;

    put_text(b, NFTA_CHAIN_TABLE, NFT_TABLE);
    put_text(b, NFTA_CHAIN_NAME, name);
    nest = nest_begin(b, NFTA_CHAIN_HOOK);
    put_u32(b, NFTA_HOOK_HOOKNUM, hook);
    put_u32(b, NFTA_HOOK_PRIORITY, (uint32_t)PRIORITY);
    nest_end(b, nest);
    put_u32(b, NFTA_CHAIN_POLICY, NF_ACCEPT);
    put_text(b, NFTA_CHAIN_TYPE, "nat");
    message_end(b, at);
}

static void put_rule(struct batch *b, const char *chain, const struct nft_redirect *redirect,
                     uint8_t protocol, uint16_t port)
{
    uint16_t dns_port = htons(DNS_PORT);
    size_t at, nest;

    if (!port) {
        return;
    }
    at = ours_begin(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
    put_text(b, NFTA_RULE_TABLE, NFT_TABLE);
    put_text(b, NFTA_RULE_CHAIN, chain);
    nest = nest_begin(b, NFTA_RULE_EXPRESSIONS);
    match_protocol(b, protocol);
    match_payload(b, NFT_PAYLOAD_NETWORK_HEADER, OFFSET_DADDR, &redirect->address,
                  sizeof(redirect->address));
    match_payload(b, NFT_PAYLOAD_TRANSPORT_HEADER, OFFSET_DPORT, &dns_port, sizeof(dns_port));
    put_translation(b, redirect->to, port);
    nest_end(b, nest);
    message_end(b, at);
}

static void put_all(struct batch *b, const struct nft_redirect *redirect, uint32_t table_flags)
{
    static const struct {
        const char *name;
        unsigned hook;
    } chains[] = {{"prerouting", NF_INET_PRE_ROUTING}, {"output", NF_INET_LOCAL_OUT}};

    put_table(b, NFT_MSG_NEWTABLE, NLM_F_CREATE, table_flags);
    for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
        put_chain(b, chains[i].name, chains[i].hook);
        put_rule(b, chains[i].name, redirect, IPPROTO_UDP, redirect->udp_port);
        put_rule(b, chains[i].name, redirect, IPPROTO_TCP, redirect->tcp_port);
    }
}

/* --- transactions --- */

static void batch_begin(struct nft *nft, struct batch *b)
{
    size_t at;

    *b = (struct batch){.first = nft->seq, .seq = nft->seq};
    at = message_begin(b, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, htons(NFNL_SUBSYS_NFTABLES));
    message_end(b, at);
}

/* The first error among the answers, or 0. *@ret_acks: messages that were taken. */
static int read_answers(const struct batch *b, const char *data, size_t len, unsigned *ret_acks)
{
    int first = 0;

    for (size_t at = 0; at + NLMSG_HDRLEN <= len;) {
        const struct nlmsghdr *header = (const void *)(data + at);
        const struct nlmsgerr *body = (const void *)(data + at + NLMSG_HDRLEN);

        if (header->nlmsg_len < NLMSG_HDRLEN || header->nlmsg_len > len - at) {
            break;
        }
        if (header->nlmsg_type == NLMSG_ERROR && header->nlmsg_len >= NLMSG_LENGTH(sizeof(int)) &&
            header->nlmsg_seq - b->first < b->seq - b->first) {
            *ret_acks += body->error == 0;
            first = first ? first : -body->error;
        }
        at += NLMSG_ALIGN(header->nlmsg_len);
    }
    return first;
}

/* The kernel answers while it takes the batch, so all answers are there when it has been sent. */
static int batch_commit(struct nft *nft, struct batch *b, struct error *err)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    size_t at = message_begin(b, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, htons(NFNL_SUBSYS_NFTABLES));
    _Alignas(struct nlmsghdr) char data[RECEIVE_MAX];
    unsigned acks = 0;
    int code = 0;
    ssize_t n;

    message_end(b, at);
    nft->seq = b->seq;
    n = sendto(nft->fd, b->bytes.data, b->bytes.len, 0, (struct sockaddr *)&kernel, sizeof(kernel));
    if (n < 0) {
        return error_errno(err, errno, "changing nf_tables");
    }
    while ((n = recv(nft->fd, data, sizeof(data), MSG_DONTWAIT)) > 0) {
        int r = read_answers(b, data, (size_t)n, &acks);

        code = code ? code : r;
    }
    if (!code && acks != b->seq - b->first - 2) { /* all but the two ends of the batch */
        code = EPROTO;
    }
    return code ? error_errno(err, code, "changing nf_tables") : 0;
}

static int apply(struct nft *nft, const struct nft_redirect *redirect, struct error *err)
{
    struct batch b;
    int r;

    batch_begin(nft, &b);
    if (nft->applied) {
        put_table(&b, NFT_MSG_DELTABLE, 0, 0);
    }
    put_all(&b, redirect, nft->no_owner ? 0 : NFT_TABLE_F_OWNER);
    r = batch_commit(nft, &b, err);
    buf_done(&b.bytes);
    return r;
}

/* What somebody before us has left; a table with an owner of its own stays. */
static int remove_table(struct nft *nft, struct error *err)
{
    struct batch b;
    int r;

    batch_begin(nft, &b);
    put_table(&b, NFT_MSG_DELTABLE, 0, 0);
    r = batch_commit(nft, &b, err);
    buf_done(&b.bytes);
    if (r == -ENOENT) {
        error_done(err);
        r = 0;
    }
    return r;
}

int nft_remove(struct nft *nft, struct error *err)
{
    scoped(error_done) struct error local = ERROR_INIT;
    int r = remove_table(nft, &local);

    nft->applied = false;
    return r < 0 ? error_move(err, &local) : 0;
}

int nft_apply(struct nft *nft, const struct nft_redirect *redirect, struct error *err)
{
    scoped(error_done) struct error local = ERROR_INIT;
    int r = apply(nft, redirect, &local);

    if (r < 0) { /* there is one that we did not make, or ours is gone, or the flag is too new */
        error_done(&local);
        nft_remove(nft, NULL);
        r = apply(nft, redirect, &local);
    }
    if (r < 0 && r != -EPERM && !nft->no_owner) {
        error_done(&local);
        nft->no_owner = true;
        r = apply(nft, redirect, &local);
    }
    nft->applied = r == 0;
    return r < 0 ? error_move(err, &local) : 0;
}

/* --- notices --- */

static bool names_us(const struct nlmsghdr *header)
{
    const char *data = (const char *)header;
    size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg));

    /* The table's name is attribute number 1 of tables, chains and rules alike. */
    while (at + NLA_HDRLEN <= header->nlmsg_len) {
        const struct nlattr *attr = (const void *)(data + at);

        if (attr->nla_len < NLA_HDRLEN || attr->nla_len > header->nlmsg_len - at) {
            return false;
        }
        if ((attr->nla_type & NLA_TYPE_MASK) == NFTA_TABLE_NAME) {
            return attr->nla_len == NLA_HDRLEN + sizeof(NFT_TABLE) &&
                   memcmp(data + at + NLA_HDRLEN, NFT_TABLE, sizeof(NFT_TABLE)) == 0;
        }
        at += NLA_ALIGN(attr->nla_len);
    }
    return false;
}

static bool takes_away(const struct nlmsghdr *header)
{
    switch (header->nlmsg_type) {
    case NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE:
    case NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELCHAIN:
    case NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELRULE:
        return names_us(header);
    default:
        return false;
    }
}

bool nft_notice_hits(const void *data, size_t len, uint32_t own_port)
{
    for (size_t at = 0; at + NLMSG_HDRLEN <= len;) {
        const struct nlmsghdr *header = (const void *)((const char *)data + at);

        if (header->nlmsg_len < NLMSG_HDRLEN || header->nlmsg_len > len - at) {
            return false;
        }
        if (header->nlmsg_pid != own_port && takes_away(header)) {
            return true;
        }
        at += NLMSG_ALIGN(header->nlmsg_len);
    }
    return false;
}

bool nft_watch_read(struct nft *nft)
{
    _Alignas(struct nlmsghdr) char data[RECEIVE_MAX];
    bool hit = false;
    ssize_t n;

    while ((n = recv(nft->watch_fd, data, sizeof(data), MSG_DONTWAIT)) > 0 ||
           (n < 0 && errno == ENOBUFS)) {
        hit = hit || n < 0 || nft_notice_hits(data, (size_t)n, nft->port);
    }
    return hit;
}

void nft_disown(struct nft *nft)
{
    nft->no_owner = true;
}

int nft_watch_fd(const struct nft *nft)
{
    return nft->watch_fd;
}

static int open_socket(int *ret_fd, uint32_t *ret_port, struct error *err)
{
    struct sockaddr_nl addr = {.nl_family = AF_NETLINK};
    socklen_t len = sizeof(addr);
    scoped(fd_close) int fd =
        socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_NETFILTER);

    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, len) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
        return error_errno(err, errno, "opening a netfilter socket");
    }
    *ret_port = addr.nl_pid;
    *ret_fd = steal_fd(&fd);
    return 0;
}

int nft_open(struct nft **ret, struct error *err)
{
    scoped(nft_close) struct nft *nft = xnew(struct nft);
    int group = NFNLGRP_NFTABLES;
    uint32_t watch_port;
    int r;

    nft->fd = -1;
    nft->watch_fd = -1;
    nft->seq = 1;
    r = open_socket(&nft->fd, &nft->port, err);
    r = r < 0 ? r : open_socket(&nft->watch_fd, &watch_port, err);
    if (r < 0) {
        return r;
    }
    if (setsockopt(nft->watch_fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0) {
        return error_errno(err, errno, "watching nf_tables");
    }
    *ret = steal(nft);
    return 0;
}

void nft_close(struct nft *nft)
{
    if (nft) {
        fd_close(nft->fd);
        fd_close(nft->watch_fd);
        free(nft);
    }
}
