/* SPDX-License-Identifier: Apache-2.0 */
#include "program.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "files.h"

#define COUNT_MAX 32 /* bytes of the trial's file */

char *program_path(void)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (n < 0) {
        return NULL;
    }
    self[n] = '\0';
    return xstrdup(self);
}

char *program_beside(const char *path, const char *what)
{
    return xasprintf("%s.%s", path, what);
}

/* The renames are on the disk. */
static void sync_folder(const char *path)
{
    scoped(free) char *folder = xasprintf("%.*s", (int)(strrchr(path, '/') - path) + 1, path);
    scoped(fd_close) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0 && fsync(fd) < 0) {
        log_debug("'%s' is not synced: %s", folder, strerror(errno));
    }
}

/* A second name of @path that takes the place of @to. */
static int put_link(const char *path, const char *to, struct error *err)
{
    scoped(free) char *temporary = program_beside(path, "link");

    unlink(temporary); /* of a run that was cut short */
    if (link(path, temporary) < 0 || rename(temporary, to) < 0) {
        return error_errno(err, errno, "keeping '%s' as '%s'", path, to);
    }
    unlink(temporary); /* rename() leaves it when both were the same file */
    return 0;
}

static int write_tries(const char *path, int tries, struct error *err)
{
    scoped(free) char *trial = program_beside(path, "trial");
    scoped(free) char *text = xasprintf("%d\n", tries);

    return files_write_as(trial, text, 0644, geteuid(), getegid(), err);
}

int program_replace(const char *path, const char *upload, struct error *err)
{
    scoped(free) char *previous = program_beside(path, "previous");
    int r = put_link(path, previous, err);

    if (r == 0) {
        r = write_tries(path, 0, err);
    }
    if (r < 0) {
        return r;
    }
    if (rename(upload, path) < 0) {
        r = error_errno(err, errno, "replacing '%s'", path);
        program_confirm(path);
        return r;
    }
    sync_folder(path);
    return 0;
}

int program_go_back(const char *path, struct error *err)
{
    scoped(free) char *previous = program_beside(path, "previous");
    scoped(free) char *kept = program_beside(path, "kept");
    int r;

    if (!files_exist(previous)) {
        return error_set(err, ENOENT, "there is no program before '%s' to go back to", path);
    }
    r = put_link(path, kept, err);
    if (r < 0) {
        return r;
    }
    if (rename(previous, path) < 0 || rename(kept, previous) < 0) {
        return error_errno(err, errno, "going back from '%s'", path);
    }
    program_confirm(path);
    sync_folder(path);
    return 0;
}

void program_confirm(const char *path)
{
    scoped(free) char *trial = program_beside(path, "trial");

    if (unlink(trial) < 0 && errno != ENOENT) {
        log_warn("removing '%s': %s, ignoring", trial, strerror(errno));
    }
}

enum program_state program_settle(const char *path)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *trial = program_beside(path, "trial");
    scoped(free) char *text = files_read(trial, COUNT_MAX, NULL);
    long tries = text ? strtol(text, NULL, 10) : 0;

    if (!text) {
        return PROGRAM_SETTLED;
    }
    if (tries < PROGRAM_TRIES) {
        if (write_tries(path, (int)tries + 1, &err) < 0) {
            log_error_of(LOG_LEVEL_WARN, &err, "counting a trial, ignoring");
        }
        return PROGRAM_ON_TRIAL;
    }
    if (program_go_back(path, &err) < 0) {
        log_error_of(LOG_LEVEL_ERROR, &err, "a program that does not come up, ignoring");
        program_confirm(path);
        return PROGRAM_SETTLED;
    }
    log_warn("'%s' has begun %d times and never met the host, going back to the one before it",
             path, PROGRAM_TRIES);
    return PROGRAM_REPLACED;
}
