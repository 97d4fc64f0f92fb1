/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small HTTP server in a thread, with the faults that downloads meet. The test changes the fields
 * between requests; one connection is served at a time, each for one request.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_fixture {
    /* What it serves. */
    const char *content;
    size_t content_len;
    const char *etag;          /* NULL: no header */
    const char *last_modified; /* NULL: no header */
    int status;                /* instead of 200; 0: none */
    bool no_range;             /* answers every GET with all of it */
    bool wrong_range;          /* answers 206 with another part than asked for */
    bool no_head;              /* answers HEAD with 405 */
    size_t cut_after;          /* bytes of each body after which the connection breaks; 0: never */
    int cut_count;             /* how many responses are cut */
    /* What it saw. */
    int gets, heads;
    size_t last_start; /* offset that the last GET began at */
    /* Private. */
    int fd;
    int port;
    pthread_t thread;
};

void http_fixture_start(struct http_fixture *s);
void http_fixture_stop(struct http_fixture *s);
/* "http://127.0.0.1:PORT/NAME"; caller frees. */
char *http_fixture_url(const struct http_fixture *s, const char *name);
