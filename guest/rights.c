/* SPDX-License-Identifier: Apache-2.0 */
#include "rights.h"

#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/alloc.h"

int rights_find(const char *name, struct rights_user *ret, struct error *err)
{
    const struct passwd *pw = getpwnam(name);

    if (!pw) {
        return error_set(err, ENOENT, "there is no user '%s' in the guest", name);
    }
    *ret = (struct rights_user){.name = xstrdup(pw->pw_name), .uid = pw->pw_uid, .gid = pw->pw_gid};
    return 0;
}

void rights_user_done(struct rights_user *user)
{
    free(user->name);
    *user = (struct rights_user){0};
}

int rights_take(const struct rights_user *user, struct rights *saved, struct error *err)
{
    if (geteuid() != 0) {
        return 0;
    }
    saved->count = MAX(getgroups(0, NULL), 0);
    saved->groups = xnew_n(gid_t, (size_t)saved->count);
    if (getgroups(saved->count, saved->groups) != saved->count) {
        return error_errno(err, errno, "listing our groups");
    }
    saved->changed = true;
    if (initgroups(user->name, user->gid) < 0 || setegid(user->gid) < 0 || seteuid(user->uid) < 0) {
        return error_errno(err, errno, "acting as '%s'", user->name);
    }
    return 0;
}

void rights_return(struct rights *saved)
{
    if (saved->changed &&
        (seteuid(0) < 0 || setegid(0) < 0 || setgroups((size_t)saved->count, saved->groups) < 0)) {
        abort();
    }
    free(saved->groups);
    *saved = (struct rights){0};
}
