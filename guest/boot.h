/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's part of a boot, from finding the seed to READY, driven by events alone. boot.c has
 * the stages and what each waits for.
 */
#pragma once

#include "child.h"
#include "events.h"
#include "loop.h"
#include "portset.h"
#include "uevent.h"

struct boot;

struct boot_options {
    struct loop *loop;
    struct children *children;
    struct events *events;
    const struct portset *ports;
    struct uevent *uevent;
    /* The program was replaced by the seed's: execute it anew. */
    void (*replaced)(const char *path, void *arg);
    void *arg;
};

/* Everything in @options is borrowed. */
struct boot *boot_new(const struct boot_options *options);
void boot_free(struct boot *boot);
SCOPED_PTR(struct boot, boot_free)
/* Begins; events come from here and from the loop. */
void boot_start(struct boot *boot);
/* The set of listening ports differs. */
void boot_ports_changed(struct boot *boot);
/* All folders of the host are mounted, or have failed: scripts that may want them can run. */
void boot_mounts_settled(struct boot *boot);
/* Name of the seed's user, "" before it is read; borrowed. */
const char *boot_user(const struct boot *boot);
/* The seed's instance, "" before it is read; borrowed. */
const char *boot_instance_id(const struct boot *boot);
