/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that concerns the ssh client of the host: the user's key, the client program and what
 * it can do, the option set of every ssh that we start or describe, ssh.config, and quoting for the
 * guest's shell. Blocks; for the command line and for the start and end of the host agent.
 */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "config/config.h"
#include "util/strv.h"

/* ---- keys ---- */

/*
 * Makes $LIMA_HOME/_config/user{,.pub} if missing (ed25519, no passphrase, comment "lima"), under a
 * lock.
 * @ret_keys gets the public keys to authorise, one line each: ours, and ~/.ssh/\*.pub when
 * @dot_ssh.
 */
int ssh_keys_ensure(const char *lima_home, bool dot_ssh, struct strv *ret_keys, struct error *err);

/* ---- the client program ---- */

struct ssh_client {
    struct strv command; /* $SSH split into words, else "ssh"; the first word is a full path */
    int major, minor;    /* of OpenSSH; 0 when it is something else */
    bool gssapi;         /* knows GSSAPIAuthentication */
};

#define SSH_CLIENT_INIT ((struct ssh_client){0})

/*
 * Finds the client and what it can do. The program is asked once; the answer is kept in the cache
 * folder until its file changes. Errors: ENOENT (no such program), EINVAL ($SSH cannot be split).
 */
int ssh_client_find(struct ssh_client *ret, struct error *err);
/*
 * The same, without running the program: of one that was not asked yet, or is not there, what
 * clients have been able to for years is assumed (OpenSSH 8.1).
 */
void ssh_client_recall(struct ssh_client *ret);
void ssh_client_done(struct ssh_client *client);
SCOPED_VAL(struct ssh_client, ssh_client_done)
/* True for OpenSSH @major.@minor or newer. */
bool ssh_client_at_least(const struct ssh_client *client, int major, int minor);

/* ---- options ---- */

/*
 * "Name=value" pairs in order, for -o and ssh.config, and for a client as ssh_client_recall() has
 * it. Paths are quoted, '%' is doubled.
 * Errors: EINVAL (a path or name that ssh cannot be given, such as one with a line break).
 */
int ssh_options(const char *lima_home, const char *dir, const struct config_ssh *ssh,
                const char *user, struct strv *ret, struct error *err);
/* As ssh_options() for a client that was asked; reads no other file than ~/.ssh. */
int ssh_client_options(const struct ssh_client *client, const char *lima_home, const char *dir,
                       const struct config_ssh *ssh, const char *user, struct strv *ret,
                       struct error *err);

/* Writes `ssh.config` (0600) of the instance: Host lima-NAME with these options, Hostname and Port.
 */
int ssh_config_write(const char *dir, const char *hostname, const struct strv *options, int port,
                     struct error *err);
/* The Port line of ssh.config, or 0. */
int ssh_config_port(const char *dir);
/*
 * Ends the ControlMaster of the instance, if one listens on ssh.sock, and removes the socket. Waits
 * at most a few seconds.
 */
void ssh_master_stop(const char *dir);

/* ---- words ---- */

/* One word or string quoted for a POSIX shell. Caller frees. */
char *ssh_quote(const char *word);
/*
 * Splits a command line into words as a shell would, without expanding anything: blanks separate,
 * quotes and backslashes protect. Errors: EINVAL (a quote is not closed).
 */
int ssh_words(const char *text, struct strv *ret, struct error *err);
