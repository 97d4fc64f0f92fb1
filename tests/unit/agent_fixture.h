/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real guest agent, a program of its own on a socketpair, and the host's side of it: peer,
 * dialer and what forwards need. So both ends of a forward are in this machine.
 */
#pragma once

#include "test.h"
#include <netinet/in.h>
#include <sys/types.h>
#include "forward/listener.h"

struct agent_fixture {
    struct loop *loop;
    struct loop_timer *tick; /* so that no wait is for ever */
    struct peer *peer;
    struct peer_dialer dialer;
    struct forward_env env;
    pid_t pid;
    char dir[64]; /* for sockets */
};

/* As a setup: *state is the fixture, the session is up. */
int agent_fixture_start(void **state);
int agent_fixture_stop(void **state);
/* Kills the agent; the session ends. A new one, as a VM that was started again. */
void agent_fixture_kill(struct agent_fixture *f);
void agent_fixture_restart(struct agent_fixture *f);

/* One round of the loop, at most some milliseconds. */
void agent_fixture_turn(struct agent_fixture *f);
int64_t agent_fixture_deadline(void);

#define agent_wait_for(f, condition)                                                               \
    do {                                                                                           \
        int64_t end_ = agent_fixture_deadline();                                                   \
        bool met_ = (condition);                                                                   \
        while (!met_ && loop_now_ms() < end_) {                                                    \
            agent_fixture_turn(f);                                                                 \
            met_ = (condition);                                                                    \
        }                                                                                          \
        if (!met_) {                                                                               \
            fail_msg("waited in vain for %s", #condition);                                         \
        }                                                                                          \
    } while (0)

/* Sockets of the test, on 127.0.0.1, non-blocking. */
int agent_udp_socket(uint16_t *ret_port);
int agent_tcp_listener(uint16_t *ret_port);
int agent_tcp_connect(uint16_t port);
/* To who connects it is another process's. */
int agent_unix_listener(const char *path);
int agent_unix_connect(const char *path); /* -errno */
struct forward_endpoint agent_loopback(enum config_proto proto, uint16_t port);
/* In f->dir. Caller frees. */
char *agent_path(struct agent_fixture *f, const char *name);
