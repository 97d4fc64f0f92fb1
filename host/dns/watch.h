/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Have these files changed since the last look? What was done to a file before dns_watch_changed()
 * is called is seen by it: in place, by renaming another one over it, behind a symlink, or by
 * mounting.
 */
#pragma once

#include <stdbool.h>
#include "base/macros.h"

#define DNS_WATCH_MAX 8

struct dns_watch;

/* At most DNS_WATCH_MAX @paths, which need not exist; borrowed. */
struct dns_watch *dns_watch_new(const char *const *paths, size_t count) _nonnull_;
void dns_watch_free(struct dns_watch *watch);
SCOPED_PTR(struct dns_watch, dns_watch_free)

/* A bit a path, the first is 1. Each change is told once. */
unsigned dns_watch_changed(struct dns_watch *watch);
