/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/stop.h"

#include <dirent.h>
#include <signal.h>
#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "instance/layout.h"
#include "instance/store.h"
#include "lifecycle/follow.h"
#include "lifecycle/lock.h"
#include "ssh/ssh.h"
#include "util/file.h"
#include "util/process.h"

#define GRACE_MS 190000 /* the host agent kills the VM after 3 minutes by itself */
#define KILL_MS  10000  /* from SIGKILL to the end of a process */

static void close_dir(DIR *dir)
{
    closedir(dir);
}
SCOPED_PTR(DIR, close_dir)

static int remove_leftovers(const char *path, struct error *err)
{
    static const char *const suffixes[] = {".pid", ".sock", ".tmp"};
    scoped(close_dir) DIR *dir = opendir(path);
    struct dirent *entry;

    if (!dir) {
        return error_errno(err, errno, "listing '%s'", path);
    }
    while ((entry = readdir(dir))) {
        for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
            if (str_ends(entry->d_name, suffixes[i])) {
                scoped(free) char *file = path_join(path, entry->d_name);
                int r = file_remove_tree(file, err);

                if (r < 0) {
                    return r;
                }
            }
        }
    }
    return 0;
}

static int kill_process(pid_t pid, const char *what, struct error *err)
{
    int r;

    if (!pid) {
        return 0;
    }
    log_info("Sending SIGKILL to the %s process %d", what, (int)pid);
    r = process_kill(pid, SIGKILL, KILL_MS, err);
    return r < 0 ? error_wrap(err, r, "killing the %s process %d", what, (int)pid) : 0;
}

/* The agent goes first: it shall not report the end of its VM as a failure, or start anything. */
int lifecycle_kill(const struct instance *inst, struct error *err)
{
    int r = kill_process(inst->host_agent_pid, "host agent", err);

    if (r < 0) {
        return r;
    }
    r = kill_process(inst->driver_pid, "driver", err);
    if (r < 0) {
        return r;
    }
    ssh_master_stop(inst->dir);
    return remove_leftovers(inst->dir, err);
}

static int not_running(const struct instance *inst, struct error *err)
{
    error_set(err, ESRCH, "expected status `Running`, got `%s` (maybe use `limactl stop -f`?)",
              instance_status_name(inst->status));
    if (inst->driver_pid) {
        error_hint(
            err,
            "the VM runs without a host agent; `limactl start %s` takes it over, then it can "
            "be stopped in good order",
            inst->name);
    }
    return -ESRCH;
}

static int wait_for_end(const struct instance *inst, struct error *err)
{
    struct lifecycle_follow_options follow = {.dir = inst->dir,
                                              .agent = inst->host_agent_pid,
                                              .goal = LIFECYCLE_GOAL_EXIT,
                                              .timeout_ms = GRACE_MS};
    scoped(lifecycle_result_done) struct lifecycle_result result = LIFECYCLE_RESULT_INIT;
    int r = lifecycle_follow(&follow, &result, err);

    if (r < 0) {
        return r;
    }
    if (result.end == LIFECYCLE_END_INTERRUPTED) {
        error_set(err, EINTR, "interrupted; instance `%s` goes on shutting down", inst->name);
        return error_hint(err, "`limactl list` shows when it is `Stopped`"), -EINTR;
    }
    if (result.end != LIFECYCLE_END_GONE ||
        (inst->driver_pid && process_wait(inst->driver_pid, KILL_MS) < 0)) {
        error_set(err, ETIMEDOUT, "instance `%s` did not shut down", inst->name);
        return error_hint(err, "`limactl stop -f %s` ends it at once", inst->name), -ETIMEDOUT;
    }
    return 0;
}

static int stop_gracefully(const struct instance *inst, struct error *err)
{
    int r;

    if (!inst->host_agent_pid) {
        return not_running(inst, err);
    }
    log_info("Sending SIGINT to hostagent process %d", (int)inst->host_agent_pid);
    if (kill(inst->host_agent_pid, SIGINT) < 0 && errno != ESRCH) {
        return error_errno(err, errno, "signalling the host agent %d", (int)inst->host_agent_pid);
    }
    log_info("Waiting for the host agent and the driver processes to shut down");
    r = wait_for_end(inst, err);
    if (r < 0) {
        return r;
    }
    ssh_master_stop(inst->dir);
    return remove_leftovers(inst->dir, err);
}

int lifecycle_stop(const char *lima_home, const char *name, bool force, struct error *err)
{
    scoped(free) char *dir = instance_dir(lima_home, name);
    scoped(instance_free) struct instance *inst = NULL;
    scoped(fd_close) int lock = -1;
    int r = lifecycle_lock(dir, name, &lock, err);

    if (r < 0) {
        return r;
    }
    r = instance_open(lima_home, name, &inst, err);
    if (r < 0) {
        return r;
    }
    return force ? lifecycle_kill(inst, err) : stop_gracefully(inst, err);
}
