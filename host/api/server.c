/* SPDX-License-Identifier: Apache-2.0 */
#include "api/server.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "util/file.h"

#define BACKLOG        64
#define HEADERS_MAX    8192
#define BODY_MAX       4096
#define IDLE_TIMEOUT_S 10

struct api_server {
    struct evhttp *http;
    char *path;
    api_info_fn info;
    void *arg;
};

static void send_json(struct evhttp_request *request, int code, const char *reason, jv document)
{
    scoped(free) char *text = value_to_json(document, false);
    struct evbuffer *body = evbuffer_new();

    evbuffer_add(body, text, strlen(text));
    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type",
                      "application/json");
    evhttp_send_reply(request, code, reason, body);
    evbuffer_free(body);
}

static void on_info_request(struct evhttp_request *request, void *arg)
{
    struct api_server *server = arg;

    if (evhttp_request_get_command(request) != EVHTTP_REQ_GET) {
        jv error = JV_OBJECT(jv_string("message"), jv_string("only GET is understood here"));

        send_json(request, HTTP_BADMETHOD, "Method Not Allowed", error);
        return;
    }
    send_json(request, HTTP_OK, "OK", server->info(server->arg));
}

static void on_unknown_request(struct evhttp_request *request, void *arg)
{
    jv error = JV_OBJECT(jv_string("message"), jv_string("no such resource"));

    send_json(request, HTTP_NOTFOUND, "Not Found", error);
}

int api_server_new(struct loop *loop, const char *path, api_info_fn info, void *arg,
                   struct api_server **ret, struct error *err)
{
    scoped(api_server_free) struct api_server *server = xnew(struct api_server);
    int fd, r = file_listen_unix(path, BACKLOG, &fd, err);

    if (r < 0) {
        return r;
    }
    server->path = xstrdup(path);
    server->info = info;
    server->arg = arg;
    server->http = evhttp_new(loop_base(loop));
    if (!server->http || evhttp_accept_socket(server->http, fd) < 0) {
        fd_close(fd);
        return error_set(err, EIO, "serving HTTP on '%s'", path);
    }
    evhttp_set_allowed_methods(server->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_PUT |
                                                 EVHTTP_REQ_DELETE | EVHTTP_REQ_HEAD);
    evhttp_set_max_headers_size(server->http, HEADERS_MAX);
    evhttp_set_max_body_size(server->http, BODY_MAX);
    evhttp_set_timeout(server->http, IDLE_TIMEOUT_S);
    evhttp_set_cb(server->http, "/v1/info", on_info_request, server);
    evhttp_set_gencb(server->http, on_unknown_request, server);
    *ret = steal(server);
    return 0;
}

void api_server_free(struct api_server *server)
{
    if (!server) {
        return;
    }
    if (server->http) {
        evhttp_free(server->http);
    }
    if (server->path) {
        unlink(server->path);
    }
    free(server->path);
    free(server);
}
