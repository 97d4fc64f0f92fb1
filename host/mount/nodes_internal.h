/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes.c (the table) and nodes_fd.c (its descriptors) share. Nobody else includes it. */
#pragma once

#include "mount/nodes.h"

#define DEVICES_MAX 256

struct nodes {
    const struct tree *tree;
    struct journal *journal; /* NULL: nothing is kept */
    struct owners *owners;
    struct node *root;
    struct node **by_id; /* [id]; NULL: free */
    size_t by_id_len, by_id_cap;
    uint64_t *free_ids;
    size_t free_count, free_cap;
    uint64_t generation;
    struct node **hash; /* a power of two */
    size_t hash_len;
    size_t count;
    struct node *oldest, *newest;
    size_t fd_count, fd_max;
    size_t pins; /* nodes that are pinned, but for the root */
    size_t writers;
    void (*gone)(struct node *node, void *arg); /* NULL: nobody asks */
    void *gone_arg;
    void (*closing)(struct node *node, void *arg); /* the same */
    void *closing_arg;
    uint64_t devices[DEVICES_MAX];
    size_t device_count;
};

/* Closes what can be opened again. */
void nodes_drop_fds(struct nodes *nodes, struct node *node);
/* It has no descriptors to give up. */
void nodes_unlist(struct nodes *nodes, struct node *node);
