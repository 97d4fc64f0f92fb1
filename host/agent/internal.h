/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the host agent share: agent.c (the process, from its first to its last event),
 * vm.c (the driver and what it tells), session.c (the guest agent and what it tells) and routes.c
 * (what is asked at ha.sock). Nobody else includes it.
 */
#pragma once

#include "agent/agent.h"
#include "agent/banner.h"
#include "agent/boot.h"
#include "agent/carrier.h"
#include "agent/guest.h"
#include "agent/mounts.h"
#include "agent/ports.h"
#include "agent/resolver.h"
#include "api/events.h"
#include "api/server.h"
#include "driver/console.h"
#include "driver/driver.h"
#include "instance/instance.h"
#include "peer/client.h"
#include "peer/gate.h"
#include "util/loop.h"
#include "util/strv.h"

struct agent {
    const struct agent_options *options;
    struct loop *loop;
    struct instance *inst;
    const struct config *config; /* of inst */
    int ssh_port;
    int pidfile_fd;
    struct strv ssh_keys;

    const struct driver_ops *ops;
    struct driver *driver;
    bool vm_runs;
    bool stopping;
    struct console_watch *console;

    struct peer *peer;
    bool wants_ssh; /* for forwards */
    struct carrier *carrier;
    struct guest *guest;
    char *program; /* the guest agent that belongs to us */
    struct loop_timer *reconnect;
    int64_t reconnect_ms;
    struct ports *ports;
    struct mounts *mounts;
    struct boot *boot;
    struct banner *banner;
    struct api_server *server;
    struct resolver *resolver; /* NULL: the guest's DNS is not ours */
    struct gate *gate;         /* NULL: local programs do not reach the guest */

    struct loop_signal *sigint, *sigterm;
    struct loop_timer *patience, *press; /* while the guest shuts down */
    bool running, degraded;              /* as the events say */
    bool boot_over;
    bool boot_degraded;
    struct strv end_errors; /* for the exiting event */
};

/* ---- agent.c ---- */

/* Fills the standing state in and writes the event. A reader that is gone is no reason to stop. */
void agent_emit(struct agent *a, struct api_event event);
/* Lets the loop return. */
void agent_finish(struct agent *a, int result);

/* ---- vm.c ---- */

/* Starts the VM, or takes a running one over; sets ssh_port and vm_runs. */
int vm_begin(struct agent *a, struct error *err);

/* ---- session.c ---- */

/* Makes the peer; LIMA_GUEST_TRANSPORT may be wrong. */
int session_open(struct agent *a, struct error *err);
/* The VM runs: connects to the guest agent's port, and again whenever that is lost. */
void session_connect(struct agent *a);
void session_close(struct agent *a);

/* ---- routes.c ---- */

extern const struct api_route agent_routes[];
