/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names that are answered here and nowhere else: those of hostResolver.hosts and the instance's
 * own. A name stands for one address or for another name, which may be one of these again.
 */
#pragma once

#include <stdbool.h>
#include "config/config.h"

struct dns_names;

struct dns_names *dns_names_new(void);
void dns_names_free(struct dns_names *names);
SCOPED_PTR(struct dns_names, dns_names_free)

/* Case and a last dot do not matter, in either. A later one of the same name wins. */
void dns_names_add(struct dns_names *names, const char *name, const char *value);

enum dns_names_result {
    DNS_NAMES_NONE,    /* no such name here */
    DNS_NAMES_ADDRESS, /* found.address */
    DNS_NAMES_OUTSIDE, /* found.alias leads to found.target, which is not of these */
    DNS_NAMES_NOWHERE, /* names that lead in a circle */
};

struct dns_names_found {
    struct config_address address;
    const char *alias;  /* what the name itself stands for, NULL if an address; borrowed */
    const char *target; /* end of the chain; borrowed */
};

/* @name in lower case, without last dot. */
enum dns_names_result dns_names_find(const struct dns_names *names, const char *name,
                                     struct dns_names_found *ret);
/* The first name that was added with this very address, or NULL. */
const char *dns_names_of(const struct dns_names *names, const struct config_address *address);

/* IPv4 or IPv6 literal. */
bool dns_address_parse(const char *text, struct config_address *ret);
