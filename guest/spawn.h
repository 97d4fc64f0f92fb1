/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new process, made ordinary: the agent's own signal mask, limits, rank for the out-of-memory
 * killer and descriptors are not for what it starts.
 */
#pragma once

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>
#include "base/error.h"
#include "base/macros.h"

struct spawn_identity {
    const char *name; /* whose supplementary groups it gets */
    uid_t uid;
    gid_t gid;
};

/* Resource limits that a child gets back. */
struct spawn_limits {
    struct rlimit files;
    struct rlimit memlock;
};

enum spawn_step {
    SPAWN_STEP_USER = 1, /* becoming the user */
    SPAWN_STEP_DIR,      /* entering the folder */
    SPAWN_STEP_TERMINAL,
    SPAWN_STEP_FDS, /* placing the descriptors */
    SPAWN_STEP_EXEC,
};

/* What a child writes to its status pipe when it cannot become the program. */
struct spawn_failure {
    enum spawn_step step;
    int error; /* errno */
};

struct spawn_options {
    const char *path; /* looked up in the PATH of @envp unless it has a '/' */
    const char *const *argv;
    const char *const *envp;
    const struct spawn_identity *as; /* NULL: as we are */
    const char *dir;
    bool dir_optional; /* "/" instead when it cannot be entered */
    int fds[3];        /* become 0, 1 and 2; all others are closed */
    bool terminal;     /* fds[0] is one: it becomes the session's */
};

/* The limits that hold now. */
void spawn_limits_take(struct spawn_limits *ret);
/*
 * In the child, before spawn_reset(): closes all descriptors but 0 to 2 and @keep_fd (-1: none).
 * What comes before the program is executed may wait for ever, and would keep connections open that
 * we have closed long since; and it needs descriptors below the limit that it gets back.
 */
void spawn_close_others(int keep_fd);
/*
 * In the child: a session of its own, no signal blocked or ignored, @limits, an
 * ordinary rank for the out-of-memory killer, umask 022.
 */
void spawn_reset(const struct spawn_limits *limits);
/* In the child: takes on @as (may be NULL), for good, with a session keyring of its own. -errno. */
int spawn_become(const struct spawn_identity *as);

/*
 * Forks; the child goes on to the program. *ret_status_fd is for reading, does not block, and ends
 * with nothing read when the program runs, else with one struct spawn_failure, and the child exits.
 */
int spawn(const struct spawn_limits *limits, const struct spawn_options *options, pid_t *ret_pid,
          int *ret_status_fd, struct error *err);
