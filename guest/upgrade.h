/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The service "Upgrade": takes another version of this program from the host and goes on as that.
 *
 * What comes is written beside the program, checked against the digest that was announced, and
 * started once to say its version; only then it takes the program's place, which is kept (see
 * program.h). The new one has UPGRADE_TRIAL_MS to meet the host; else the old one is back. Should
 * the new one be so broken that it never gets that far, the old one is run by a timer of systemd,
 * UPGRADE_GUARD_S after the change, and takes its place again: upgrade_guard().
 */
#pragma once

#include "base/error.h"
#include "child.h"
#include "loop.h"
#include "rpc.h"

#define UPGRADE_MAX      (32u << 20) /* bytes of a program */
#define UPGRADE_TRIAL_MS 60000
#define UPGRADE_GUARD_S  "90"

struct upgrade;

struct upgrade_options {
    struct loop *loop;
    struct children *children;
    const char *program; /* borrowed: its path */
    bool on_trial;       /* this very program has to be confirmed within @trial_ms */
    unsigned trial_ms;
    bool guarded; /* let systemd run the old program later: a new one may not even get to its trial
                   */
    /* @program is another one now, to be executed once the answer is out. May free nothing. */
    void (*replaced)(void *arg);
    void *arg;
};

struct upgrade *upgrade_new(const struct upgrade_options *options);
/* A transfer that is under way is dropped. */
void upgrade_free(struct upgrade *upgrade);
SCOPED_PTR(struct upgrade, upgrade_free)
/* The service "Upgrade". @arg: the struct upgrade. */
int upgrade_serve(const struct rpc_call *call, void *arg, struct error *err);
/* The host has been met: this program stays. */
void upgrade_confirm(struct upgrade *upgrade);

/*
 * What the program at @previous, started by the timer, is there for: takes the place of the one
 * that is still on trial and has the service started anew. 0: there was nothing to do; 1: done.
 */
int upgrade_guard(const char *previous, struct error *err);
