/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Child processes: started from an argv (never through a shell), descriptors wired explicitly, all
 * others closed. Blocking helpers are for the command line tools and worker children, not for the
 * host agent's loop.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include "base/buf.h"
#include "base/error.h"

/* What becomes of the child's descriptor: -1 gives /dev/null. The fds stay the caller's. */
struct process_options {
    const char *const *env; /* NULL: inherit; else the complete environment, NULL-terminated */
    const char *cwd;        /* NULL: inherit */
    int stdin_fd;           /* use PROCESS_INHERIT (-2) to keep the parent's */
    int stdout_fd;
    int stderr_fd;
    const int *pass_fds; /* become 3, 4, ... in the child */
    size_t pass_count;
    bool new_session;     /* setsid(): survives the parent's terminal and process group */
    bool die_with_parent; /* PR_SET_PDEATHSIG SIGKILL */
};

#define PROCESS_INHERIT (-2)
#define PROCESS_OPTIONS_INIT                                                                       \
    ((struct process_options){.stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1})

/*
 * Starts argv[0] (looked up in PATH). The exec itself is awaited: a missing program is an error
 * here, not an exit status later. Errors: ENOENT (no such program), EACCES.
 */
int process_start(const char *const *argv, const struct process_options *options, pid_t *ret_pid,
                  struct error *err);

/*
 * Runs to the end; blocks. @input (may be NULL) goes to stdin; stdout and stderr are captured, each
 * up to 4 MiB (a longer one is cut). @ret_stdout and @ret_stderr may be NULL or the same buf.
 * Returns the exit status (128+N for signal N), or -errno if it could not be run.
 * @timeout_ms 0: none; at the deadline the child is killed: -ETIMEDOUT.
 */
int process_capture(const char *const *argv, const char *input, int64_t timeout_ms,
                    struct buf *ret_stdout, struct buf *ret_stderr, struct error *err);
/* As process_capture(), and a non-zero exit is an error EIO that carries the last stderr lines. */
int process_check(const char *const *argv, int64_t timeout_ms, struct buf *ret_stdout,
                  struct error *err);
/* Inherits all three descriptors; returns the exit status as above. */
int process_run(const char *const *argv, struct error *err);

/* Full path of @name found in PATH (a name with '/' is only tested), or NULL. Caller frees. */
char *process_find_program(const char *name);

/* False also for a zombie, which kill(pid, 0) takes for alive. */
bool process_alive(pid_t pid);
/* When it began, in the kernel's clock ticks: with its number, the name of a process. 0: there is
 * none.
 */
unsigned long long process_start_time(pid_t pid);
/* Reads a pid file ("PID\n"). Returns the pid if it names a live process, else 0. */
pid_t process_read_pidfile(const char *path);
/* kill() through a pidfd, then waits for the end up to @timeout_ms. -ETIMEDOUT; ESRCH counts as
 * done. */
int process_kill(pid_t pid, int signo, int64_t timeout_ms, struct error *err);
/* Waits for the end of any process by pidfd. 0, or -ETIMEDOUT. @timeout_ms <0: forever. */
int process_wait(pid_t pid, int64_t timeout_ms);
/* "exit status 3" or "signal 9 (Killed)" for a wait status. Caller frees. */
char *process_status_text(int wait_status);
