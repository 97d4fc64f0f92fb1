/* SPDX-License-Identifier: Apache-2.0 */
#include "netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include "base/alloc.h"

#define ALIGNED(len)   (((len) + 3u) & ~(size_t)3)
#define DUMP_TIMEOUT_S 1

static int take_message(const uint8_t *at, size_t left, struct netlink_message *ret)
{
    struct nlmsghdr header;

    if (left < sizeof(header)) {
        return -EBADMSG;
    }
    memcpy(&header, at, sizeof(header));
    if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > left) {
        return -EBADMSG;
    }
    *ret = (struct netlink_message){.type = header.nlmsg_type,
                                    .flags = header.nlmsg_flags,
                                    .seq = header.nlmsg_seq,
                                    .body = at + sizeof(header),
                                    .len = header.nlmsg_len - sizeof(header)};
    return 0;
}

/* What the last message of an answer says: 0 or -errno. One that ends a dump may say nothing. */
static int reported_error(const struct netlink_message *message)
{
    int code;

    if (message->len < sizeof(code)) {
        return message->type == NLMSG_DONE ? 0 : -EBADMSG;
    }
    memcpy(&code, message->body, sizeof(code));
    return code <= 0 && code > -4096 ? code : -EBADMSG;
}

int netlink_parse(const void *data, size_t len, netlink_fn *fn, void *arg)
{
    for (size_t at = 0; at < len;) {
        struct netlink_message message;
        int r = take_message((const uint8_t *)data + at, len - at, &message);

        if (r == 0 && (message.type == NLMSG_ERROR || message.type == NLMSG_DONE)) {
            r = reported_error(&message);
            return r < 0 ? r : 1;
        }
        r = r < 0 || message.type == NLMSG_NOOP ? r : fn(&message, arg);
        if (r < 0) {
            return r;
        }
        at += MIN(len - at, ALIGNED(sizeof(struct nlmsghdr) + message.len));
    }
    return 0;
}

bool netlink_attr_next(struct netlink_attrs *attrs, struct netlink_attr *ret)
{
    struct nlattr header;
    size_t whole;

    if (attrs->len < sizeof(header)) {
        return false;
    }
    memcpy(&header, attrs->data, sizeof(header));
    if (header.nla_len < sizeof(header) || header.nla_len > attrs->len) {
        return false;
    }
    *ret = (struct netlink_attr){.type = header.nla_type & NLA_TYPE_MASK,
                                 .data = attrs->data + sizeof(header),
                                 .len = header.nla_len - sizeof(header)};
    whole = MIN(attrs->len, ALIGNED(header.nla_len));
    attrs->data += whole;
    attrs->len -= whole;
    return true;
}

bool netlink_attr_find(struct netlink_attrs attrs, uint16_t type, struct netlink_attr *ret)
{
    struct netlink_attr attr;

    while (netlink_attr_next(&attrs, &attr)) {
        if (attr.type == type) {
            *ret = attr;
            return true;
        }
    }
    return false;
}

bool netlink_attr_be32(const struct netlink_attr *attr, uint32_t *ret)
{
    uint32_t value;

    if (attr->len != sizeof(value)) {
        return false;
    }
    memcpy(&value, attr->data, sizeof(value));
    *ret = ntohl(value);
    return true;
}

bool netlink_attr_is(const struct netlink_attr *attr, const char *text)
{
    size_t len = strlen(text);

    return (attr->len == len || (attr->len == len + 1 && attr->data[len] == '\0')) &&
           memcmp(attr->data, text, len) == 0;
}

int netlink_open(int protocol, uint32_t groups, int *ret_fd, struct error *err)
{
    struct sockaddr_nl addr = {.nl_family = AF_NETLINK, .nl_groups = groups};
    struct timeval timeout = {.tv_sec = DUMP_TIMEOUT_S};
    scoped(fd_close) int fd =
        socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | (groups ? SOCK_NONBLOCK : 0), protocol);

    if (fd < 0) {
        return error_errno(err, errno, "opening a netlink socket");
    }
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        return error_errno(err, errno, "binding a netlink socket");
    }
    /* The kernel fills the answer while it takes the request; the timeout is a net below that. */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    *ret_fd = steal_fd(&fd);
    return 0;
}

struct dump {
    uint32_t seq;
    netlink_fn *fn;
    void *arg;
};

/* Of another dump, one that was given up: passed over. */
static int on_dump_message(const struct netlink_message *message, void *arg)
{
    const struct dump *dump = arg;

    return message->seq == dump->seq ? dump->fn(message, dump->arg) : 0;
}

/* The datagram is of another dump altogether. */
static bool is_stale(const uint8_t *data, size_t len, uint32_t seq)
{
    struct netlink_message first;

    return take_message(data, len, &first) == 0 && first.seq != seq;
}

int netlink_dump(int fd, struct nlmsghdr *request, netlink_fn *fn, void *arg)
{
    static uint8_t datagram[NETLINK_DATAGRAM_MAX];
    struct dump dump = {.seq = request->nlmsg_seq, .fn = fn, .arg = arg};
    int r = 0;

    request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    if (send(fd, request, request->nlmsg_len, 0) != (ssize_t)request->nlmsg_len) {
        return -errno;
    }
    while (r == 0) {
        ssize_t n = recv(fd, datagram, sizeof(datagram), MSG_TRUNC);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        if ((size_t)n > sizeof(datagram)) {
            return -EMSGSIZE;
        }
        r = is_stale(datagram, (size_t)n, dump.seq)
                ? 0
                : netlink_parse(datagram, (size_t)n, on_dump_message, &dump);
    }
    return r < 0 ? r : 0;
}
