/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A DNS server on the loop, by UDP and TCP on one port of 127.0.0.1, in the place of those that a
 * host's resolv.conf names: real ones cannot be asked for long, cut, forged or missing answers, and
 * a test has no network. What it says depends on the first label of the name:
 *
 *     long      TXT of 3 kB, cut by UDP        silent    nothing by UDP
 *     forged    wrong ids and questions first  refused   REFUSED
 *     mute      nothing at all                 else      one record of the type that is asked for
 */
#pragma once

#include <stdint.h>
#include "util/loop.h"

struct dns_upstream;

struct dns_upstream *dns_upstream_new(struct loop *loop);
void dns_upstream_free(struct dns_upstream *up);
uint16_t dns_upstream_port(const struct dns_upstream *up);
/* Queries so far, by UDP and by TCP. */
unsigned dns_upstream_udp_count(const struct dns_upstream *up);
unsigned dns_upstream_tcp_count(const struct dns_upstream *up);
