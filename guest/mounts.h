/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The services "Mount", "Follow", "Unmount" and "Settled": folders of the host in this guest. What
 * mount(2) and mkdir(2) may wait for (a mount point inside another mount) is done by child
 * processes.
 */
#pragma once

#include "child.h"
#include "loop.h"
#include "rpc.h"
#include "tunnel.h"

struct mounts;

struct mounts_options {
    struct loop *loop;
    struct children *children;
    struct tunnels *tunnels;
    const char *(*user)(void *arg); /* the instance's; "" or NULL while unknown */
    void (*settled)(void *arg);     /* all mounts of this boot are made or have failed */
    void *arg;
};

/* Goes on with what an earlier process has left. */
struct mounts *mounts_new(const struct mounts_options *options);
/* The kernel's mounts stay if somebody keeps their descriptors. */
void mounts_free(struct mounts *mounts);
SCOPED_PTR(struct mounts, mounts_free)
/* Another program takes this one's place: descriptors are for that. */
void mounts_hand_over(struct mounts *mounts);

/* A mount with a device, or by sshfs; all borrowed. */
struct mounts_device {
    const char *tag, *path, *type;
};

/* False: there is none that is mounted. */
bool mounts_find_device(const struct mounts *mounts, const char *tag, struct mounts_device *ret);

/* @arg of all: the mounts. */
int mounts_serve_mount(const struct rpc_call *call, void *arg, struct error *err);
int mounts_serve_follow(const struct rpc_call *call, void *arg, struct error *err);
int mounts_serve_unmount(const struct rpc_call *call, void *arg, struct error *err);
int mounts_serve_settled(const struct rpc_call *call, void *arg, struct error *err);
