/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A resumed request carries "Range" and "If-Range": a server whose content has changed answers 200
 * with all of it, and the file starts anew. Headers are collected per response, because a redirect
 * has headers too; the body of anything but 200 and 206 is dropped.
 */
#include "image/fetch.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "util/file.h"
#include "util/strv.h"
#include "util/term.h"

#define CONNECT_MS  5000
#define STALL_MS    30000
#define ATTEMPTS    4
#define BACKOFF_MS  500
#define REDIRECTS   10
#define STALL_BYTES 1 /* per second */
#define HEADER_MAX  1024

void fetch_tag_done(struct fetch_tag *tag)
{
    free(tag->etag);
    free(tag->last_modified);
    free(tag->content_type);
    *tag = FETCH_TAG_INIT;
}

/* 1 equal, 0 different, -1 one of them is missing. */
static int compare_known(const char *a, const char *b)
{
    if (!*str_or_empty(a) || !*str_or_empty(b)) {
        return -1;
    }
    return strcmp(a, b) == 0;
}

bool fetch_tag_same(const struct fetch_tag *a, const struct fetch_tag *b)
{
    int etag = compare_known(a->etag, b->etag);
    time_t time_a, time_b;

    if (etag >= 0) {
        return etag;
    }
    if (compare_known(a->last_modified, b->last_modified) < 0) {
        return false;
    }
    time_a = curl_getdate(a->last_modified, NULL);
    time_b = curl_getdate(b->last_modified, NULL);
    return time_a >= 0 && time_b >= 0 ? time_a == time_b
                                      : strcmp(a->last_modified, b->last_modified) == 0;
}

struct fetch {
    const char *url;
    const char *path;
    const struct fetch_options *options;
    CURL *curl;
    int fd;
    int64_t offset;        /* of the file's end, where the next byte goes */
    struct fetch_tag tag;  /* of the response being read */
    struct fetch_tag have; /* of what the file holds */
    bool started;          /* the first byte of this response has come */
    int64_t range_start;   /* of a 206 response, by its Content-Range; -1: not said */
    int write_error;       /* what @err already tells: our own side failed */
    struct term_bar *bar;
    struct error *err;
};

static void fetch_done(struct fetch *f)
{
    term_bar_free(f->bar);
    if (f->curl) {
        curl_easy_cleanup(f->curl);
    }
    fd_close(f->fd);
    fetch_tag_done(&f->tag);
    fetch_tag_done(&f->have);
}
SCOPED_VAL(struct fetch, fetch_done)

static void take_header(const char *line, size_t len, const char *name, char **ret)
{
    size_t n = strlen(name);
    scoped(free) char *value = NULL;

    if (len > n && len < HEADER_MAX && line[n] == ':' && !strncasecmp(line, name, n)) {
        value = xstrndup(line + n + 1, len - n - 1);
        free(*ret);
        *ret = str_trim(value);
    }
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
    struct fetch *f = arg;
    struct fetch_tag *tag = &f->tag;
    size_t len = size * count;
    scoped(free) char *range = NULL;

    if (len > 5 && !strncmp(line, "HTTP/", 5)) {
        fetch_tag_done(tag);
        f->range_start = -1;
    }
    take_header(line, len, "ETag", &tag->etag);
    take_header(line, len, "Last-Modified", &tag->last_modified);
    take_header(line, len, "Content-Type", &tag->content_type);
    take_header(line, len, "Content-Range", &range);
    if (range && str_starts(range, "bytes ")) {
        f->range_start = strtoll(range + strlen("bytes "), NULL, 10);
    }
    return len;
}

static void tag_copy(struct fetch_tag *to, const struct fetch_tag *from)
{
    fetch_tag_done(to);
    *to = (struct fetch_tag){
        .etag = xstrdup(str_or_empty(from->etag)),
        .last_modified = xstrdup(str_or_empty(from->last_modified)),
        .content_type = xstrdup(str_or_empty(from->content_type)),
    };
}

/* First byte of a body: whole content starts the file anew. */
static int fetch_begin(struct fetch *f, long status)
{
    f->started = true;
    if (status == 206) {
        return f->range_start == f->offset
                   ? 0
                   : error_set(f->err, EPROTO, "'%s': the server sent another part than asked for",
                               f->url);
    }
    tag_copy(&f->have, &f->tag);
    f->offset = 0;
    if (ftruncate(f->fd, 0) < 0) {
        return error_errno(f->err, errno, "writing '%s'", f->path);
    }
    return f->options->on_tag ? f->options->on_tag(&f->have, f->options->arg, f->err) : 0;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct fetch *f = arg;
    size_t len = size * count;
    long status = 0;

    curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200 && status != 206) {
        return len;
    }
    if (!f->started) {
        f->write_error = fetch_begin(f, status);
    }
    for (size_t done = 0; f->write_error == 0 && done < len;) {
        ssize_t n = pwrite(f->fd, data + done, len - done, f->offset);

        if (n < 0 && errno != EINTR) {
            f->write_error = error_errno(f->err, errno, "writing '%s'", f->path);
        } else if (n > 0) {
            f->offset += n;
            done += (size_t)n;
        }
    }
    return f->write_error ? CURL_WRITEFUNC_ERROR : len;
}

static int on_progress(void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total,
                       curl_off_t up_now)
{
    struct fetch *f = arg;

    if (f->bar && f->started) {
        term_bar_update(f->bar, f->offset, total > 0 ? f->offset - now + total : 0);
    }
    return 0;
}

static CURL *curl_make(const char *url, const struct fetch_options *options)
{
    int64_t connect = options->connect_ms ? options->connect_ms : CONNECT_MS;
    int64_t stall = options->stall_ms ? options->stall_ms : STALL_MS;
    CURL *curl;

    curl = curl_easy_init();
    if (!curl) {
        return NULL;
    }
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)REDIRECTS);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "lima");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)connect);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)((stall + 999) / 1000));
    return curl;
}

/* What an outcome of a transfer means. */
static const struct {
    CURLcode code;
    int error;
    bool again; /* a later attempt may work */
} outcomes[] = {
    {CURLE_COULDNT_RESOLVE_HOST, EHOSTUNREACH, false},
    {CURLE_COULDNT_RESOLVE_PROXY, EHOSTUNREACH, false},
    {CURLE_COULDNT_CONNECT, EHOSTUNREACH, false},
    {CURLE_URL_MALFORMAT, EINVAL, false},
    {CURLE_UNSUPPORTED_PROTOCOL, EINVAL, false},
    {CURLE_TOO_MANY_REDIRECTS, EPROTO, false},
    {CURLE_PEER_FAILED_VERIFICATION, EPROTO, false},
    {CURLE_SSL_CONNECT_ERROR, EPROTO, false},
    {CURLE_OPERATION_TIMEDOUT, ETIMEDOUT, true},
};

static int transfer_error(CURL *curl, const char *url, CURLcode code, const char *words,
                          bool *ret_again, struct error *err)
{
    curl_off_t connected = 0;
    int error = EIO;

    *ret_again = true;
    for (size_t i = 0; i < ARRAY_LEN(outcomes); i++) {
        if (outcomes[i].code == code) {
            error = outcomes[i].error;
            *ret_again = outcomes[i].again;
        }
    }
    curl_easy_getinfo(curl, CURLINFO_PRETRANSFER_TIME_T, &connected);
    if (code == CURLE_OPERATION_TIMEDOUT && connected == 0) {
        error = EHOSTUNREACH;
        *ret_again = false;
    }
    return error_set(err, error, "'%s': %s", url, *words ? words : curl_easy_strerror(code));
}

static int status_error(const char *url, long status, bool *ret_again, struct error *err)
{
    int error = status == 404 || status == 410   ? ENOENT
                : status == 401 || status == 403 ? EACCES
                                                 : EPROTO;

    *ret_again = status >= 500 || status == 429 || status == 416;
    return error_set(err, error, "'%s': the server answered with status %ld", url, status);
}

/* The validator for If-Range, or NULL when a continuation could mix two contents. */
static const char *tag_validator(const struct fetch_tag *tag)
{
    if (*str_or_empty(tag->etag) && !str_starts(tag->etag, "W/")) {
        return tag->etag;
    }
    return *str_or_empty(tag->last_modified) ? tag->last_modified : NULL;
}

/* Asks for the rest, if what is there can be continued. */
static struct curl_slist *fetch_set_range(struct fetch *f)
{
    const char *validator = tag_validator(&f->have);
    scoped(free) char *range = xasprintf("%" PRId64 "-", f->offset);
    scoped(free) char *header = NULL;
    struct curl_slist *headers = NULL;

    if (f->offset == 0 || !validator) {
        curl_easy_setopt(f->curl, CURLOPT_RANGE, NULL);
    } else {
        header = xasprintf("If-Range: %s", validator);
        headers = curl_slist_append(NULL, header);
        curl_easy_setopt(f->curl, CURLOPT_RANGE, range);
    }
    curl_easy_setopt(f->curl, CURLOPT_HTTPHEADER, headers);
    return headers;
}

/* One request. @ret_again: it failed in a way that may pass. */
static int fetch_attempt(struct fetch *f, bool *ret_again)
{
    char words[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = fetch_set_range(f);
    long status = 0;
    CURLcode code;
    int r;

    f->started = false;
    f->write_error = 0;
    *ret_again = false;
    curl_easy_setopt(f->curl, CURLOPT_ERRORBUFFER, words);
    code = curl_easy_perform(f->curl);
    curl_easy_setopt(f->curl, CURLOPT_ERRORBUFFER, NULL);
    curl_easy_setopt(f->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
    if (f->write_error) {
        return f->write_error;
    }
    if (code != CURLE_OK) {
        return transfer_error(f->curl, f->url, code, words, ret_again, f->err);
    }
    if (status == 200 || status == 206) {
        return f->started || status == 206 ? 0 : fetch_begin(f, status);
    }
    r = status_error(f->url, status, ret_again, f->err);
    if (status == 416) { /* what is there is longer than what the server has */
        f->offset = 0;
    }
    return r;
}

static int fetch_loop(struct fetch *f)
{
    int attempts = f->options->attempts ? f->options->attempts : ATTEMPTS;

    for (int i = 1;; i++) {
        struct timespec pause = {.tv_nsec = (long)BACKOFF_MS * 1000000};
        int64_t before = f->offset;
        bool again;
        int r = fetch_attempt(f, &again);

        if (r == 0 || !again) {
            return r;
        }
        if (f->offset > before) {
            i = 1;
        }
        if (i >= attempts) {
            return r;
        }
        log_warn("%s, retrying", error_text(f->err));
        nanosleep(&pause, NULL); /* the only event is the other side's recovery */
    }
}

static int fetch_open(struct fetch *f)
{
    const struct fetch_options *o = f->options;
    struct stat st;

    f->fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC | (o->part_tag ? 0 : O_TRUNC), 0600);
    if (f->fd < 0 || fstat(f->fd, &st) < 0) {
        return error_errno(f->err, errno, "opening '%s'", f->path);
    }
    if (o->part_tag) {
        tag_copy(&f->have, o->part_tag);
        f->offset = st.st_size;
    }
    f->curl = curl_make(f->url, o);
    if (!f->curl) {
        return error_set(f->err, ENOMEM, "preparing the download of '%s'", f->url);
    }
    curl_easy_setopt(f->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(f->curl, CURLOPT_HEADERDATA, f);
    curl_easy_setopt(f->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(f->curl, CURLOPT_WRITEDATA, f);
    curl_easy_setopt(f->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(f->curl, CURLOPT_XFERINFODATA, f);
    curl_easy_setopt(f->curl, CURLOPT_NOPROGRESS, 0L);
    f->bar = o->what ? term_bar_new(o->what) : NULL;
    return 0;
}

int fetch_file(const char *url, const char *path, const struct fetch_options *options,
               struct error *err)
{
    struct error own = ERROR_INIT;
    scoped(fetch_done) struct fetch f = {
        .url = url, .path = path, .options = options, .fd = -1, .err = err ? err : &own};
    int r = fetch_open(&f);

    if (r == 0) {
        r = fetch_loop(&f);
    }
    if (r == 0 && (ftruncate(f.fd, f.offset) < 0 || fsync(f.fd) < 0)) {
        r = error_errno(f.err, errno, "writing '%s'", path);
    }
    error_done(&own);
    return r;
}

int fetch_head(const char *url, struct fetch_tag *ret, struct error *err)
{
    static const struct fetch_options options;
    char words[CURL_ERROR_SIZE] = "";
    scoped(fetch_done) struct fetch f = {.url = url, .options = &options, .fd = -1};
    bool again;
    long status = 0;
    CURLcode code;

    f.curl = curl_make(url, &options);
    if (!f.curl) {
        return error_set(err, ENOMEM, "preparing a request to '%s'", url);
    }
    curl_easy_setopt(f.curl, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(f.curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(f.curl, CURLOPT_HEADERDATA, &f);
    curl_easy_setopt(f.curl, CURLOPT_ERRORBUFFER, words);
    code = curl_easy_perform(f.curl);
    if (code != CURLE_OK) {
        return transfer_error(f.curl, url, code, words, &again, err);
    }
    curl_easy_getinfo(f.curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
        return status_error(url, status, &again, err);
    }
    tag_copy(ret, &f.tag);
    return 0;
}
