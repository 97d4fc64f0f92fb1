/* SPDX-License-Identifier: Apache-2.0 */
#include "api/server.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "util/file.h"
#include "util/strv.h"

#define BACKLOG         64
#define HEADERS_MAX     8192
#define BODY_MAX        (64u << 10)
#define IDLE_TIMEOUT_S  10
#define ACCEPT_PAUSE_MS 250 /* without descriptors */

struct api_server {
    struct evhttp *http;
    struct evconnlistener *listener; /* http's */
    struct loop_io *waiting;         /* clients to accept */
    struct loop_timer *pause;
    char *path;
    const struct api_route *routes;
    void *arg;
};

struct api_exchange {
    struct evhttp_request *request; /* NULL: the client is gone */
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

/* --- exchanges --- */

static void on_client_gone(struct evhttp_connection *connection, void *arg)
{
    struct api_exchange *exchange = arg;

    exchange->request = NULL;
}

static struct api_exchange *exchange_new(struct evhttp_request *request)
{
    struct api_exchange *exchange = xnew(struct api_exchange);

    exchange->request = request;
    /* Its answer may take its time, in which the client has nothing to say. */
    bufferevent_set_timeouts(
        evhttp_connection_get_bufferevent(evhttp_request_get_connection(request)), NULL, NULL);
    evhttp_connection_set_closecb(evhttp_request_get_connection(request), on_client_gone, exchange);
    return exchange;
}

/* Consumes both. */
static void exchange_end(struct api_exchange *exchange, int code, const char *reason, jv document)
{
    struct evhttp_request *request = exchange->request;

    free(exchange);
    if (!request) {
        jv_free(document);
        return;
    }
    evhttp_connection_set_closecb(evhttp_request_get_connection(request), NULL, NULL);
    evhttp_connection_set_timeout(evhttp_request_get_connection(request), IDLE_TIMEOUT_S);
    send_json(request, code, reason, document);
}

void api_answer(struct api_exchange *take_exchange, jv document)
{
    exchange_end(take_exchange, HTTP_OK, "OK", document);
}

static const struct {
    int code; /* errno */
    int status;
    const char *reason;
} statuses[] = {
    {EINVAL, HTTP_BADREQUEST, "Bad Request"},
    {ENOENT, HTTP_NOTFOUND, "Not Found"},
    {EEXIST, 409, "Conflict"},
    {EADDRINUSE, 409, "Conflict"},
    {EOPNOTSUPP, HTTP_NOTIMPLEMENTED, "Not Implemented"},
    {ENOTCONN, HTTP_SERVUNAVAIL, "Service Unavailable"},
    {EAGAIN, HTTP_SERVUNAVAIL, "Service Unavailable"},
    {0, HTTP_INTERNAL, "Internal Server Error"},
};

void api_refuse(struct api_exchange *take_exchange, const struct error *err)
{
    jv document = JV_OBJECT(jv_string("message"), jv_string(error_text(err)));
    size_t i = 0;

    if (err->hint) {
        document = jv_object_set(document, jv_string("hint"), jv_string(err->hint));
    }
    while (statuses[i].code && statuses[i].code != err->code) {
        i++;
    }
    exchange_end(take_exchange, statuses[i].status, statuses[i].reason, document);
}

/* --- requests --- */

static const char *method_name(enum evhttp_cmd_type command)
{
    switch (command) {
    case EVHTTP_REQ_GET:
        return "GET";
    case EVHTTP_REQ_POST:
        return "POST";
    case EVHTTP_REQ_PUT:
        return "PUT";
    case EVHTTP_REQ_DELETE:
        return "DELETE";
    default:
        return "";
    }
}

static void send_error(struct evhttp_request *request, int code, const char *reason,
                       const char *message)
{
    send_json(request, code, reason, JV_OBJECT(jv_string("message"), jv_string(message)));
}

/* Without a route of this path and method. */
static void refuse_route(struct api_server *server, struct evhttp_request *request,
                         const char *path)
{
    scoped(strv_done) struct strv methods = STRV_INIT;
    scoped(free) char *allowed = NULL;
    scoped(free) char *message = NULL;

    for (const struct api_route *route = server->routes; route->method; route++) {
        if (str_eq(route->path, path)) {
            strv_add(&methods, route->method);
        }
    }
    if (methods.len == 0) {
        send_error(request, HTTP_NOTFOUND, "Not Found", "no such resource");
        return;
    }
    allowed = strv_join(&methods, ", ");
    message = xasprintf("only %s is understood here", allowed);
    evhttp_add_header(evhttp_request_get_output_headers(request), "Allow", allowed);
    send_error(request, HTTP_BADMETHOD, "Method Not Allowed", message);
}

/* The body as an object. Errors: EINVAL. */
static int parse_body(struct evhttp_request *request, jv *ret, struct error *err)
{
    struct evbuffer *input = evhttp_request_get_input_buffer(request);
    size_t len = evbuffer_get_length(input);
    scoped(free) char *text = xmalloc(len + 1);
    jv body;
    int r;

    evbuffer_copyout(input, text, len);
    text[len] = '\0';
    if (strlen(text) != len) {
        return error_set(err, EINVAL, "the request's body has a zero byte");
    }
    r = value_from_json(text, &body, err);
    if (r < 0) {
        return error_wrap(err, r, "the request's body");
    }
    if (jv_get_kind(body) != JV_KIND_OBJECT) {
        jv_free(body);
        return error_set(err, EINVAL, "the request's body must be a JSON object");
    }
    *ret = body;
    return 0;
}

static void run_route(struct api_server *server, const struct api_route *route,
                      struct evhttp_request *request)
{
    scoped(error_done) struct error err = ERROR_INIT;
    size_t len = evbuffer_get_length(evhttp_request_get_input_buffer(request));
    jv body = jv_invalid();

    if (!route->has_body && len > 0) {
        send_error(request, HTTP_BADREQUEST, "Bad Request", "the request must have no body");
    } else if (route->has_body && parse_body(request, &body, &err) < 0) {
        send_error(request, HTTP_BADREQUEST, "Bad Request", error_text(&err));
    } else {
        route->handle(exchange_new(request), body, server->arg);
    }
}

static void on_request(struct evhttp_request *request, void *arg)
{
    struct api_server *server = arg;
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
    const char *path = uri ? str_or_empty(evhttp_uri_get_path(uri)) : "";
    const char *method = method_name(evhttp_request_get_command(request));

    for (const struct api_route *route = server->routes; route->method; route++) {
        if (str_eq(route->path, path) && str_eq(route->method, method)) {
            run_route(server, route, request);
            return;
        }
    }
    refuse_route(server, request, path);
}

/* --- accepting --- */

/* libevent would try at once again; whether it makes sense is found by on_client_waiting(). */
static void on_accept_failed(struct evconnlistener *listener, void *arg)
{
    evconnlistener_disable(listener);
}

/*
 * Before a client is accepted: is there room for its descriptor? One is freed anywhere in this
 * process, or in another, which nothing tells; so this is asked again after a while.
 */
static void on_client_waiting(evutil_socket_t fd, short what, void *arg)
{
    struct api_server *server = arg;
    scoped(fd_close) int room = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (room >= 0) {
        evconnlistener_enable(server->listener);
        return;
    }
    log_warn("accepting on '%s': %s, retrying", server->path, strerror(errno));
    evconnlistener_disable(server->listener);
    loop_io_want(server->waiting, 0);
    loop_timer_set(server->pause, ACCEPT_PAUSE_MS);
}

static void on_pause_end(void *arg)
{
    struct api_server *server = arg;

    loop_io_want(server->waiting, EV_READ);
}

/* Consumes @take_fd. */
static int listen_on(struct api_server *server, struct loop *loop, int take_fd, struct error *err)
{
    server->http = evhttp_new(loop_base(loop));
    server->listener = evconnlistener_new(
        loop_base(loop), NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, take_fd);
    if (!server->http || !server->listener ||
        !evhttp_bind_listener(server->http, server->listener)) {
        if (server->listener) {
            evconnlistener_free(steal(server->listener));
        } else {
            fd_close(take_fd);
        }
        return error_set(err, EIO, "serving HTTP on '%s'", server->path);
    }
    evconnlistener_set_error_cb(server->listener, on_accept_failed);
    server->waiting = loop_io_new(loop, take_fd, EV_READ, on_client_waiting, server);
    server->pause = loop_timer_new(loop, on_pause_end, server);
    return 0;
}

int api_server_new(struct loop *loop, const char *path, const struct api_route *routes, void *arg,
                   struct api_server **ret, struct error *err)
{
    scoped(api_server_free) struct api_server *server = xnew(struct api_server);
    int fd, r = file_listen_unix(path, BACKLOG, &fd, err);

    if (r < 0) {
        return r;
    }
    server->path = xstrdup(path);
    server->routes = routes;
    server->arg = arg;
    fd_set_nonblock(fd);
    r = listen_on(server, loop, fd, err);
    if (r < 0) {
        return r;
    }
    evhttp_set_allowed_methods(server->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_PUT |
                                                 EVHTTP_REQ_DELETE | EVHTTP_REQ_HEAD);
    evhttp_set_max_headers_size(server->http, HEADERS_MAX);
    evhttp_set_max_body_size(server->http, BODY_MAX);
    evhttp_set_timeout(server->http, IDLE_TIMEOUT_S);
    evhttp_set_gencb(server->http, on_request, server);
    *ret = steal(server);
    return 0;
}

void api_server_free(struct api_server *server)
{
    if (!server) {
        return;
    }
    loop_timer_free(server->pause);
    loop_io_free(server->waiting);
    if (server->http) {
        evhttp_free(server->http);
    }
    if (server->path) {
        unlink(server->path);
    }
    free(server->path);
    free(server);
}
