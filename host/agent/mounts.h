/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The folders of the host in the guest: those of the configuration, and what was added since. Each
 * is mounted once the guest is there, and again whenever what carries it was lost; mounts.c has the
 * states.
 */
#pragma once

#include "api/events.h"
#include "api/server.h"
#include "config/config.h"
#include "peer/client.h"
#include "util/loop.h"
#include "util/strv.h"

struct mounts;

struct mounts_options { /* borrowed */
    struct loop *loop;
    struct peer *peer;
    const char *lima_home;
    const struct config *config;
    const char *dir; /* of the instance */
    pid_t (*vm)(void *arg);
    /*
     * Devices by virtiofs: there is one with this tag; gives the VM one, or takes one out, the ends
     * of which are mounts_device_added() and mounts_device_removed().
     */
    bool (*has_device)(const char *tag, void *arg);
    int (*add_device)(const struct config_mount *mount, void *arg, struct error *err);
    int (*remove_device)(const char *tag, void *arg, struct error *err);
    /* Something has changed for the worse or better. */
    void (*changed)(void *arg);
    void *arg;
};

struct mounts *mounts_new(const struct mounts_options *options) _nonnull_;
/* File servers go on as long as the VM does. */
void mounts_free(struct mounts *mounts);
SCOPED_PTR(struct mounts, mounts_free)

/* The device with this tag does not work any more: the guest agent mounts the folder instead. */
void mounts_lost(struct mounts *mounts, const char *tag, const char *reason);
/* @why: it is not. */
void mounts_device_added(struct mounts *mounts, const char *tag, const char *why);
void mounts_device_removed(struct mounts *mounts, const char *tag, const char *why);
/* A session with a guest in this boot: what another boot has unmounted is mounted again. */
void mounts_connected(struct mounts *mounts, const char *boot_id);
/* The guest's user exists, in this session: mounts are made, or go on. */
void mounts_guest_ready(struct mounts *mounts);
void mounts_disconnected(struct mounts *mounts);
/* All have been made, or have failed, once; in plain mode, or without any, at once. */
bool mounts_are_settled(const struct mounts *mounts);
/* Adds a line a mount that does not work. */
void mounts_failures(const struct mounts *mounts, struct strv *ret);

/* The mounts that do not work, each as below. */
jv mounts_failed(const struct mounts *mounts);
/*
 * GET /v1/mounts, once the guest has given a sign of life or was asked for one in vain: {"mounts":
 * [{"location", "mountPoint", "type", "writable", "state", "reason", "tag", "temporary"}]}. POST
 * adds {"mount": as in lima.yaml, "temporary": bool} and answers the same once it is mounted or has
 * failed; DELETE {"mountPoint", "force": bool} likewise.
 */
void mounts_get(struct mounts *mounts, struct api_exchange *take_exchange);
void mounts_post(struct mounts *mounts, struct api_exchange *take_exchange, jv take_body);
void mounts_delete(struct mounts *mounts, struct api_exchange *take_exchange, jv take_body);
