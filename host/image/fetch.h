/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP(S) download into a file: resumed where an earlier one stopped if the server still has
 * the same content, tried again after a broken connection, given up at once when the server cannot
 * be reached. Proxies come from the environment. Blocks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"

/* What a server says of a file, to recognise it later. */
struct fetch_tag {
    char *etag;          /* "" if the server gave none */
    char *last_modified; /* as the header says it; "" if none */
    char *content_type;  /* "" if none */
};

#define FETCH_TAG_INIT ((struct fetch_tag){0})

void fetch_tag_done(struct fetch_tag *tag);
SCOPED_VAL(struct fetch_tag, fetch_tag_done)
/*
 * True when both tell the same content: by ETag if both have one, else by Last-Modified; false when
 * neither can tell.
 */
bool fetch_tag_same(const struct fetch_tag *a, const struct fetch_tag *b);

struct fetch_options {
    const char *what;                 /* title of the progress bar; NULL: no bar */
    const struct fetch_tag *part_tag; /* of what @path already holds; NULL: start anew */
    int64_t connect_ms;               /* 0: 5 s */
    int64_t stall_ms;                 /* no progress for so long is an error; 0: 30 s */
    int attempts;                     /* 0: 4 */
    /* Called once before the first byte is written, with the tag of the content. */
    int (*on_tag)(const struct fetch_tag *tag, void *arg, struct error *err);
    void *arg;
};

/*
 * Downloads @url to @path, a file that is created or continued; it stays, for a later resume, when
 * the download fails half-way.
 * Errors: EHOSTUNREACH (no such host, refused, no answer in time), ENOENT (404 or 410), EACCES (401
 * or 403), EPROTO (another status), ETIMEDOUT (stalled), EIO (transfer broken at each attempt).
 */
int fetch_file(const char *url, const char *path, const struct fetch_options *options,
               struct error *err);
/* HEAD: what the server has now. Errors as above. */
int fetch_head(const char *url, struct fetch_tag *ret, struct error *err);
