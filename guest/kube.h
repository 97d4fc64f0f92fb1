/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports that a Kubernetes cluster on this machine publishes on its nodes. The API server speaks TLS
 * and wants certificates, so the distribution's kubectl asks it: one `kubectl get --raw` that
 * follows the services, started when both it and a kubeconfig are there and ended with the
 * kubeconfig. Nothing runs, and nothing is looked for by the clock, while there is no cluster.
 */
#pragma once

#include "base/error.h"
#include "child.h"
#include "loop.h"
#include "portset.h"

struct kube;

struct kube_options {
    struct loop *loop;
    struct children *children;
    const char *const
        *configs;     /* kubeconfigs, the first that exists counts; NULL: the usual ones */
    const char *path; /* folders of kubectl, as in PATH; NULL: the usual ones */
    loop_fn *changed; /* the set differs from that of the last call; from the loop only */
    void *arg;
};

/* All of the options is borrowed. */
int kube_open(const struct kube_options *options, struct kube **ret, struct error *err);
void kube_close(struct kube *kube);
/* Sealed; borrowed, valid until the next change. */
const struct portset *kube_current(const struct kube *kube);
