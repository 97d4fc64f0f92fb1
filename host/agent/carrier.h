/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who carries the forwards' connections into the guest: the guest agent's tunnels, or ssh. ssh if
 * the environment wants it (LIMA_SSH_PORT_FORWARDER) and always in plain mode, where there is no
 * agent. Datagrams, and sockets that are dialled with other rights than the user's, go through the
 * agent in any case.
 */
#pragma once

#include <stdbool.h>
#include "peer/dialer.h"
#include "util/loop.h"

struct carrier;

/* The value of LIMA_SSH_PORT_FORWARDER. Errors: EINVAL (neither true nor false). */
int carrier_wants_ssh(bool *ret, struct error *err);

struct carrier_options { /* copied */
    struct peer *peer;   /* borrowed */
    bool ssh;            /* from carrier_wants_ssh() */
    bool plain;          /* no agent will ever speak */
    const char *lima_home;
    int ssh_port;
    const char *user;
};

struct carrier *carrier_new(struct loop *loop, const struct carrier_options *options) _nonnull_;
void carrier_free(struct carrier *carrier);
SCOPED_PTR(struct carrier, carrier_free)
struct dialer *carrier_dialer(struct carrier *carrier) _nonnull_;
/* It can carry datagrams, sooner or later. */
bool carrier_has_udp(const struct carrier *carrier);

/* The peer was connected, to a guest in this boot; NULL: disconnected. */
void carrier_peer_changed(struct carrier *carrier, const char *boot_id);
/* The guest's sshd lets the user in, as far as is known; again after each boot or connection. */
void carrier_ssh_answers(struct carrier *carrier);
