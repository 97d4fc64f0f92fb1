/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/lock.h"

#include "base/alloc.h"
#include "instance/layout.h"
#include "util/file.h"

int lifecycle_lock(const char *dir, const char *name, int *ret_fd, struct error *err)
{
    scoped(free) char *path = path_join(dir, LAYOUT_LOCK);
    int r;

    if (!file_is_dir(dir)) {
        return error_set(err, ENOENT, "instance `%s` does not exist", name);
    }
    r = file_lock(path, true, ret_fd, err);
    if (r == -EAGAIN) {
        error_set(err, EBUSY, "another limactl command is at work on instance `%s`", name);
        return error_hint(err, "wait for it to end; the lock is '%s'", path), -EBUSY;
    }
    return r < 0 ? error_wrap(err, r, "locking instance `%s`", name) : 0;
}
