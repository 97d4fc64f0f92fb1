/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the seed wants of this machine, applied natively on every boot. Everything is idempotent;
 * what cannot be done is logged and the boot goes on.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include "seed.h"

struct system_user {
    char *name;
    uid_t uid;
    gid_t gid;
    char *home;
    char *shell;
};

void system_user_done(struct system_user *user);
SCOPED_VAL(struct system_user, system_user_done)

/* The seed's user: false while no such account exists. */
bool system_find_user(const struct seed *seed, struct system_user *ret);

/* Host name, /etc/hosts, /etc/environment. */
void system_apply_machine(const struct seed *seed);
/* Authorised keys, subordinate ids, linger. */
void system_apply_user(const struct seed *seed, const struct system_user *user);
/*
 * Adds the lines of @keys to the user's authorized_keys. Done with the user's rights, because the
 * user may have put links into the folders that lead anywhere.
 */
void system_apply_keys(const char *keys, const struct system_user *user);
bool system_has_systemd(void);
/* Asks the init system to power off or reboot; -ENOTSUP: it takes no such request from us. */
int system_power(bool reboot);
