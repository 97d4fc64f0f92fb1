/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This machine's clock follows the host's: the host measures and says by how much we are off, what
 * becomes of that is decided here. The service also tells the host when somebody else has set the
 * clock (a reply that nobody asked for, with probe 0), so that it measures again at once.
 */
#pragma once

#include "base/error.h"
#include "guest.pb.h"
#include "loop.h"
#include "rpc.h"

#define CLOCK_STEP_NS         500000000ll  /* from here on forwards at once */
#define CLOCK_STEP_BACK_NS    2000000000ll /* and backwards; below it time never goes back */
#define CLOCK_STEP_RESUMED_NS 10000000ll   /* forwards, after a time when nothing ran */

/* What is done to a clock. The test gives its own. */
struct clock_ops {
    int64_t (*now_ns)(void *arg);      /* CLOCK_REALTIME */
    bool (*is_disciplined)(void *arg); /* a time daemon keeps it right, says the kernel */
    /* 0 or -errno. */
    int (*slew)(int64_t offset_ns, void *arg);
    int (*step)(int64_t offset_ns, void *arg);
};

extern const struct clock_ops clock_machine;   /* the kernel's clock */
extern const struct clock_ops clock_untouched; /* can be read only: adjusting fails with EPERM */

/* What to do about an error of @offset_ns, which is to be added to our clock. */
lima_guest_v1_ClockReply_Action clock_decide(int64_t offset_ns, bool resumed, bool disciplined);

struct clock_service;

/* @ops is constant, @ops_arg borrowed. */
struct clock_service *clock_service_new(struct loop *loop, const struct clock_ops *ops,
                                        void *ops_arg);
/* Streams that are open are reset. */
void clock_service_free(struct clock_service *service);
SCOPED_PTR(struct clock_service, clock_service_free)
/* The service "Clock". @arg: the service. */
int clock_serve(const struct rpc_call *call, void *arg, struct error *err);
