/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The listening TCP ports of this machine, kept current: by BPF notices where the kernel allows,
 * else by the kernel's notices of destroyed sockets together with a look every 50 ms to 1 s.
 */
#pragma once

#include "base/error.h"
#include "loop.h"
#include "portset.h"

struct ports;

/* The set differs from that of the last call. */
typedef void ports_changed_fn(struct ports *ports, void *arg);

/* Looks once before it returns; @changed comes from the loop only. */
int ports_open(struct loop *loop, ports_changed_fn *changed, void *arg, struct ports **ret,
               struct error *err);
void ports_close(struct ports *ports);
/* Borrowed; valid until the next change. */
const struct portset *ports_current(const struct ports *ports);
/* How it learns of changes: "bpf" or "poll"; for logs. */
const char *ports_method(const struct ports *ports);
