/* SPDX-License-Identifier: Apache-2.0 */
/* The user's key, the option set of every ssh we offer, and ssh.config. cli.md 6.1, host.md 7. */
#pragma once

#include "base/error.h"
#include "config/config.h"
#include "util/strv.h"

/*
 * Makes $LIMA_HOME/_config/user{,.pub} if missing (ed25519, no passphrase, comment "lima"), under a lock.
 * @ret_keys gets the public keys to authorise: ours, and ~/.ssh/\*.pub when @dot_ssh.
 */
int ssh_keys_ensure(const char *lima_home, bool dot_ssh, struct strv *ret_keys, struct error *err);

/* "Name=value" pairs in order, for -o. */
int ssh_options(const char *lima_home, const char *dir, const struct config_ssh *ssh,
                const char *user, struct strv *ret, struct error *err);

/* Writes `ssh.config` (0600) of the instance: Host lima-NAME with these options, Hostname and Port. */
int ssh_config_write(const char *dir, const char *hostname, const struct strv *options, int port,
                     struct error *err);
/* The Port line of ssh.config, or 0. */
int ssh_config_port(const char *dir);
/* Ends the ControlMaster of the instance, if one listens on ssh.sock, and removes the socket. Blocks briefly. */
void ssh_master_stop(const char *dir);
/* One word or string quoted for a POSIX shell. Caller frees. */
char *ssh_quote(const char *word);
