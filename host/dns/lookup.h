/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of names as the host's own programs find them: getaddrinfo() in worker threads, so that
 * VPNs, split DNS, mDNS and whatever else nsswitch.conf names are followed, at every lookup anew.
 * Threads come with work and go without it. Questions for one name at one time are one lookup.
 */
#pragma once

#include "config/config.h"
#include "util/loop.h"

#define LOOKUP_NAMES_MAX 1024 /* waiting or being looked up */

struct lookup;
struct lookup_request;

struct lookup_result {
    unsigned code; /* DNS response code: NOERROR (also without addresses), NXDOMAIN, SERVFAIL */
    struct config_address *addresses; /* of both families */
    size_t count;
};

/* Runs in a worker; blocks. Fills the zeroed result, whose addresses will be freed. */
typedef void (*lookup_fn)(const char *name, struct lookup_result *ret);
/* The real one. @name in lower case without last dot, of letters, digits, '-', '_' and dots. */
void lookup_by_getaddrinfo(const char *name, struct lookup_result *ret);

/* Errors: those of eventfd(). */
int lookup_new(struct loop *loop, lookup_fn fn, struct lookup **ret, struct error *err);
/* No callback comes any more. Threads that still wait for a server end by themselves. */
void lookup_free(struct lookup *lookup);
SCOPED_PTR(struct lookup, lookup_free)

/* What was asked before does not answer what is asked from now on: the host's setup has changed. */
void lookup_renew(struct lookup *lookup);

/*
 * @done comes once, never before this has returned; the result is borrowed during the call. NULL
 * when LOOKUP_NAMES_MAX others are under way: then it does not come. lookup_cancel() before it came
 * drops the request. @done may start and cancel requests, and not free the lookup.
 */
typedef void (*lookup_done_fn)(const struct lookup_result *result, void *arg);
struct lookup_request *lookup_start(struct lookup *lookup, const char *name, lookup_done_fn done,
                                    void *arg);
void lookup_cancel(struct lookup_request *request);
