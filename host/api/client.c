/* SPDX-License-Identifier: Apache-2.0 */
#include "api/client.h"

#include <curl/curl.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "util/file.h"

#define ANSWER_MAX (1u << 20)

static size_t on_curl_data(char *data, size_t size, size_t count, void *arg)
{
    struct buf *body = arg;

    return buf_put(body, data, size * count) < 0 ? 0 : size * count;
}

/* curl tells a refused and a missing socket apart only by words; connect() tells them by errno. */
static int check_socket(const char *path, struct error *err)
{
    int fd, r = file_connect_unix(path, &fd, err);

    if (r == 0) {
        fd_close(fd);
    }
    return r;
}

static int answer_parse(CURL *curl, const struct buf *body, jv *ret, struct error *err)
{
    long code = 0;
    int r;

    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    if (code != 200) {
        return error_set(err, EPROTO, "the host agent answered with status %ld", code);
    }
    r = value_from_json(buf_str(body), ret, err);
    return r < 0 ? error_wrap(err, -EPROTO, "the host agent's answer") : 0;
}

int api_get(const char *path, const char *resource, int64_t timeout_ms, jv *ret, struct error *err)
{
    scoped(buf_done) struct buf body = BUF_INIT_CAP(ANSWER_MAX);
    scoped(free) char *url = xasprintf("http://localhost%s", resource);
    CURLcode code;
    CURL *curl;
    int r = check_socket(path, err);

    if (r < 0) {
        return r;
    }
    curl = curl_easy_init();
    if (!curl) {
        return error_set(err, ENOMEM, "starting libcurl");
    }
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, path);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_curl_data);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
    code = curl_easy_perform(curl);
    if (code == CURLE_OK) {
        r = answer_parse(curl, &body, ret, err);
    } else {
        r = error_set(err, code == CURLE_OPERATION_TIMEDOUT ? ETIMEDOUT : EPROTO,
                      "asking the host agent on '%s': %s", path, curl_easy_strerror(code));
    }
    curl_easy_cleanup(curl);
    return r;
}
