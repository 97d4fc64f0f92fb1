/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's encoder against the host's decoder and back: what nanopb writes protobuf-c reads, and
 * the other way round, at the bounds of guest.options.
 */
#include "test.h"
#include <arpa/inet.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include "guest.pb-c.h"
#include "guest.pb.h"
#include "mux/delimited.h"
#include "peer/wire.h"

/* A C string of @size bytes with its NUL. */
static void fill(char *text, size_t size)
{
    for (size_t i = 0; i + 1 < size; i++) {
        text[i] = (char)('a' + i % 26);
    }
    text[size - 1] = '\0';
}

#define FILL(field) fill((field), sizeof(field))

/* ---- both codecs, each message ---- */

struct sample {
    const char *name;
    const pb_msgdesc_t *nano;
    const ProtobufCMessageDescriptor *c;
    size_t size; /* of nanopb's struct */
    void (*make)(void *message);
};

static void make_open(void *message)
{
    FILL(((lima_guest_v1_StreamOpen *)message)->service);
}

static void make_info(void *message)
{
    lima_guest_v1_Info *m = message;

    m->protocol = 1;
    FILL(m->agent_version);
    FILL(m->boot_id);
    FILL(m->instance_id);
    FILL(m->hostname);
    FILL(m->os);
    FILL(m->kernel);
    FILL(m->arch);
    m->uptime_ms = UINT64_MAX;
    m->features_count = 32;
    for (int i = 0; i < 32; i++) {
        FILL(m->features[i]);
    }
}

static void make_info_request(void *message)
{
    lima_guest_v1_InfoRequest *m = message;

    m->protocol = 1;
    FILL(m->version);
    m->features_count = 32;
    for (int i = 0; i < 32; i++) {
        FILL(m->features[i]);
    }
}

static void make_stage(void *message)
{
    lima_guest_v1_Event *m = message;

    m->uptime_us = 123456789012;
    m->which_kind = lima_guest_v1_Event_stage_tag;
    m->kind.stage.name = lima_guest_v1_Stage_Name_FAILED;
    FILL(m->kind.stage.detail);
    FILL(m->kind.stage.instance_id);
}

static void make_script(void *message)
{
    lima_guest_v1_Event *m = message;

    m->which_kind = lima_guest_v1_Event_script_tag;
    FILL(m->kind.script.name);
    m->kind.script.running = true;
    m->kind.script.exit_status = -1;
    FILL(m->kind.script.tail);
    FILL(m->kind.script.hint);
}

static void make_ports(void *message)
{
    lima_guest_v1_Event *m = message;
    lima_guest_v1_Ports *ports = &m->kind.ports;

    m->which_kind = lima_guest_v1_Event_ports_tag;
    ports->snapshot = true;
    ports->added_count = ports->removed_count = 64;
    for (unsigned i = 0; i < 64; i++) {
        lima_guest_v1_Port *v4 = &ports->added[i], *v6 = &ports->removed[i];

        v4->port = 1 + i;
        v4->address.size = 4;
        memcpy(v4->address.bytes, (uint8_t[]){127, 0, 0, (uint8_t)i}, 4);
        v6->port = 65535 - i;
        v6->protocol = lima_guest_v1_Port_Protocol_UDP;
        v6->address.size = 16;
        memset(v6->address.bytes, (int)(0x20 + i), 16);
    }
}

static void make_tunnel_request(void *message)
{
    lima_guest_v1_TunnelRequest *m = message;

    m->port = 65535;
    m->address.size = 16;
    memset(m->address.bytes, 0xfe, 16);
}

static void make_stream_reply(void *message)
{
    lima_guest_v1_StreamReply *m = message;

    m->error = ECONNREFUSED;
    FILL(m->message);
}

static void make_shutdown(void *message)
{
    ((lima_guest_v1_ShutdownRequest *)message)->reboot = true;
}

static void make_events_request(void *message)
{
    lima_guest_v1_EventsRequest *m = message;

    m->udp_wanted_count = 64;
    for (unsigned i = 0; i < 64; i++) {
        m->udp_wanted[i] = (lima_guest_v1_PortRange){.first = 1 + i, .last = 65535 - i};
    }
}

#define SAMPLE(nano, c, make)                                                                      \
    {                                                                                              \
#nano, lima_guest_v1_##nano##_fields, &lima__guest__v1__##c##__descriptor,                 \
            sizeof(lima_guest_v1_##nano), make                                                     \
    }

static const struct sample samples[] = {
    SAMPLE(InfoRequest, info_request, make_info_request),
    SAMPLE(StreamOpen, stream_open, make_open),
    SAMPLE(Info, info, make_info),
    SAMPLE(EventsRequest, events_request, make_events_request),
    SAMPLE(Event, event, make_stage),
    SAMPLE(Event, event, make_script),
    SAMPLE(Event, event, make_ports),
    SAMPLE(TunnelRequest, tunnel_request, make_tunnel_request),
    SAMPLE(StreamReply, stream_reply, make_stream_reply),
    SAMPLE(ShutdownRequest, shutdown_request, make_shutdown),
};

static size_t nano_encode(const pb_msgdesc_t *fields, const void *message, uint8_t *out, size_t max)
{
    pb_ostream_t stream = pb_ostream_from_buffer(out, max);

    if (!pb_encode(&stream, fields, message)) {
        fail_msg("pb_encode: %s", PB_GET_ERROR(&stream));
    }
    return stream.bytes_written;
}

/* nanopb -> protobuf-c -> nanopb gives the same bytes and the same struct. */
static void test_each_message_survives_both_codecs(void **state)
{
    static uint8_t bytes[WIRE_MESSAGE_MAX], again[WIRE_MESSAGE_MAX];

    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        const struct sample *sample = &samples[i];
        scoped(free) void *sent = xcalloc(1, sample->size), *got = xcalloc(1, sample->size);
        ProtobufCMessage *host;
        pb_istream_t stream;
        size_t len;

        sample->make(sent);
        len = nano_encode(sample->nano, sent, bytes, sizeof(bytes));
        host = protobuf_c_message_unpack(sample->c, NULL, len, bytes);
        assert_non_null(host);
        assert_int_equal(host->n_unknown_fields, 0);
        assert_int_equal(protobuf_c_message_pack(host, again), len);
        assert_memory_equal(again, bytes, len);
        protobuf_c_message_free_unpacked(host, NULL);
        stream = pb_istream_from_buffer(again, len);
        assert_true(pb_decode(&stream, sample->nano, got));
        assert_int_equal(nano_encode(sample->nano, got, again, sizeof(again)), len);
        assert_memory_equal(again, bytes, len);
    }
}

static void test_wanted_udp_ports_are_what_the_guest_reads(void **state)
{
    static const struct peer_range ranges[] = {{53, 53}, {40000, 65535}};
    scoped(buf_done) struct buf out = BUF_INIT;
    lima_guest_v1_EventsRequest request = lima_guest_v1_EventsRequest_init_zero;
    pb_istream_t stream;

    wire_put_events_request(&out, ranges, ARRAY_LEN(ranges));
    stream = pb_istream_from_buffer((uint8_t *)out.data, out.len);
    assert_true(
        pb_decode_ex(&stream, lima_guest_v1_EventsRequest_fields, &request, PB_DECODE_DELIMITED));
    assert_int_equal(request.udp_wanted_count, 2);
    assert_int_equal(request.udp_wanted[1].first, 40000);
    assert_int_equal(request.udp_wanted[1].last, 65535);
}

static void test_requests_are_what_the_guest_reads(void **state)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    struct peer_address to = {.address = {.family = AF_INET, .v4.s_addr = htonl(0x7f000001)},
                              .port = 8080};
    struct peer_address path = {.network = PEER_NETWORK_UNIX, .path = "/run/x.sock", .user = "u"};
    lima_guest_v1_ListenRequest listen = lima_guest_v1_ListenRequest_init_zero;
    lima_guest_v1_StreamOpen open = lima_guest_v1_StreamOpen_init_zero;
    lima_guest_v1_TunnelRequest request = lima_guest_v1_TunnelRequest_init_zero;
    pb_istream_t stream;

    wire_put_open(&out, "Tunnel");
    wire_put_tunnel_request(&out, &to);
    wire_put_tunnel_request(&out, &path);
    wire_put_listen_request(&out, &path, 0660);
    stream = pb_istream_from_buffer((uint8_t *)out.data, out.len);
    assert_true(pb_decode_ex(&stream, lima_guest_v1_StreamOpen_fields, &open, PB_DECODE_DELIMITED));
    assert_string_equal(open.service, "Tunnel");
    assert_true(
        pb_decode_ex(&stream, lima_guest_v1_TunnelRequest_fields, &request, PB_DECODE_DELIMITED));
    assert_int_equal(request.port, 8080);
    assert_int_equal(request.address.size, 4);
    assert_memory_equal(request.address.bytes, "\x7f\0\0\1", 4);
    assert_true(
        pb_decode_ex(&stream, lima_guest_v1_TunnelRequest_fields, &request, PB_DECODE_DELIMITED));
    assert_int_equal(request.network, lima_guest_v1_TunnelRequest_Network_UNIX);
    assert_string_equal(request.path, "/run/x.sock");
    assert_string_equal(request.user, "u");
    assert_true(
        pb_decode_ex(&stream, lima_guest_v1_ListenRequest_fields, &listen, PB_DECODE_DELIMITED));
    assert_int_equal(listen.network, lima_guest_v1_TunnelRequest_Network_UNIX);
    assert_string_equal(listen.path, "/run/x.sock");
    assert_string_equal(listen.user, "u");
    assert_int_equal(listen.mode, 0660);
    assert_int_equal(stream.bytes_left, 0);
}

static void test_what_a_listener_says_is_checked(void **state)
{
    static const struct {
        pb_size_t kind;
        uint64_t value;
        int r;
    } cases[] = {
        {lima_guest_v1_Incoming_listening_tag, 0, 0},
        {lima_guest_v1_Incoming_listening_tag, 65535, 0},
        {lima_guest_v1_Incoming_listening_tag, 65536, -EBADMSG},
        {lima_guest_v1_Incoming_accepted_tag, UINT64_MAX, 0},
        {lima_guest_v1_Incoming_accepted_tag, 0, -EBADMSG},
        {0, 0, 0}, /* none that we know: skipped */
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        lima_guest_v1_Incoming message = {.which_kind = cases[i].kind};
        struct wire_incoming got;
        uint8_t bytes[64];
        bool listening = cases[i].kind == lima_guest_v1_Incoming_listening_tag;
        bool accepted = cases[i].kind == lima_guest_v1_Incoming_accepted_tag;
        size_t len;

        if (listening) {
            message.kind.listening.port = (uint32_t)cases[i].value;
        } else {
            message.kind.accepted.id = cases[i].value;
        }
        len = nano_encode(lima_guest_v1_Incoming_fields, &message, bytes, sizeof(bytes));
        assert_int_equal(wire_incoming_decode(bytes, len, &got), cases[i].r);
        if (cases[i].r == 0) {
            assert_int_equal(got.listening, listening);
            assert_int_equal(got.accepted, accepted);
            assert_int_equal(accepted ? got.id : got.port, cases[i].value);
        }
    }
    assert_int_equal(wire_incoming_decode((const uint8_t *)"\xff", 1, &(struct wire_incoming){0}),
                     -EBADMSG);
}

static void test_how_dns_is_redirected_is_one_of_the_words_we_know(void **state)
{
    static const struct {
        const char *method, *want;
    } cases[] = {{"nftables", "nftables"},
                 {"iptables", "iptables"},
                 {"", "other"},
                 {"\033[31mred", "other"}};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        lima_guest_v1_Redirected message = lima_guest_v1_Redirected_init_zero;
        const char *got = NULL;
        uint8_t bytes[64];
        size_t len;

        strcpy(message.method, cases[i].method);
        len = nano_encode(lima_guest_v1_Redirected_fields, &message, bytes, sizeof(bytes));
        assert_int_equal(wire_redirected_decode(bytes, len, &got), 0);
        assert_string_equal(got, cases[i].want);
    }
    assert_int_equal(wire_redirected_decode((const uint8_t *)"\xff", 1, &(const char *){NULL}),
                     -EBADMSG);
}

/* The message behind its length. */
static const uint8_t *body_of(const struct buf *out, size_t *ret_len)
{
    struct delimited splitter = DELIMITED_INIT(16384);
    const uint8_t *body = NULL;
    size_t used;

    assert_int_equal(
        delimited_next(&splitter, (const uint8_t *)out->data, out->len, &used, &body, ret_len), 1);
    return body;
}

static void test_a_mount_is_asked_for_as_the_guest_reads_it(void **state)
{
    const struct peer_mount_request request = {.kind = PEER_MOUNT_9P,
                                               .tag = "lima-0123456789abcdef",
                                               .mount_point = "/mnt/new\nline \xff",
                                               .options = "trans=virtio",
                                               .user = "me",
                                               .writable = true,
                                               .replays = true,
                                               .id = {1, 2, 3}};
    scoped(free) lima_guest_v1_MountRequest *got = xnew(lima_guest_v1_MountRequest);
    lima_guest_v1_UnmountRequest removed = lima_guest_v1_UnmountRequest_init_zero;
    scoped(buf_done) struct buf out = BUF_INIT, removal = BUF_INIT;
    pb_istream_t stream;
    size_t len;
    const uint8_t *body;

    wire_put_mount_request(&out, &request);
    body = body_of(&out, &len);
    stream = pb_istream_from_buffer(body, len);
    assert_true(pb_decode(&stream, lima_guest_v1_MountRequest_fields, got));
    assert_int_equal(got->kind, lima_guest_v1_MountRequest_Kind_VIRTIO_9P);
    assert_string_equal(got->tag, request.tag);
    assert_int_equal(got->mount_point.size, strlen(request.mount_point));
    assert_memory_equal(got->mount_point.bytes, request.mount_point, got->mount_point.size);
    assert_string_equal(got->options, "trans=virtio");
    assert_string_equal(got->user, "me");
    assert_true(got->writable);
    assert_true(got->replays);
    assert_int_equal(got->id.size, PEER_MOUNT_ID_LEN);
    wire_put_unmount_request(&removal, "lima-x", true);
    body = body_of(&removal, &len);
    stream = pb_istream_from_buffer(body, len);
    assert_true(pb_decode(&stream, lima_guest_v1_UnmountRequest_fields, &removed));
    assert_string_equal(removed.tag, "lima-x");
    assert_true(removed.lazy);
}

static void test_what_was_mounted_is_read(void **state)
{
    lima_guest_v1_Mounted message = {.resumed = true, .uid = 501, .gid = 1000, .replays = true};
    struct peer_mounted got;
    uint8_t bytes[64];
    size_t len = nano_encode(lima_guest_v1_Mounted_fields, &message, bytes, sizeof(bytes));

    assert_int_equal(wire_mounted_decode(bytes, len, &got), 0);
    assert_true(got.resumed);
    assert_int_equal(got.uid, 501);
    assert_int_equal(got.gid, 1000);
    assert_true(got.replays);
    assert_int_equal(wire_mounted_decode((const uint8_t *)"\xff", 1, &got), -EBADMSG);
}

/* ---- what is checked ---- */

static struct {
    int calls;
    struct buf text; /* what came, flat */
} seen;

static void see(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void see(const char *fmt, ...)
{
    va_list ap;

    seen.calls++;
    va_start(ap, fmt);
    buf_vprintf(&seen.text, fmt, ap);
    va_end(ap);
}

static void on_connected(const struct peer_info *info, void *arg)
{
    see("info %s %s %s %s %s %s %s %llu;", info->agent_version, info->boot_id, info->instance_id,
        info->hostname, info->os, info->kernel, info->arch, (unsigned long long)info->uptime_ms);
}

static void on_stage(enum peer_stage stage, const char *detail, const char *instance_id,
                     uint64_t uptime_us, void *arg)
{
    see("stage %d %s %s %llu;", stage, detail, instance_id, (unsigned long long)uptime_us);
}

static void on_script(const struct peer_script *s, void *arg)
{
    see("script %s %d %d %s %s;", s->name, s->running, s->exit_status, s->tail, s->hint);
}

static void see_ports(char sign, const struct peer_port *ports, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char text[INET6_ADDRSTRLEN];

        inet_ntop(ports[i].address.family, &ports[i].address.v4, text, sizeof(text));
        buf_printf(&seen.text, " %c%s:%u%s", sign, text, ports[i].port,
                   ports[i].proto == CONFIG_PROTO_UDP ? "u" : "");
        buf_puts(&seen.text, ports[i].origin == PEER_ORIGIN_CONTAINER    ? "c"
                             : ports[i].origin == PEER_ORIGIN_KUBERNETES ? "k"
                                                                         : "");
    }
}

static void on_ports(bool snapshot, const struct peer_port *added, size_t added_count,
                     const struct peer_port *removed, size_t removed_count, void *arg)
{
    see("ports%s", snapshot ? " all" : "");
    see_ports('+', added, added_count);
    see_ports('-', removed, removed_count);
    buf_putc(&seen.text, ';');
}

static const struct peer_events events = {
    .connected = on_connected,
    .stage = on_stage,
    .script = on_script,
    .ports = on_ports,
};

static int teardown(void **state)
{
    seen.calls = 0;
    buf_done(&seen.text);
    return 0;
}

/* Decodes a copy of just the bytes, for the sanitizer. */
static int decode_event(const void *bytes, size_t len)
{
    scoped(free) uint8_t *copy = xmemdup(bytes, len);

    return wire_event_decode(copy, len, &events, NULL);
}

static int send_event(const lima_guest_v1_Event *event)
{
    static uint8_t bytes[WIRE_MESSAGE_MAX];

    return decode_event(bytes,
                        nano_encode(lima_guest_v1_Event_fields, event, bytes, sizeof(bytes)));
}

static lima_guest_v1_Event event_zero(void)
{
    return (lima_guest_v1_Event)lima_guest_v1_Event_init_zero;
}

static void test_the_longest_messages_of_the_guest_are_taken(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        if (samples[i].nano == lima_guest_v1_Event_fields) {
            lima_guest_v1_Event event = event_zero();

            samples[i].make(&event);
            assert_int_equal(send_event(&event), 0);
        }
    }
    assert_int_equal(seen.calls, 3);
}

static void test_ports_are_addresses_of_either_family(void **state)
{
    static const uint8_t mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3};
    lima_guest_v1_Event event = event_zero();
    lima_guest_v1_Ports *ports = &event.kind.ports;

    event.which_kind = lima_guest_v1_Event_ports_tag;
    ports->added_count = 4;
    ports->added[0] = (lima_guest_v1_Port){.port = 80, .address = {4, {127, 0, 0, 1}}};
    ports->added[1] = (lima_guest_v1_Port){.port = 81, .address = {16, {[15] = 1}}};
    ports->added[2] = (lima_guest_v1_Port){.port = 82, .address = {.size = 16}};
    memcpy(ports->added[2].address.bytes, mapped, 16);
    ports->added[2].origin = lima_guest_v1_Port_Origin_CONTAINER;
    ports->added[3] = ports->added[0];
    ports->added[3].origin = 99; /* of a later version */
    ports->removed_count = 1;
    ports->removed[0] = (lima_guest_v1_Port){.port = 53,
                                             .protocol = lima_guest_v1_Port_Protocol_UDP,
                                             .address = {4, {0}},
                                             .origin = lima_guest_v1_Port_Origin_KUBERNETES};
    assert_int_equal(send_event(&event), 0);
    assert_string_equal(buf_str(&seen.text),
                        "ports +127.0.0.1:80 +::1:81 +10.1.2.3:82c +127.0.0.1:80 -0.0.0.0:53uk;");
}

static void test_ports_that_are_none_are_refused(void **state)
{
    static const lima_guest_v1_Port bad[] = {
        {.port = 0, .address = {4, {1}}},   {.port = 65536, .address = {4, {1}}},
        {.port = 80, .address = {0, {0}}},  {.port = 80, .address = {5, {1}}},
        {.port = 80, .address = {15, {1}}}, {.port = UINT32_MAX, .address = {16, {1}}},
    };

    for (size_t i = 0; i < 2 * ARRAY_LEN(bad); i++) {
        lima_guest_v1_Event event = event_zero();
        lima_guest_v1_Ports *ports = &event.kind.ports;

        event.which_kind = lima_guest_v1_Event_ports_tag;
        ports->added_count = 1;
        ports->added[0] = (lima_guest_v1_Port){.port = 80, .address = {4, {1}}};
        if (i % 2) {
            ports->removed_count = 1;
            ports->removed[0] = bad[i / 2];
        } else {
            ports->added_count = 2;
            ports->added[1] = bad[i / 2];
        }
        assert_int_equal(send_event(&event), -EBADMSG);
    }
    assert_int_equal(seen.calls, 0);
}

/* Packs with protobuf-c, which has no bounds. */
static int send_host_event(Lima__Guest__V1__Event *event)
{
    size_t len = lima__guest__v1__event__get_packed_size(event);
    scoped(free) uint8_t *bytes = xmalloc(len);

    lima__guest__v1__event__pack(event, bytes);
    return wire_event_decode(bytes, len, &events, NULL);
}

static void test_more_ports_than_the_bound_are_refused(void **state)
{
    Lima__Guest__V1__Event event = LIMA__GUEST__V1__EVENT__INIT;
    Lima__Guest__V1__Ports ports = LIMA__GUEST__V1__PORTS__INIT;
    Lima__Guest__V1__Port port = LIMA__GUEST__V1__PORT__INIT, *many[65];

    port.port = 1;
    port.address.len = 4;
    port.address.data = (uint8_t *)"\1\2\3\4";
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        many[i] = &port;
    }
    event.kind_case = LIMA__GUEST__V1__EVENT__KIND_PORTS;
    event.ports = &ports;
    ports.added = many;
    ports.n_added = 65;
    assert_int_equal(send_host_event(&event), -EMSGSIZE);
    ports.n_added = 64;
    assert_int_equal(send_host_event(&event), 0);
}

static void test_text_above_its_bound_is_refused(void **state)
{
    static const size_t sizes[] = {127, 128, 129};
    Lima__Guest__V1__Event event = LIMA__GUEST__V1__EVENT__INIT;
    Lima__Guest__V1__Script script = LIMA__GUEST__V1__SCRIPT__INIT;

    event.kind_case = LIMA__GUEST__V1__EVENT__KIND_SCRIPT;
    event.script = &script;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        scoped(free) char *name = xmalloc(sizes[i] + 1);

        memset(name, 'x', sizes[i]);
        name[sizes[i]] = '\0';
        script.name = name;
        assert_int_equal(send_host_event(&event), sizes[i] < 128 ? 0 : -EMSGSIZE);
    }
}

static void test_text_comes_out_printable(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain\n\ttext", "plain\n\ttext"},
        {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xa7",
         "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xa7"},
        {"\033[31mred\033]0;title\a", "?[31mred?]0;title?"},
        {"\x7f \xc2\x9b 1", "? ? 1"}, /* DEL, C1 */
        {"\xe2\x80\xae"
         "evil",
         "?evil"},                                            /* right to left */
        {"\xc0\xaf \xe0\x80\xaf \xed\xa0\x80", "?? ??? ???"}, /* overlong, surrogate */
        {"\xf4\x90\x80\x80", "????"},                         /* above the last code point */
        {"cut \xe2\x82", "cut ??"},
        {"\x80\xff", "??"},
        {"a\rb", "a?b"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        lima_guest_v1_Event event = event_zero();
        scoped(free) char *want = xasprintf("stage 6 %s  0;", cases[i].out);

        event.which_kind = lima_guest_v1_Event_stage_tag;
        event.kind.stage.name = lima_guest_v1_Stage_Name_READY;
        strcpy(event.kind.stage.detail, cases[i].in);
        assert_int_equal(send_event(&event), 0);
        assert_string_equal(buf_str(&seen.text), want);
        buf_truncate(&seen.text, 0);
    }
}

static void test_names_have_one_line_only(void **state)
{
    lima_guest_v1_Event event = event_zero();

    event.which_kind = lima_guest_v1_Event_script_tag;
    strcpy(event.kind.script.name, "a\nINFO forged");
    strcpy(event.kind.script.tail, "two\nlines");
    strcpy(event.kind.script.hint, "two\nmore");
    assert_int_equal(send_event(&event), 0);
    assert_string_equal(buf_str(&seen.text), "script a?INFO forged 0 0 two\nlines two\nmore;");
}

static void test_unknown_kinds_stages_and_protocols_are_skipped(void **state)
{
    static const uint8_t unknown_kind[] = {0x82, 0x01, 0x02, 'h', 'i'}; /* field 16 */
    lima_guest_v1_Event event = event_zero();

    assert_int_equal(decode_event(unknown_kind, sizeof(unknown_kind)), 0);
    assert_int_equal(decode_event(unknown_kind, 0), 0);
    event.which_kind = lima_guest_v1_Event_stage_tag;
    event.kind.stage.name = (lima_guest_v1_Stage_Name)8;
    assert_int_equal(send_event(&event), 0);
    assert_int_equal(seen.calls, 0);
    make_ports(&event);
    event.kind.ports.removed_count = 0;
    event.kind.ports.added_count = 1;
    event.kind.ports.added[0].protocol = (lima_guest_v1_Port_Protocol)7;
    assert_int_equal(send_event(&event), 0);
    assert_string_equal(buf_str(&seen.text), "ports all;");
}

/* Nothing but a verdict may come of it. */
static void test_a_message_broken_at_any_byte_is_refused_or_harmless(void **state)
{
    static uint8_t bytes[WIRE_MESSAGE_MAX];

    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        scoped(free) void *message = xcalloc(1, samples[i].size);
        size_t len;

        samples[i].make(message);
        len = nano_encode(samples[i].nano, message, bytes, sizeof(bytes));
        for (size_t at = 0; at < len; at++) {
            struct wire_stream_reply reply = {0};

            bytes[at] ^= 0xff;
            decode_event(bytes, len);
            decode_event(bytes, at);
            wire_info_decode(bytes, len, &events, NULL);
            wire_stream_reply_decode(bytes, len, &reply);
            wire_stream_reply_done(&reply);
            bytes[at] ^= 0xff;
            buf_truncate(&seen.text, 0);
        }
    }
}

static void test_the_error_of_a_reply_is_an_errno(void **state)
{
    static const struct {
        uint32_t sent;
        int want;
    } cases[] = {{0, 0}, {ECONNREFUSED, ECONNREFUSED}, {4096, EIO}, {UINT32_MAX, EIO}};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        lima_guest_v1_StreamReply sent = {.error = cases[i].sent, .message = "two\nlines"};
        uint8_t bytes[64];
        size_t len = nano_encode(lima_guest_v1_StreamReply_fields, &sent, bytes, sizeof(bytes));
        struct wire_stream_reply reply;

        assert_int_equal(wire_stream_reply_decode(bytes, len, &reply), 0);
        assert_int_equal(reply.error, cases[i].want);
        assert_string_equal(reply.message, "two?lines");
        wire_stream_reply_done(&reply);
    }
}

#define T(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_each_message_survives_both_codecs),
        T(test_wanted_udp_ports_are_what_the_guest_reads),
        T(test_requests_are_what_the_guest_reads),
        T(test_what_a_listener_says_is_checked),
        T(test_how_dns_is_redirected_is_one_of_the_words_we_know),
        T(test_a_mount_is_asked_for_as_the_guest_reads_it),
        T(test_what_was_mounted_is_read),
        T(test_the_longest_messages_of_the_guest_are_taken),
        T(test_ports_are_addresses_of_either_family),
        T(test_ports_that_are_none_are_refused),
        T(test_more_ports_than_the_bound_are_refused),
        T(test_text_above_its_bound_is_refused),
        T(test_text_comes_out_printable),
        T(test_names_have_one_line_only),
        T(test_unknown_kinds_stages_and_protocols_are_skipped),
        T(test_a_message_broken_at_any_byte_is_refused_or_harmless),
        T(test_the_error_of_a_reply_is_an_errno),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
