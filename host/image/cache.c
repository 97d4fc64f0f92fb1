/* SPDX-License-Identifier: Apache-2.0 */
#include "image/cache.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "image/fetch.h"
#include "util/digest.h"
#include "util/file.h"
#include "util/path.h"
#include "util/strv.h"

#define META_MAX 4096

struct entry {
    const char *url;
    const char *digest; /* "" : none expected */
    const char *what;
    char *dir;
    char *data;
    char *part;
    char *digest_file; /* NULL: none expected */
    int lock;
};

static void entry_done(struct entry *e)
{
    free(e->dir);
    free(e->data);
    free(e->part);
    free(e->digest_file);
    fd_close(e->lock);
}
SCOPED_VAL(struct entry, entry_done)

char *cache_entry(const char *cache, const char *url)
{
    scoped(free) char *hex = digest_sha256_hex(url, strlen(url));

    return path_join(cache, "download/by-url-sha256", hex);
}

static int entry_open(struct entry *e, const char *cache, struct error *err)
{
    scoped(free) char *url_file = NULL;
    int r;

    e->dir = cache_entry(cache, e->url);
    e->data = path_join(e->dir, "data");
    e->part = path_join(e->dir, "data.part");
    if (*e->digest) {
        scoped(free) char *algo = xstrndup(e->digest, strcspn(e->digest, ":"));
        scoped(free) char *name = xasprintf("%s.digest", algo);

        r = digest_validate(e->digest, err);
        if (r < 0) {
            return r;
        }
        e->digest_file = path_join(e->dir, name);
    }
    r = file_mkdirs(e->dir, 0700, err);
    if (r < 0) {
        return r;
    }
    r = file_lock(e->dir, true, &e->lock, err);
    if (r == -EAGAIN) {
        log_info("waiting for another download of `%s`", e->url);
        r = file_lock(e->dir, false, &e->lock, err);
    }
    url_file = path_join(e->dir, "url");
    return r < 0 ? r : file_write_text(url_file, e->url, 0600, err);
}

/* Text of a file in the entry, "" if it is not there. Caller frees. */
static char *entry_text(const struct entry *e, const char *name)
{
    scoped(free) char *path = path_join(e->dir, name);
    scoped(buf_done) struct buf text = BUF_INIT;

    if (file_read(path, META_MAX, &text, NULL) < 0) {
        return xstrdup("");
    }
    return str_trim(buf_str(&text));
}

static int entry_put(const struct entry *e, const char *name, const char *text, struct error *err)
{
    scoped(free) char *path = path_join(e->dir, name);

    return file_write_text(path, str_or_empty(text), 0600, err);
}

static void entry_tag(const struct entry *e, const char *prefix, struct fetch_tag *ret)
{
    scoped(free) char *etag = xasprintf("%setag", prefix);
    scoped(free) char *time_name = xasprintf("%stime", prefix);
    scoped(free) char *type = xasprintf("%stype", prefix);

    ret->etag = entry_text(e, etag);
    ret->last_modified = entry_text(e, time_name);
    ret->content_type = entry_text(e, type);
}

static int entry_put_tag(const struct entry *e, const char *prefix, const struct fetch_tag *tag,
                         struct error *err)
{
    scoped(free) char *etag = xasprintf("%setag", prefix);
    scoped(free) char *time_name = xasprintf("%stime", prefix);
    scoped(free) char *type = xasprintf("%stype", prefix);
    int r = entry_put(e, etag, tag->etag, err);

    if (r == 0) {
        r = entry_put(e, time_name, tag->last_modified, err);
    }
    return r < 0 ? r : entry_put(e, type, tag->content_type, err);
}

/* Removes what tells of the old content, before there is new. */
static void entry_forget(const struct entry *e)
{
    static const char *const names[] = {"etag", "time", "type"};
    DIR *dir = opendir(e->dir);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        if (str_ends(entry->d_name, ".digest")) {
            unlinkat(dirfd(dir), entry->d_name, 0);
        }
    }
    if (dir) {
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
            unlinkat(dirfd(dir), names[i], 0);
        }
        closedir(dir);
    }
}

/* True when the cached content has the digest; a digest that was checked before is remembered. */
static bool entry_matches(const struct entry *e)
{
    scoped(error_done) struct error why = ERROR_INIT;
    scoped(free) char *known = entry_text(e, path_base(e->digest_file));

    if (*known) {
        if (!strcmp(known, e->digest)) {
            return true;
        }
        log_info("the digest of `%s` was changed, downloading it again", e->url);
        return false;
    }
    if (digest_check_file(e->data, e->digest, &why) < 0) {
        log_warn("cached `%s`: %s, downloading it again", e->url, error_text(&why));
        return false;
    }
    if (file_write_text(e->digest_file, e->digest, 0600, &why) < 0) {
        log_warn("%s, ignoring", error_text(&why));
    }
    return true;
}

/* True when the server has nothing newer, or does not say. */
static bool entry_fresh(const struct entry *e)
{
    scoped(error_done) struct error why = ERROR_INIT;
    scoped(fetch_tag_done) struct fetch_tag have = FETCH_TAG_INIT;
    scoped(fetch_tag_done) struct fetch_tag now = FETCH_TAG_INIT;

    if (fetch_head(e->url, &now, &why) < 0) {
        log_info("using what is cached of `%s`, which could not be checked for updates: %s", e->url,
                 error_text(&why));
        return true;
    }
    entry_tag(e, "", &have);
    return fetch_tag_same(&have, &now);
}

static int on_entry_tag(const struct fetch_tag *tag, void *arg, struct error *err)
{
    return entry_put_tag(arg, "part.", tag, err);
}

/* The finished part becomes the data. */
static int entry_accept(const struct entry *e, struct error *err)
{
    scoped(fetch_tag_done) struct fetch_tag tag = FETCH_TAG_INIT;
    int r;

    entry_tag(e, "part.", &tag);
    entry_forget(e);
    if (rename(e->part, e->data) < 0) {
        return error_errno(err, errno, "writing '%s'", e->data);
    }
    r = entry_put_tag(e, "", &tag, err);
    if (r == 0 && e->digest_file) {
        r = file_write_text(e->digest_file, e->digest, 0600, err);
    }
    return r;
}

static int entry_download(struct entry *e, struct error *err)
{
    scoped(fetch_tag_done) struct fetch_tag part = FETCH_TAG_INIT;
    const char *base = path_base(e->url);
    scoped(free) char *title =
        xasprintf("Downloading %s (%.*s)", e->what, (int)strcspn(base, "?#"), base);
    struct fetch_options options = {.what = title, .on_tag = on_entry_tag, .arg = e};
    int r;

    if (file_exists(e->part)) {
        entry_tag(e, "part.", &part);
        options.part_tag = &part;
    }
    r = fetch_file(e->url, e->part, &options, err);
    if (r == 0 && e->digest_file) {
        r = digest_check_file(e->part, e->digest, err);
        if (r < 0) {
            unlink(e->part);
        }
    }
    return r < 0 ? r : entry_accept(e, err);
}

int cache_get(const char *cache, const char *url, const char *digest, const char *what,
              char **ret_path, struct error *err)
{
    scoped(entry_done) struct entry e = {
        .url = url, .digest = str_or_empty(digest), .what = what, .lock = -1};
    int r = entry_open(&e, cache, err);

    if (r < 0) {
        return r;
    }
    if (file_exists(e.data) && (e.digest_file ? entry_matches(&e) : entry_fresh(&e))) {
        *ret_path = steal(e.data);
        return CACHE_USED;
    }
    r = entry_download(&e, err);
    if (r == 0) {
        *ret_path = steal(e.data);
    }
    return r;
}
