/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A user's rights, taken for a few system calls. The effective ids and the groups change, so the
 * kernel decides about paths as for that user, the other end of a Unix socket sees that user, and a
 * socket or file that is made is the user's. Real and saved ids stay root's: no process of the user
 * can signal or trace us meanwhile. The agent has one thread and calls this around code that does
 * not wait.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include "base/error.h"

struct rights_user {
    char *name; /* owned */
    uid_t uid;
    gid_t gid;
};

/* What we had before. */
struct rights {
    gid_t *groups;
    int count;
    bool changed;
};

/* -ENOENT: there is no user @name. */
int rights_find(const char *name, struct rights_user *ret, struct error *err);
void rights_user_done(struct rights_user *user);
SCOPED_VAL(struct rights_user, rights_user_done)

/*
 * Acts as @user until rights_return(@saved), which must be called on failure too. An agent that is
 * not root has no more than a user's rights anyway and stays what it is.
 */
int rights_take(const struct rights_user *user, struct rights *saved, struct error *err);
/* Aborts when root's rights do not come back: an agent that is root by half would do harm. */
void rights_return(struct rights *saved);
SCOPED_VAL(struct rights, rights_return)
