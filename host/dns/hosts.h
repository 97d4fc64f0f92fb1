/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's table of names (/etc/hosts), read once for many lookups, and what nsswitch.conf says
 * of it. All addresses of all lines of a name count, in the order of the file.
 */
#pragma once

#include <stdbool.h>
#include "config/config.h"

struct dns_hosts;

/* A file that cannot be read is an empty table. Never NULL. */
struct dns_hosts *dns_hosts_load(const char *path);
/* @text is consumed. */
struct dns_hosts *dns_hosts_parse(char *take_text);
void dns_hosts_free(struct dns_hosts *hosts);
SCOPED_PTR(struct dns_hosts, dns_hosts_free)

/*
 * Addresses of @name (lower case, no last dot), borrowed; their number, 0 when it is not there.
 */
size_t dns_hosts_find(const struct dns_hosts *hosts, const char *name,
                      const struct config_address **ret);

/* When the host looks into its table, by the "hosts" line of nsswitch.conf. */
enum dns_hosts_place {
    DNS_HOSTS_NEVER,
    DNS_HOSTS_FIRST, /* and what is found there is the answer */
    DNS_HOSTS_LATER,
};

/* Without the file or the line it is as the C library's default has it: later. */
enum dns_hosts_place dns_hosts_place_load(const char *nsswitch_path);
enum dns_hosts_place dns_hosts_place_parse(const char *nsswitch_text);
