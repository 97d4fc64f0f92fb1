/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accounts, and the environment that a login of one begins with: what sshd and PAM give a session
 * on Debian, without the marks of either (SSH_*, XDG_SESSION_*).
 */
#pragma once

#include <stdbool.h>
#include "envlist.h"
#include "system.h"

/* False: no such account. */
bool login_find(const char *name, struct system_user *ret);
/* The account that this program runs as. */
bool login_find_self(struct system_user *ret);
/*
 * PATH, then /etc/environment and /etc/default/locale, then HOME, USER, LOGNAME, SHELL, and where
 * the user's service manager and its bus are, if they are there.
 */
void login_env(const struct system_user *user, struct envlist *env);
