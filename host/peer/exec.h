/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command in the guest, over a byte stream that carries this call alone (ga.sock): the opener's
 * side of the service "Exec". Bytes in, bytes out, no I/O. What comes is the guest's and checked.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

/* Limits of the protocol (docs/protocol.md, Exec), which the guest has too. */
#define PEER_EXEC_REQUEST_MAX (256u << 10) /* bytes of arguments and environment together */
#define PEER_EXEC_ENV_MAX     4096
#define PEER_EXEC_CHUNK_MAX   16384        /* bytes of one message's data */
#define PEER_EXEC_WINDOW      (128u << 10) /* bytes of input that the command has yet to read */

struct peer_exec_request {
    const char *const *argv; /* argv[0] "": the user's login shell */
    const char *const *env;  /* "NAME=value"; NULL: none */
    const char *user;        /* "": the instance's */
    const char *dir;         /* "": the user's home */
    bool pty;
    unsigned rows, columns;
};

struct peer_exec_exit {
    int status; /* 0..255; 128 + signal */
    int signal; /* 0: none */
    bool core;
};

/* None of them may free the struct. */
struct peer_exec_events {
    void (*accepted)(void *arg); /* the command runs */
    void (*output)(bool is_stderr, const void *data, size_t len, void *arg);
    void (*exited)(const struct peer_exec_exit *end, void *arg); /* the last one */
};

struct peer_exec;

/* Errors: E2BIG (@request is more than can be sent). @events is borrowed and constant. */
int peer_exec_new(const struct peer_exec_request *request, const struct peer_exec_events *events,
                  void *arg, struct peer_exec **ret, struct error *err);
void peer_exec_free(struct peer_exec *exec);
SCOPED_PTR(struct peer_exec, peer_exec_free)

/* Bytes for the guest; whoever has written them drops them. Begins with the request. */
struct buf *peer_exec_pending(struct peer_exec *exec);
/*
 * Bytes from the guest, cut anywhere. Errors: EPROTO (that is none of the protocol); before
 * accepted() also the guest's own errno, with its words: EOPNOTSUPP (no such service), ENOENT (no
 * such user or folder), EPERM.
 */
int peer_exec_take(struct peer_exec *exec, const void *data, size_t len, struct error *err);
bool peer_exec_accepted(const struct peer_exec *exec);

/* So many bytes of input can be sent now; 0 also when the command reads no more. */
size_t peer_exec_room(const struct peer_exec *exec);
/* True when the command reads no more. */
bool peer_exec_input_closed(const struct peer_exec *exec);
/* At most peer_exec_room() bytes. */
void peer_exec_send(struct peer_exec *exec, const void *data, size_t len);
void peer_exec_send_end(struct peer_exec *exec);
/* @signal is Linux's number. */
void peer_exec_send_signal(struct peer_exec *exec, unsigned signal);
void peer_exec_send_size(struct peer_exec *exec, unsigned rows, unsigned columns);
