/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One instance: its folder, configuration and present status, read from disk and from its host
 * agent. Reading only; the verbs are in lifecycle/.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include "base/error.h"
#include "config/load.h"
#include "util/strv.h"
#include "util/value.h"

enum instance_status {
    INSTANCE_STATUS_UNKNOWN, /* configuration not readable */
    INSTANCE_STATUS_STOPPED,
    INSTANCE_STATUS_RUNNING,
    INSTANCE_STATUS_BROKEN,
};

#define INSTANCE_ANSWER_MS 3000
#define INSTANCE_GUEST_MS  1500 /* for what a guest says about itself */

struct instance {
    char *name;
    char *hostname; /* lima-NAME with . and _ as - */
    char *dir;
    char *version;         /* content of lima-version, "" if missing */
    struct config *config; /* NULL if not readable: see errors */
    enum instance_status status;
    struct strv errors;
    pid_t host_agent_pid; /* 0: none */
    pid_t driver_pid;
    int ssh_port; /* 0: not known */
    bool is_protected;
    jv info;  /* what a host agent that answers says of itself, an object; else invalid */
    jv guest; /* object with what its agent says; invalid: not asked, or no answer */
};

/*
 * Opens @name and derives its status: Stopped when neither ha.pid nor <vmType>.pid names a live
 * process that belongs to the instance, Running when both do and the agent answers, Broken
 * otherwise. Problems land in errors. Blocks for at most INSTANCE_ANSWER_MS on an agent that hangs.
 * Errors: ENOENT (no lima.yaml), EINVAL (bad name).
 */
int instance_open(const char *lima_home, const char *name, struct instance **ret,
                  struct error *err);

struct instance_opened {
    struct instance *inst; /* NULL: see r and err */
    int r;
    struct error err;
};

/*
 * Opens all @names (as many as @ret has) as instance_open() does, asking their host agents all at
 * once. @with_guest: the guests too, for at most INSTANCE_GUEST_MS; who does not answer has none.
 */
void instance_open_all(const char *lima_home, const struct strv *names, bool with_guest,
                       struct instance_opened *ret);
/* What a folder without lima.yaml is listed as: Broken, with @reason as its only error. */
struct instance *instance_broken(const char *lima_home, const char *name,
                                 const char *reason) _nonnull_;
void instance_free(struct instance *inst);
SCOPED_PTR(struct instance, instance_free)

const char *instance_status_name(enum instance_status status); /* "Running"; "" for unknown */
/* "lima-" + name with every '.' and '_' as '-'. Caller frees. */
char *instance_hostname(const char *name);
/* Path of a file of the instance (LAYOUT_*). Caller frees. */
char *instance_path(const struct instance *inst, const char *file);

/*
 * The process that a pid file of the instance names, or 0. A process counts only if its command
 * line mentions the instance's folder, so a reused pid does not lie.
 */
pid_t instance_read_pid(const char *dir, const char *file);
/* Name of the driver's pid file, "qemu.pid". Caller frees. */
char *instance_driver_pidfile(const struct instance *inst);
/* True when something of an earlier start is in @dir: decides which version's rules hold. */
bool instance_is_old(const char *dir);
