/* SPDX-License-Identifier: Apache-2.0 */
#include "redirect.h"

#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "base/ration.h"
#include "iptables.h"
#include "nft.h"
#include "wire.h"

#define AGAIN_MS      20 /* from a flush to putting the rules back: flushes come with other changes */
#define AGAIN_SLOW_MS 2000 /* when somebody does so all the time */
#define AGAIN_BURST   10

struct redirect {
    struct loop *loop;
    struct mux_stream *stream; /* NULL: nobody wants it */
    struct nft_redirect rules;

    struct nft *nft; /* NULL: the kernel has none, or it is not needed */
    struct loop_watch *watch;
    struct loop_timer *again;
    struct ration ration;
    char *nft_error; /* why it was not nf_tables */

    struct iptables *iptables;
    bool by_iptables;
};

static void close_nft(struct redirect *redirect)
{
    if (redirect->nft) {
        nft_remove(redirect->nft, NULL);
    }
    loop_timer_stop(redirect->again);
    loop_watch_free(redirect->watch);
    redirect->watch = NULL;
    nft_close(redirect->nft);
    redirect->nft = NULL;
}

/* The rules go; the stream is gone or goes. */
static void take_away(struct redirect *redirect)
{
    close_nft(redirect);
    if (redirect->by_iptables) {
        redirect->by_iptables = false;
        iptables_want(redirect->iptables, NULL);
    }
    redirect->stream = NULL;
}

static void on_stream_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    mux_stream_consumed(stream, len);
}

static void on_stream_writable(struct mux_stream *stream, void *arg)
{
}

/* The host's end is the end. */
static void on_stream_fin(struct mux_stream *stream, void *arg)
{
    take_away(arg);
    mux_stream_reset(stream, MUX_RESET_CANCEL);
}

static void on_stream_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    take_away(arg);
}

static const struct mux_stream_ops stream_ops = {
    .data = on_stream_data,
    .fin = on_stream_fin,
    .writable = on_stream_writable,
    .closed = on_stream_closed,
};

static void reply(struct redirect *redirect, const char *method)
{
    lima_guest_v1_Redirected message = lima_guest_v1_Redirected_init_zero;
    struct mux_stream *stream = redirect->stream;
    uint8_t bytes[WIRE_MAX];
    size_t len;

    wire_text(message.method, sizeof(message.method), method);
    len = wire_encode(lima_guest_v1_Redirected_fields, &message, bytes);
    if (!rpc_reply(stream, 0, NULL) || !mux_stream_write_all(stream, bytes, len)) {
        take_away(redirect);
        mux_stream_reset(stream, MUX_RESET_REFUSED);
        return;
    }
    log_info("DNS goes to the host's resolver, by %s", method);
}

/* --- nf_tables --- */

static void put_back(void *arg)
{
    struct redirect *redirect = arg;
    scoped(error_done) struct error err = ERROR_INIT;

    if (nft_apply(redirect->nft, &redirect->rules, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "the redirection of DNS was removed, retrying");
        loop_timer_start(redirect->again, AGAIN_SLOW_MS);
    } else {
        log_debug("the redirection of DNS was removed and is put back");
    }
}

static void on_nft_changed(int fd, short revents, void *arg)
{
    struct redirect *redirect = arg;
    bool often;

    if (nft_watch_read(redirect->nft) && !loop_timer_active(redirect->again)) {
        often = !ration_take(&redirect->ration, (int64_t)(loop_now_us() / 1000));
        loop_timer_start(redirect->again, often ? AGAIN_SLOW_MS : AGAIN_MS);
    }
}

static int open_nft(struct redirect *redirect, struct error *err)
{
    int r = nft_open(&redirect->nft, err);

    r = r < 0 ? r : nft_apply(redirect->nft, &redirect->rules, err);
    if (r < 0) {
        nft_close(redirect->nft);
        redirect->nft = NULL;
        return r;
    }
    redirect->watch = loop_watch_new(redirect->loop, nft_watch_fd(redirect->nft), POLLIN,
                                     on_nft_changed, redirect);
    return 0;
}

/* --- iptables --- */

static void on_iptables_done(unsigned failed, void *arg)
{
    struct redirect *redirect = arg;
    struct mux_stream *stream = redirect->stream;
    scoped(free) char *why = NULL;

    if (!failed) {
        reply(redirect, "iptables");
        return;
    }
    why = xasprintf("%s; %u commands of iptables failed too", redirect->nft_error, failed);
    redirect->by_iptables = false;
    take_away(redirect);
    rpc_refuse(stream, EOPNOTSUPP, why);
}

/* --- the service --- */

struct redirect *redirect_new(struct loop *loop, struct children *children)
{
    struct redirect *redirect = xnew(struct redirect);

    redirect->loop = loop;
    redirect->ration = RATION_INIT(AGAIN_BURST, 1);
    redirect->again = loop_timer_new(loop, put_back, redirect);
    redirect->iptables = iptables_new(children, on_iptables_done, redirect);
    return redirect;
}

void redirect_free(struct redirect *redirect)
{
    struct mux_stream *stream;

    if (!redirect) {
        return;
    }
    stream = redirect->stream;
    take_away(redirect);
    if (stream) {
        mux_stream_reset(stream, MUX_RESET_CANCEL);
    }
    iptables_free(redirect->iptables);
    loop_timer_free(redirect->again);
    free(redirect->nft_error);
    free(redirect);
}

static int read_request(const struct rpc_call *call, struct nft_redirect *ret, struct error *err)
{
    lima_guest_v1_RedirectRequest request = lima_guest_v1_RedirectRequest_init_zero;

    if (!wire_decode(call->request, call->request_len, lima_guest_v1_RedirectRequest_fields,
                     &request)) {
        return error_set(err, EBADMSG, "malformed request");
    }
    if (request.address.size != sizeof(ret->address) || request.to.size != sizeof(ret->to) ||
        request.udp_port > UINT16_MAX || request.tcp_port > UINT16_MAX ||
        (!request.udp_port && !request.tcp_port)) {
        return error_set(err, EINVAL, "the request names no two IPv4 addresses and a port");
    }
    *ret = (struct nft_redirect){.udp_port = (uint16_t)request.udp_port,
                                 .tcp_port = (uint16_t)request.tcp_port};
    memcpy(&ret->address, request.address.bytes, sizeof(ret->address));
    memcpy(&ret->to, request.to.bytes, sizeof(ret->to));
    return 0;
}

int redirect_serve(const struct rpc_call *call, void *arg, struct error *err)
{
    struct redirect *redirect = arg;
    scoped(error_done) struct error local = ERROR_INIT;
    struct mux_stream *older = redirect->stream;
    struct nft_redirect rules;
    int r = read_request(call, &rules, err);

    if (r < 0) {
        return r;
    }
    if (older) {
        take_away(redirect);
        mux_stream_reset(older, MUX_RESET_CANCEL);
    }
    redirect->rules = rules;
    redirect->stream = call->stream;
    mux_stream_consumed(call->stream, call->rest_len);
    mux_stream_set_ops(call->stream, &stream_ops, redirect);
    r = open_nft(redirect, &local);
    if (r == 0) {
        reply(redirect, "nftables");
        return 0;
    }
    log_error_of(LOG_LEVEL_DEBUG, &local, "no nf_tables, retrying with iptables");
    free(redirect->nft_error);
    redirect->nft_error = xstrdup(error_text(&local));
    redirect->by_iptables = true;
    iptables_want(redirect->iptables, &redirect->rules);
    return 0;
}
