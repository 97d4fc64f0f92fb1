/* SPDX-License-Identifier: Apache-2.0 */
#include "services.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "mux/join.h"
#include "wire.h"

struct registration {
    struct incoming_owner owner;
    struct services *services;
    struct registration *next, **link;
    struct mux_stream *stream; /* to the program that serves */
    char *name;
};

struct services {
    struct incoming *incoming;
    struct registration *list;
    size_t count;
};

struct services *services_new(struct incoming *incoming)
{
    struct services *services = xnew(struct services);

    services->incoming = incoming;
    return services;
}

static void registration_free(struct registration *reg)
{
    *reg->link = reg->next;
    if (reg->next) {
        reg->next->link = reg->link;
    }
    reg->services->count--;
    incoming_drop(reg->services->incoming, &reg->owner);
    free(reg->name);
    free(reg);
}

void services_free(struct services *services)
{
    if (!services) {
        return;
    }
    while (services->list) {
        mux_stream_reset(services->list->stream, MUX_RESET_CANCEL);
        registration_free(services->list);
    }
    free(services);
}

static struct registration *find(const struct services *services, const char *name)
{
    struct registration *reg = services->list;

    while (reg && strcmp(reg->name, name) != 0) {
        reg = reg->next;
    }
    return reg;
}

/* A dot keeps it apart from our own names, now and later. */
static bool is_name(const char *name)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t len = strlen(name);

    return len > 2 && strspn(name, letters) == len && strchr(name, '.') && name[0] != '.' &&
           name[len - 1] != '.';
}

static void on_program_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    mux_stream_consumed(stream, len); /* it has nothing to say here */
}

static void on_program_fin(struct mux_stream *stream, void *arg)
{
    mux_stream_finish(stream); /* and closed() follows */
}

static void on_program_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct registration *reg = arg;

    log_debug("the service '%s' is gone", reg->name);
    registration_free(reg);
}

static const struct mux_stream_ops program_ops = {
    .data = on_program_data,
    .fin = on_program_fin,
    .closed = on_program_closed,
};

int services_register(const struct rpc_call *call, void *arg, struct error *err)
{
    struct services *services = arg;
    lima_guest_v1_RegisterRequest request = lima_guest_v1_RegisterRequest_init_zero;
    struct registration *reg;

    if (!wire_decode(call->request, call->request_len, lima_guest_v1_RegisterRequest_fields,
                     &request)) {
        return error_set(err, EBADMSG, "malformed request");
    }
    if (!is_name(request.service)) {
        return error_set(err, EINVAL,
                         "a service's name has letters, digits, '_', '-' and at least one dot "
                         "inside, such as org.example.backup");
    }
    if (find(services, request.service)) {
        return error_set(err, EADDRINUSE, "another program serves '%s'", request.service);
    }
    if (services->count >= SERVICES_MAX) {
        return error_set(err, EUSERS, "%d services are registered already", SERVICES_MAX);
    }
    if (!rpc_reply(call->stream, 0, NULL)) {
        return error_set(err, EAGAIN, "no room for an answer");
    }
    reg = xnew(struct registration);
    *reg = (struct registration){.owner.accepts = INCOMING_FOR_GUEST,
                                 .services = services,
                                 .next = services->list,
                                 .link = &services->list,
                                 .stream = call->stream,
                                 .name = xstrdup(request.service)};
    if (reg->next) {
        reg->next->link = &reg->next;
    }
    services->list = reg;
    services->count++;
    mux_stream_consumed(call->stream, call->rest_len);
    mux_stream_set_ops(call->stream, &program_ops, reg);
    log_debug("a program serves '%s'", reg->name);
    return 0;
}

static size_t encode_incoming(uint64_t id, uint8_t *out)
{
    lima_guest_v1_Incoming incoming = lima_guest_v1_Incoming_init_zero;

    incoming.which_kind = lima_guest_v1_Incoming_accepted_tag;
    incoming.kind.accepted.id = id;
    return wire_encode(lima_guest_v1_Incoming_fields, &incoming, out);
}

int services_serve(const struct rpc_call *call, void *arg, struct error *err)
{
    struct services *services = arg;
    struct registration *reg = find(services, call->service);
    uint8_t bytes[WIRE_MAX];
    size_t len;

    if (!reg) {
        return error_set(err, EOPNOTSUPP, "no program serves '%s'", call->service);
    }
    if (!incoming_has_room(&reg->owner) ||
        mux_stream_room(reg->stream) < lima_guest_v1_Incoming_size + DELIMITED_PREFIX_MAX) {
        return error_set(err, EAGAIN, "the program that serves '%s' is behind", call->service);
    }
    len =
        encode_incoming(incoming_add_stream(services->incoming, &reg->owner, call->stream), bytes);
    mux_stream_write(reg->stream, bytes, len);
    mux_stream_pass(call->stream, call->rest, call->rest_len);
    return 0;
}

int services_accept(const struct rpc_call *call, void *arg, struct error *err)
{
    struct services *services = arg;
    lima_guest_v1_AcceptRequest request = lima_guest_v1_AcceptRequest_init_zero;
    struct incoming_taken taken;

    if (!wire_decode(call->request, call->request_len, lima_guest_v1_AcceptRequest_fields,
                     &request)) {
        return error_set(err, EBADMSG, "malformed request");
    }
    if (!incoming_take(services->incoming, request.id, INCOMING_FOR_GUEST, &taken)) {
        return error_set(err, ENOENT, "nothing waits under this id, any more");
    }
    if (!rpc_reply(call->stream, 0, NULL) || !rpc_reply(taken.stream, 0, NULL)) {
        mux_stream_reset(taken.stream, MUX_RESET_REFUSED);
        mux_stream_reset(call->stream, MUX_RESET_REFUSED);
    } else {
        join_early(join_new(taken.stream, call->stream, NULL, NULL), taken.early.data,
                   taken.early.len, taken.ended);
        mux_stream_pass(call->stream, call->rest, call->rest_len);
    }
    buf_done(&taken.early);
    return 0;
}
