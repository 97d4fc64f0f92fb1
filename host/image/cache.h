/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Downloads kept by URL: $CACHE/download/by-url-sha256/<hex>/ with `url`, `data` as it came over
 * the network, `time`, `type`, `etag` of the server, and `<algo>.digest` once a digest was checked.
 * A folder is locked while it is used; `data.part` is a download that was cut off and will be
 * resumed.
 */
#pragma once

#include "base/error.h"

enum cache_result {
    CACHE_DOWNLOADED = 0,
    CACHE_USED = 1,
};

/*
 * The content of @url as a local file, *@ret_path (the caller frees it). @cache: see path_cache().
 * @what: "the image", for messages. @digest: "algo:hex" that the content must have, "" for none;
 * what is cached is then downloaded anew if it differs. Without a digest the server is asked
 * whether it has something newer; if it does not answer, what is cached is used. Returns an enum
 * cache_result, or a failure: EBADMSG (digest of a fresh download differs), and those of
 * fetch_file().
 */
int cache_get(const char *cache, const char *url, const char *digest, const char *what,
              char **ret_path, struct error *err);
/* $CACHE/download/by-url-sha256/<hex>; caller frees. */
char *cache_entry(const char *cache, const char *url) _nonnull_;
