/* SPDX-License-Identifier: Apache-2.0 */
#include "template/fetch.h"

#include <curl/curl.h>
#include "base/alloc.h"
#include "util/version.h"

#define CONNECT_SECONDS 30L
#define STALL_SECONDS   30L /* less than 1 byte a second for so long */
#define MAX_REDIRECTS   10L

static void curl_close(CURL *curl)
{
    curl_easy_cleanup(curl);
}
SCOPED_PTR(CURL, curl_close)

/* A short count tells curl to stop: the body is longer than the cap. */
static size_t on_curl_data(char *data, size_t size, size_t count, void *arg)
{
    struct buf *out = arg;

    return buf_put(out, data, size * count) == 0 ? size * count : 0;
}

static int check_status(const char *url, long status, struct error *err)
{
    static const struct {
        long status;
        int code;
    } codes[] = {{401, EACCES}, {403, EACCES}, {404, ENOENT}, {410, ENOENT}};
    int code = EIO;

    if (status == 200) {
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (codes[i].status == status) {
            code = codes[i].code;
        }
    }
    return error_set(err, code, "file `%s` not found or inaccessible: status %ld", url, status);
}

static int check_transfer(const char *url, CURLcode code, const char *detail, size_t max,
                          struct error *err)
{
    switch (code) {
    case CURLE_OK:
        return 0;
    case CURLE_WRITE_ERROR:
    case CURLE_FILESIZE_EXCEEDED:
        return error_set(err, EFBIG, "file `%s` is longer than %zu bytes", url, max);
    case CURLE_OPERATION_TIMEDOUT:
        return error_set(err, ETIMEDOUT, "fetching `%s`: %s", url, detail);
    default:
        error_set(err, EIO, "fetching `%s`: %s", url, *detail ? detail : curl_easy_strerror(code));
        error_hint(err, "check the address and the network; a proxy is taken from http_proxy and "
                        "https_proxy");
        return -EIO;
    }
}

int template_fetch(const char *url, size_t max, struct buf *ret, struct error *err)
{
    scoped(curl_close) CURL *curl = curl_easy_init();
    scoped(buf_done) struct buf body = BUF_INIT_CAP(max);
    char detail[CURL_ERROR_SIZE] = "";
    long status = 0;
    CURLcode code;
    int r;

    if (!curl) {
        return error_set(err, ENOMEM, "starting curl");
    }
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, MAX_REDIRECTS);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, STALL_SECONDS);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "lima/" LIMA_VERSION);
    curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_curl_data);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
    code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    r = check_transfer(url, code, detail, max, err);
    if (r == 0) {
        r = check_status(url, status, err);
    }
    if (r < 0) {
        return r;
    }
    *ret = body;
    ret->cap = 0;
    body = BUF_INIT;
    return 0;
}
