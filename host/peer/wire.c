/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/wire.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <string.h>
#include "base/alloc.h"
#include "guest.pb-c.h"
#include "mux/delimited.h"

#define PORTS_MAX    64
#define ERRNO_MAX    4095 /* as the kernel's ABI has it */
#define FEATURES_MAX 32   /* as guest.options has them, like the sizes below */
#define FEATURE_SIZE 32

typedef Lima__Guest__V1__Event event_msg;
typedef Lima__Guest__V1__Info info_msg;
typedef Lima__Guest__V1__Port port_msg;
typedef Lima__Guest__V1__Ports ports_msg;
typedef Lima__Guest__V1__Script script_msg;
typedef Lima__Guest__V1__Stage stage_msg;
typedef Lima__Guest__V1__StreamReply reply_msg;
typedef Lima__Guest__V1__TunnelRequest tunnel_msg;

static const struct wire_text info_texts[] = {
    {offsetof(info_msg, agent_version), 64, false}, {offsetof(info_msg, boot_id), 40, false},
    {offsetof(info_msg, instance_id), 128, false},  {offsetof(info_msg, hostname), 72, false},
    {offsetof(info_msg, os), 128, false},           {offsetof(info_msg, kernel), 72, false},
    {offsetof(info_msg, arch), 16, false},
};

static const struct wire_text reply_texts[] = {{offsetof(reply_msg, message), 256, false}};

static const struct wire_text stage_texts[] = {
    {offsetof(stage_msg, detail), 512, true},
    {offsetof(stage_msg, instance_id), 128, false},
};

static const struct wire_text script_texts[] = {
    {offsetof(script_msg, name), 128, false},
    {offsetof(script_msg, tail), 4096, true},
    {offsetof(script_msg, hint), 1024, true},
};

/* ---- to the guest ---- */

void wire_put_message(struct buf *out, const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t prefix[DELIMITED_PREFIX_MAX];

    buf_put(out, prefix, delimited_prefix(prefix, len));
    protobuf_c_message_pack(message, buf_reserve(out, len));
    buf_commit(out, len);
}

void wire_put_open(struct buf *out, const char *service)
{
    Lima__Guest__V1__StreamOpen message = LIMA__GUEST__V1__STREAM_OPEN__INIT;

    message.service = (char *)service;
    wire_put_message(out, &message.base);
}

void wire_put_stream_reply(struct buf *out, int error, const char *text)
{
    reply_msg message = LIMA__GUEST__V1__STREAM_REPLY__INIT;

    message.error = (uint32_t)error;
    message.message = (char *)text;
    wire_put_message(out, &message.base);
}

void wire_put_info_request(struct buf *out, const char *version)
{
    static const char *const features[] = {"events.stage", "events.ports", "events.script"};
    Lima__Guest__V1__InfoRequest message = LIMA__GUEST__V1__INFO_REQUEST__INIT;

    message.protocol = WIRE_PROTOCOL;
    message.version = (char *)version;
    message.features = (char **)features;
    message.n_features = ARRAY_LEN(features);
    wire_put_message(out, &message.base);
}

void wire_put_events_request(struct buf *out, const struct peer_range *wanted, size_t count)
{
    Lima__Guest__V1__EventsRequest message = LIMA__GUEST__V1__EVENTS_REQUEST__INIT;
    Lima__Guest__V1__PortRange ranges[PEER_WANTED_MAX];
    Lima__Guest__V1__PortRange *pointers[PEER_WANTED_MAX];

    assert(count <= PEER_WANTED_MAX);
    for (size_t i = 0; i < count; i++) {
        ranges[i] = (Lima__Guest__V1__PortRange)LIMA__GUEST__V1__PORT_RANGE__INIT;
        ranges[i].first = wanted[i].first;
        ranges[i].last = wanted[i].last;
        pointers[i] = &ranges[i];
    }
    message.n_udp_wanted = count;
    message.udp_wanted = pointers;
    wire_put_message(out, &message.base);
}

static void fill_tunnel_request(tunnel_msg *message, const struct peer_address *to)
{
    static const Lima__Guest__V1__TunnelRequest__Network networks[] = {
        [PEER_NETWORK_TCP] = LIMA__GUEST__V1__TUNNEL_REQUEST__NETWORK__TCP,
        [PEER_NETWORK_UDP] = LIMA__GUEST__V1__TUNNEL_REQUEST__NETWORK__UDP,
        [PEER_NETWORK_UNIX] = LIMA__GUEST__V1__TUNNEL_REQUEST__NETWORK__UNIX,
    };
    const struct config_address *address = &to->address;
    bool v4 = address->family == AF_INET;

    message->network = networks[to->network];
    if (to->network == PEER_NETWORK_UNIX) {
        message->path = (char *)to->path;
        message->user = (char *)(to->user ? to->user : "");
        return;
    }
    message->address.data = v4 ? (uint8_t *)&address->v4 : (uint8_t *)&address->v6;
    message->address.len = v4 ? sizeof(address->v4) : sizeof(address->v6);
    message->port = to->port;
    message->named = to->named;
}

void wire_put_tunnel_request(struct buf *out, const struct peer_address *to)
{
    tunnel_msg message = LIMA__GUEST__V1__TUNNEL_REQUEST__INIT;

    fill_tunnel_request(&message, to);
    wire_put_message(out, &message.base);
}

void wire_put_listen_request(struct buf *out, const struct peer_address *at, unsigned mode)
{
    Lima__Guest__V1__ListenRequest message = LIMA__GUEST__V1__LISTEN_REQUEST__INIT;
    tunnel_msg same = LIMA__GUEST__V1__TUNNEL_REQUEST__INIT;

    fill_tunnel_request(&same, at);
    message.network = same.network;
    message.address = same.address;
    message.port = same.port;
    message.path = same.path;
    message.user = same.user;
    message.mode = mode;
    wire_put_message(out, &message.base);
}

void wire_put_accept_request(struct buf *out, uint64_t id)
{
    Lima__Guest__V1__AcceptRequest message = LIMA__GUEST__V1__ACCEPT_REQUEST__INIT;

    message.id = id;
    wire_put_message(out, &message.base);
}

void wire_put_redirect_request(struct buf *out, const struct peer_redirect_rules *rules)
{
    Lima__Guest__V1__RedirectRequest message = LIMA__GUEST__V1__REDIRECT_REQUEST__INIT;

    message.address.data = (uint8_t *)&rules->address;
    message.address.len = sizeof(rules->address);
    message.to.data = (uint8_t *)&rules->to;
    message.to.len = sizeof(rules->to);
    message.udp_port = rules->udp_port;
    message.tcp_port = rules->tcp_port;
    wire_put_message(out, &message.base);
}

void wire_put_mount_request(struct buf *out, const struct peer_mount_request *request)
{
    static const Lima__Guest__V1__MountRequest__Kind kinds[] = {
        [PEER_MOUNT_AGENT] = LIMA__GUEST__V1__MOUNT_REQUEST__KIND__AGENT,
        [PEER_MOUNT_9P] = LIMA__GUEST__V1__MOUNT_REQUEST__KIND__VIRTIO_9P,
        [PEER_MOUNT_VIRTIOFS] = LIMA__GUEST__V1__MOUNT_REQUEST__KIND__VIRTIOFS,
        [PEER_MOUNT_SSHFS] = LIMA__GUEST__V1__MOUNT_REQUEST__KIND__SSHFS,
    };
    Lima__Guest__V1__MountRequest message = LIMA__GUEST__V1__MOUNT_REQUEST__INIT;

    message.kind = kinds[request->kind];
    message.tag = (char *)request->tag;
    message.mount_point.data = (uint8_t *)request->mount_point;
    message.mount_point.len = strlen(request->mount_point);
    message.writable = request->writable;
    message.options = (char *)request->options;
    message.user = (char *)request->user;
    message.id.data = (uint8_t *)request->id;
    message.id.len = sizeof(request->id);
    message.replays = request->replays;
    message.wait_ms = request->wait_ms;
    wire_put_message(out, &message.base);
}

void wire_put_follow_request(struct buf *out, const char *tag)
{
    Lima__Guest__V1__FollowRequest message = LIMA__GUEST__V1__FOLLOW_REQUEST__INIT;

    message.tag = (char *)tag;
    wire_put_message(out, &message.base);
}

void wire_put_unmount_request(struct buf *out, const char *tag, bool lazy)
{
    Lima__Guest__V1__UnmountRequest message = LIMA__GUEST__V1__UNMOUNT_REQUEST__INIT;

    message.tag = (char *)tag;
    message.lazy = lazy;
    wire_put_message(out, &message.base);
}

void wire_put_touch_request(struct buf *out, const char *tag)
{
    Lima__Guest__V1__TouchRequest message = LIMA__GUEST__V1__TOUCH_REQUEST__INIT;

    message.tag = (char *)tag;
    wire_put_message(out, &message.base);
}

/* ---- text ---- */

/* Length of the UTF-8 sequence at @s and its code point; 0 when there is none. Stops at a NUL. */
static size_t utf8_sequence(const unsigned char *s, uint32_t *ret)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = s[0] < 0x80       ? 1
                 : s[0] >> 5 == 6  ? 2
                 : s[0] >> 4 == 14 ? 3
                 : s[0] >> 3 == 30 ? 4
                                   : 0;
    uint32_t code;

    if (len < 2) {
        *ret = s[0];
        return len;
    }
    code = s[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (s[i] & 0x3f);
    }
    if (code < least[len] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        return 0;
    }
    *ret = code;
    return len;
}

/* Controls, and what turns the direction or breaks the lines of text around it. */
static bool is_printable(uint32_t code)
{
    static const struct {
        uint32_t first, last;
    } banned[] = {{0x7f, 0x9f},     {0x200e, 0x200f}, {0x2028, 0x202e},
                  {0x2066, 0x2069}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}};

    for (size_t i = 0; i < ARRAY_LEN(banned); i++) {
        if (code >= banned[i].first && code <= banned[i].last) {
            return false;
        }
    }
    return code >= 0x20 || code == '\n' || code == '\t';
}

/*
 * In place; what can't be shown becomes '?', and a line end too unless there may be @lines. It
 * never gets longer.
 */
static void make_printable(char *text, bool lines)
{
    unsigned char *in = (unsigned char *)text, *out = in;

    while (*in) {
        uint32_t code = 0;
        size_t len = utf8_sequence(in, &code);

        if (len > 0 && is_printable(code) && (lines || code != '\n')) {
            memmove(out, in, len);
            out += len;
        } else {
            *out++ = '?';
        }
        in += len ? len : 1;
    }
    *out = '\0';
}

int wire_check_texts(void *message, const struct wire_text *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *text = *(char **)((char *)message + fields[i].offset);

        if (strlen(text) >= fields[i].size) {
            return -EMSGSIZE;
        }
        if (*text) { /* an unset field is protobuf-c's constant "" */
            make_printable(text, fields[i].lines);
        }
    }
    return 0;
}

/* ---- from the guest ---- */

static void free_info(info_msg *message)
{
    lima__guest__v1__info__free_unpacked(message, NULL);
}
SCOPED_PTR(info_msg, free_info)

static void free_event(event_msg *message)
{
    lima__guest__v1__event__free_unpacked(message, NULL);
}
SCOPED_PTR(event_msg, free_event)

int wire_info_decode(const uint8_t *data, size_t len, const struct peer_events *events, void *arg)
{
    scoped(free_info) info_msg *m = lima__guest__v1__info__unpack(NULL, len, data);
    struct peer_info info;
    int r;

    if (!m || m->protocol == 0) {
        return -EBADMSG;
    }
    r = wire_check_texts(m, info_texts, ARRAY_LEN(info_texts));
    if (r < 0) {
        return r;
    }
    if (m->n_features > FEATURES_MAX) {
        return -EMSGSIZE;
    }
    for (size_t i = 0; i < m->n_features; i++) {
        if (strlen(m->features[i]) >= FEATURE_SIZE) {
            return -EMSGSIZE;
        }
        make_printable(m->features[i], false);
    }
    info = (struct peer_info){
        .features = (const char *const *)m->features,
        .feature_count = m->n_features,
        .agent_version = m->agent_version,
        .boot_id = m->boot_id,
        .instance_id = m->instance_id,
        .hostname = m->hostname,
        .os = m->os,
        .kernel = m->kernel,
        .arch = m->arch,
        .uptime_ms = m->uptime_ms,
    };
    events->connected(&info, arg);
    return 0;
}

int wire_vsock_decode(const uint8_t *data, size_t len, struct wire_vsock *ret)
{
    scoped(free_info) info_msg *m = lima__guest__v1__info__unpack(NULL, len, data);

    if (!m) {
        return -EBADMSG;
    }
    if (!m->vsock) {
        return 0;
    }
    if (!m->vsock->port || m->vsock->host_key.len != sizeof(ret->host_key) ||
        m->vsock->guest_key.len != sizeof(ret->guest_key)) {
        return -EBADMSG;
    }
    ret->port = m->vsock->port;
    memcpy(ret->host_key, m->vsock->host_key.data, sizeof(ret->host_key));
    memcpy(ret->guest_key, m->vsock->guest_key.data, sizeof(ret->guest_key));
    return 1;
}

/* An origin of a later version is none of those that matter here. */
static enum peer_origin origin_decode(int origin)
{
    switch (origin) {
    case LIMA__GUEST__V1__PORT__ORIGIN__CONTAINER:
        return PEER_ORIGIN_CONTAINER;
    case LIMA__GUEST__V1__PORT__ORIGIN__KUBERNETES:
        return PEER_ORIGIN_KUBERNETES;
    default:
        return PEER_ORIGIN_SOCKET;
    }
}

static int port_decode(const port_msg *m, struct peer_port *ret)
{
    struct config_address *address = &ret->address;

    if (m->port < 1 || m->port > 65535) {
        return -EBADMSG;
    }
    ret->port = (uint16_t)m->port;
    ret->origin = origin_decode(m->origin);
    ret->proto =
        m->protocol == LIMA__GUEST__V1__PORT__PROTOCOL__TCP ? CONFIG_PROTO_TCP : CONFIG_PROTO_UDP;
    if (m->address.len == sizeof(address->v4)) {
        address->family = AF_INET;
        memcpy(&address->v4, m->address.data, sizeof(address->v4));
        return 0;
    }
    if (m->address.len != sizeof(address->v6)) {
        return -EBADMSG;
    }
    memcpy(&address->v6, m->address.data, sizeof(address->v6));
    if (IN6_IS_ADDR_V4MAPPED(&address->v6)) {
        memcpy(&address->v4, m->address.data + 12, sizeof(address->v4));
        address->family = AF_INET;
    } else {
        address->family = AF_INET6;
    }
    return 0;
}

/* @ret has room for PORTS_MAX. */
static int ports_decode(port_msg *const *in, size_t count, struct peer_port *ret, size_t *ret_count)
{
    size_t n = 0;

    if (count > PORTS_MAX) {
        return -EMSGSIZE;
    }
    for (size_t i = 0; i < count; i++) {
        int r;

        if (in[i]->protocol != LIMA__GUEST__V1__PORT__PROTOCOL__TCP &&
            in[i]->protocol != LIMA__GUEST__V1__PORT__PROTOCOL__UDP) {
            continue;
        }
        ret[n] = (struct peer_port){0};
        r = port_decode(in[i], &ret[n]);
        if (r < 0) {
            return r;
        }
        n++;
    }
    *ret_count = n;
    return 0;
}

static int on_ports(event_msg *event, const struct peer_events *events, void *arg)
{
    const ports_msg *m = event->ports;
    struct peer_port added[PORTS_MAX], removed[PORTS_MAX];
    size_t added_count = 0, removed_count = 0;
    int r;

    r = ports_decode(m->added, m->n_added, added, &added_count);
    if (r == 0) {
        r = ports_decode(m->removed, m->n_removed, removed, &removed_count);
    }
    if (r < 0) {
        return r;
    }
    events->ports(m->snapshot, added, added_count, removed, removed_count, arg);
    return 0;
}

static int on_stage(event_msg *event, const struct peer_events *events, void *arg)
{
    stage_msg *m = event->stage;
    int r = wire_check_texts(m, stage_texts, ARRAY_LEN(stage_texts));

    if (r < 0) {
        return r;
    }
    static_assert((int)PEER_STAGE_FAILED == (int)LIMA__GUEST__V1__STAGE__NAME__FAILED,
                  "the stages have the numbers of guest.proto");
    if (m->name > LIMA__GUEST__V1__STAGE__NAME__UNKNOWN &&
        m->name <= LIMA__GUEST__V1__STAGE__NAME__FAILED) {
        events->stage((enum peer_stage)m->name, m->detail, m->instance_id, event->uptime_us, arg);
    }
    return 0;
}

static int on_script(event_msg *event, const struct peer_events *events, void *arg)
{
    script_msg *m = event->script;
    int r = wire_check_texts(m, script_texts, ARRAY_LEN(script_texts));
    struct peer_script script;

    if (r < 0) {
        return r;
    }
    script = (struct peer_script){
        .name = m->name,
        .running = m->running,
        .exit_status = m->exit_status,
        .tail = m->tail,
        .hint = m->hint,
    };
    events->script(&script, arg);
    return 0;
}

int wire_event_decode(const uint8_t *data, size_t len, const struct peer_events *events, void *arg)
{
    static const struct {
        Lima__Guest__V1__Event__KindCase kind;
        int (*fn)(event_msg *event, const struct peer_events *events, void *arg);
    } kinds[] = {
        {LIMA__GUEST__V1__EVENT__KIND_STAGE, on_stage},
        {LIMA__GUEST__V1__EVENT__KIND_PORTS, on_ports},
        {LIMA__GUEST__V1__EVENT__KIND_SCRIPT, on_script},
    };
    scoped(free_event) event_msg *event = lima__guest__v1__event__unpack(NULL, len, data);

    if (!event) {
        return -EBADMSG;
    }
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (event->kind_case == kinds[i].kind) {
            return kinds[i].fn(event, events, arg);
        }
    }
    return 0;
}

int wire_errno(uint32_t number)
{
    return number <= ERRNO_MAX ? (int)number : EIO;
}

int wire_stream_reply_decode(const uint8_t *data, size_t len, struct wire_stream_reply *ret)
{
    reply_msg *m = lima__guest__v1__stream_reply__unpack(NULL, len, data);

    if (!m) {
        return -EBADMSG;
    }
    if (wire_check_texts(m, reply_texts, ARRAY_LEN(reply_texts)) < 0) {
        lima__guest__v1__stream_reply__free_unpacked(m, NULL);
        return -EMSGSIZE;
    }
    *ret = (struct wire_stream_reply){
        .error = wire_errno(m->error), .message = m->message, .decoded = m};
    return 0;
}

void wire_stream_reply_done(struct wire_stream_reply *reply)
{
    if (reply->decoded) {
        lima__guest__v1__stream_reply__free_unpacked(reply->decoded, NULL);
    }
    *reply = (struct wire_stream_reply){0};
}

int wire_incoming_decode(const uint8_t *data, size_t len, struct wire_incoming *ret)
{
    Lima__Guest__V1__Incoming *message = lima__guest__v1__incoming__unpack(NULL, len, data);
    bool sound = message != NULL;

    *ret = (struct wire_incoming){0};
    if (message && message->kind_case == LIMA__GUEST__V1__INCOMING__KIND_LISTENING) {
        sound = message->listening->port <= UINT16_MAX;
        ret->listening = true;
        ret->port = (uint16_t)message->listening->port;
    } else if (message && message->kind_case == LIMA__GUEST__V1__INCOMING__KIND_ACCEPTED) {
        sound = message->accepted->id != 0;
        ret->accepted = true;
        ret->id = message->accepted->id;
    }
    if (message) {
        lima__guest__v1__incoming__free_unpacked(message, NULL);
    }
    return sound ? 0 : -EBADMSG;
}

int wire_mounted_decode(const uint8_t *data, size_t len, struct peer_mounted *ret)
{
    Lima__Guest__V1__Mounted *message = lima__guest__v1__mounted__unpack(NULL, len, data);

    if (!message) {
        return -EBADMSG;
    }
    *ret = (struct peer_mounted){.resumed = message->resumed,
                                 .uid = message->uid,
                                 .gid = message->gid,
                                 .replays = message->replays};
    lima__guest__v1__mounted__free_unpacked(message, NULL);
    return 0;
}

int wire_redirected_decode(const uint8_t *data, size_t len, const char **ret_method)
{
    static const char *const methods[] = {"nftables", "iptables"};
    Lima__Guest__V1__Redirected *message = lima__guest__v1__redirected__unpack(NULL, len, data);

    if (!message) {
        return -EBADMSG;
    }
    *ret_method = "other";
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (strcmp(message->method, methods[i]) == 0) {
            *ret_method = methods[i];
        }
    }
    lima__guest__v1__redirected__free_unpacked(message, NULL);
    return 0;
}
