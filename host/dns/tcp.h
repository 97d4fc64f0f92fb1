/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queries by TCP on a port of 127.0.0.1: many on one connection, answered as their answers come. A
 * connection that says nothing, or does not read its answers, is closed after a while; when there
 * are too many, the one that was idle longest goes.
 */
#pragma once

#include <stdint.h>
#include "base/buf.h"
#include "util/loop.h"

#define DNS_TCP_CONNS_MAX 64
#define DNS_TCP_PENDING_MAX                                                                        \
    64 /* queries of one connection without an answer; then it is not read */

struct dns_tcp;
struct dns_tcp_conn;

struct dns_tcp_events {
    /* As in udp.h, with dns_tcp_answer(). None may free the dns_tcp. */
    void (*batch)(void *arg);
    void (*query)(struct dns_tcp_conn *conn, const uint8_t *wire, size_t len, struct buf *out,
                  void *arg);
    /* The connection is gone, and with it its queries. */
    void (*closed)(struct dns_tcp_conn *conn, void *arg);
};

/* @idle_ms: how long a silent connection is kept. */
int dns_tcp_new(struct loop *loop, int64_t idle_ms, const struct dns_tcp_events *events, void *arg,
                struct dns_tcp **ret, struct error *err);
/* closed() comes for what is open. */
void dns_tcp_free(struct dns_tcp *tcp);
SCOPED_PTR(struct dns_tcp, dns_tcp_free)
uint16_t dns_tcp_port(const struct dns_tcp *tcp);
/*
 * Once for each query that got no answer within query(), and not within it. May close the
 * connection, as when its client reads no answers.
 */
void dns_tcp_answer(struct dns_tcp_conn *conn, const void *data, size_t len);
