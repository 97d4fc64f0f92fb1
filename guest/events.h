/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host is told as it happens: stages of the boot, scripts, listening ports. Nothing is
 * lost and nothing piles up: stages and scripts are kept as a history that every subscriber reads
 * at its own speed from the beginning (a host that comes late learns all of this boot), and of
 * ports each subscriber is told the difference between what it knows and what is.
 */
#pragma once

#include <stdbool.h>
#include "guest.pb.h"
#include "mux/mux.h"
#include "portset.h"
#include "rpc.h"
#include "udp.h"

#define EVENTS_HISTORY_MAX 1024 /* later scripts are not reported; stages always are */

struct events;

/* @ports is borrowed and looked at again at each events_ports_changed(). */
struct events *events_new(const struct portset *ports);
/* @fn is told the UDP ports that subscribers want, when one comes whose wishes are new. */
typedef void events_wanted_fn(const struct udp_range *ranges, size_t count, void *arg);
void events_set_wanted(struct events *events, events_wanted_fn *fn, void *arg);
/* Resets the streams of subscribers. */
void events_free(struct events *events);
SCOPED_PTR(struct events, events_free)

/* The stage was reached. @instance_id may be "". */
void events_stage(struct events *events, lima_guest_v1_Stage_Name name, const char *instance_id,
                  const char *detail);
void events_script_began(struct events *events, const char *name);
/* @status as in Script.exit_status; @tail and @hint may be NULL. */
void events_script_ended(struct events *events, const char *name, int status, const char *tail,
                         const char *hint);
void events_ports_changed(struct events *events);
/*
 * The service "Events": sends history and snapshot, then what happens, until either side ends it.
 * @arg: the events.
 */
int events_serve(const struct rpc_call *call, void *arg, struct error *err);
