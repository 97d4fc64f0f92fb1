/* SPDX-License-Identifier: Apache-2.0 */
/* Queries by UDP on a port of 127.0.0.1, taken and answered by the batch. */
#pragma once

#include <netinet/in.h>
#include "base/buf.h"
#include "util/loop.h"

struct dns_udp;

struct dns_udp_events {
    /* A batch begins: what was done on the host before its queries were sent can be seen now. */
    void (*batch)(void *arg);
    /* Appends the answer to @out, or nothing: dns_udp_answer() then, or never. */
    void (*query)(const struct sockaddr_in *peer, const uint8_t *wire, size_t len, struct buf *out,
                  void *arg);
};

/* Binds a port that the kernel chooses, kept until dns_udp_free(). */
int dns_udp_new(struct loop *loop, const struct dns_udp_events *events, void *arg,
                struct dns_udp **ret, struct error *err);
void dns_udp_free(struct dns_udp *udp);
SCOPED_PTR(struct dns_udp, dns_udp_free)
uint16_t dns_udp_port(const struct dns_udp *udp);
/* Not within query(). */
void dns_udp_answer(struct dns_udp *udp, const struct sockaddr_in *peer, const void *data,
                    size_t len);

/* A socket of @type on 127.0.0.1, non-blocking, with a port that the kernel chooses. */
int dns_bind_loopback(int type, int *ret_fd, uint16_t *ret_port, struct error *err);
