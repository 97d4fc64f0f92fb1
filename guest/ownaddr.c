/* SPDX-License-Identifier: Apache-2.0 */
#include "ownaddr.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "files.h"

#define INTERFACES_MAX (64u << 10) /* bytes */

struct question {
    struct nlmsghdr header;
    struct rtmsg route;
    struct rtattr attribute;
    uint8_t address[16];
};

static bool is_loopback(const uint8_t *address, size_t len)
{
    static const uint8_t loopback6[16] = {[15] = 1};

    return len == 4 ? address[0] == 127 : memcmp(address, loopback6, sizeof(loopback6)) == 0;
}

/* The kernel's answer to "where would this go", or less than 0. */
static ssize_t ask(const uint8_t *address, size_t len, void *answer, size_t size)
{
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    struct question q = {
        .header = {.nlmsg_type = RTM_GETROUTE, .nlmsg_flags = NLM_F_REQUEST, .nlmsg_seq = 1},
        .route = {.rtm_family = len == 4 ? AF_INET : AF_INET6,
                  .rtm_dst_len = (unsigned char)(len * 8)},
        .attribute = {.rta_type = RTA_DST, .rta_len = (unsigned short)RTA_LENGTH(len)},
    };
    scoped(fd_close) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    ssize_t n = -1;

    memcpy(q.address, address, len);
    q.header.nlmsg_len = (uint32_t)(offsetof(struct question, address) + len);
    if (fd >= 0 && sendto(fd, &q, q.header.nlmsg_len, 0, (struct sockaddr *)&kernel,
                          sizeof(kernel)) == (ssize_t)q.header.nlmsg_len) {
        do {
            n = recv(fd, answer, size, 0); /* the kernel has answered inside of sendto() */
        } while (n < 0 && errno == EINTR);
    }
    return n;
}

/* Of a link-local IPv6 address of ours: the routing table does not name the interface. 0: not ours.
 */
static uint32_t interface_of(const uint8_t *address)
{
    scoped(free) char *text = files_read("/proc/net/if_inet6", INTERFACES_MAX, NULL);
    char want[33];

    for (size_t i = 0; i < 16; i++) {
        snprintf(want + 2 * i, sizeof(want) - 2 * i, "%02x", address[i]);
    }
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        unsigned index;

        if (strncmp(line, want, 32) == 0 && sscanf(line + 32, " %x", &index) == 1) {
            return index;
        }
    }
    return 0;
}

static bool is_local_route(const uint8_t *address, size_t len)
{
    union {
        struct nlmsghdr header;
        uint8_t bytes[4096];
    } answer;
    const struct rtmsg *route = NLMSG_DATA(&answer.header);
    ssize_t n = ask(address, len, &answer, sizeof(answer));

    return n >= (ssize_t)NLMSG_LENGTH(sizeof(*route)) && NLMSG_OK(&answer.header, (size_t)n) &&
           answer.header.nlmsg_type == RTM_NEWROUTE && route->rtm_type == RTN_LOCAL;
}

bool ownaddr_is(const uint8_t *address, size_t len, uint32_t *ret_scope)
{
    *ret_scope = 0;
    if (is_loopback(address, len)) {
        return true;
    }
    if (len == 16 && address[0] == 0xfe && (address[1] & 0xc0) == 0x80) {
        *ret_scope = interface_of(address);
        return *ret_scope != 0;
    }
    return is_local_route(address, len);
}
