/* SPDX-License-Identifier: Apache-2.0 */
/* A real sshd with its own keys on a port of its own, and servers for its forwards to reach. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct sshd {
    char *dir;  /* its files; the key is where a LIMA_HOME has it */
    char *key;  /* accepted */
    char *user; /* who may log in: ourselves */
    int port;
    pid_t pid;
};

/*
 * False: no sshd is installed, with a message. Starts it. @options: more lines of its
 * configuration, or NULL.
 */
bool sshd_open(struct sshd *sshd, const char *options);
void sshd_close(struct sshd *sshd);
void sshd_start(struct sshd *sshd);
/* Ends it and its sessions. */
void sshd_stop(struct sshd *sshd);

/* What a server does with a connection. */
enum server_kind {
    SERVER_ECHO,   /* sends back what it gets, and its end */
    SERVER_ANSWER, /* reads to the end, then sends the number of bytes in 8, as the host has them */
    SERVER_GREET,  /* sends "hello", ends its direction, reads to the end */
    SERVER_SILENT, /* connected to, and never read */
    SERVER_LEAVE,  /* reads 5 bytes and closes */
    SERVER_SOURCE, /* reads 8 bytes, a number, and sends so many */
};

struct server {
    enum server_kind kind;
    int fd;
    int port; /* 0: on @path */
    char *path;
    uint64_t received; /* by connections that have ended; atomic */
    unsigned accepted; /* atomic */
    pthread_t thread;  /* 0: none */
};

/* @path: listens on a Unix socket there, else on a port of 127.0.0.1. */
void server_start(struct server *server, enum server_kind kind, const char *path);
void server_stop(struct server *server);
/* A port on which nobody listens. */
int port_unused(void);
