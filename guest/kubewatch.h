/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The services of a Kubernetes cluster, as the API server tells of them to who watches: one JSON
 * object {"type": "ADDED", "object": {...}} a line. Kept is which ports of every node lead to one:
 * the node port of a NodePort service, the port of a LoadBalancer. No I/O.
 */
#pragma once

#include "portset.h"

#define KUBEWATCH_SERVICES_MAX 4096 /* further ones are left out */
#define KUBEWATCH_PORTS_MAX    64   /* of one service */
#define KUBEWATCH_LINE_MAX     (512u << 10)

struct kubewatch;

struct kubewatch *kubewatch_new(void);
void kubewatch_free(struct kubewatch *watch);
SCOPED_PTR(struct kubewatch, kubewatch_free)

/* Takes one event. -EBADMSG: it is none; -EREMOTE: the server says that it can't go on. */
int kubewatch_line(struct kubewatch *watch, const char *line);
/* A new stream begins, which names all there are again... */
void kubewatch_begin(struct kubewatch *watch);
/* ...and has done so: what it has not named is gone. */
void kubewatch_settle(struct kubewatch *watch);
void kubewatch_clear(struct kubewatch *watch);
/* Replaces @ret (sealed), every port on 0.0.0.0. */
void kubewatch_ports(const struct kubewatch *watch, struct portset *ret);
