/* SPDX-License-Identifier: Apache-2.0 */
#include "execwire.h"

#include <assert.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include <string.h>
#include "base/alloc.h"
#include "guest.pb.h"
#include "mux/delimited.h"
#include "wire.h"

/* ---- request ---- */

static void free_texts(char **texts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(texts[i]);
    }
    free(texts);
}

void exec_request_done(struct exec_request *request)
{
    free_texts(request->argv, request->argc);
    free_texts(request->env, request->env_count);
    free(request->user);
    free(request->dir);
    *request = (struct exec_request){0};
}

struct text_list {
    char **items;
    size_t count, cap;
    bool zero; /* one had a zero byte */
};

/* One element; nanopb calls it for each. @stream has the element alone. */
static bool read_text(pb_istream_t *stream, const pb_field_t *field, void **arg)
{
    struct text_list *list = *arg;
    size_t len = stream->bytes_left;
    char *text = xmalloc(len + 1);

    array_reserve(list->items, list->cap, list->count + 2);
    list->items[list->count++] = text;
    list->items[list->count] = NULL;
    text[len] = '\0';
    if (!pb_read(stream, (pb_byte_t *)text, len)) {
        return false;
    }
    list->zero |= memchr(text, '\0', len) != NULL;
    return true;
}

static int check_request(const struct exec_request *request, bool zero, struct error *err)
{
    if (zero) {
        return error_set(err, EINVAL, "an argument, variable or folder has a zero byte in it");
    }
    if (request->env_count > EXEC_ENV_MAX) {
        return error_set(err, E2BIG, "%zu variables, more than %d", request->env_count,
                         EXEC_ENV_MAX);
    }
    for (size_t i = 0; i < request->env_count; i++) {
        const char *equals = strchr(request->env[i], '=');

        if (!equals || equals == request->env[i]) {
            return error_set(err, EINVAL, "'%.64s' is no variable: NAME=value is wanted",
                             request->env[i]);
        }
    }
    return 0;
}

int exec_request_decode(const uint8_t *body, size_t len, struct exec_request *ret,
                        struct error *err)
{
    lima_guest_v1_ExecRequest message = lima_guest_v1_ExecRequest_init_zero;
    scoped(exec_request_done) struct exec_request request = {0};
    struct text_list argv = {0}, env = {0};
    bool valid;
    int r;

    message.argv = (pb_callback_t){.funcs.decode = read_text, .arg = &argv};
    message.env = (pb_callback_t){.funcs.decode = read_text, .arg = &env};
    valid = wire_decode(body, len, lima_guest_v1_ExecRequest_fields, &message);
    request =
        (struct exec_request){.argv = argv.items,
                              .argc = argv.count,
                              .env = env.items,
                              .env_count = env.count,
                              .user = xstrdup(message.user),
                              .dir = xstrndup((const char *)message.dir.bytes, message.dir.size),
                              .pty = message.pty,
                              .rows = message.rows,
                              .columns = message.columns};
    if (!valid) {
        return error_set(err, EBADMSG, "malformed request");
    }
    r = check_request(&request, argv.zero || env.zero || strlen(request.dir) != message.dir.size,
                      err);
    if (r == 0) {
        *ret = request;
        request = (struct exec_request){0};
    }
    return r;
}

/* ---- input ---- */

static bool read_size(const uint8_t *body, size_t len, struct exec_input *ret)
{
    lima_guest_v1_WindowSize size = lima_guest_v1_WindowSize_init_zero;

    if (!wire_decode(body, len, lima_guest_v1_WindowSize_fields, &size)) {
        return false;
    }
    ret->kind = EXEC_INPUT_SIZE;
    ret->rows = size.rows;
    ret->columns = size.columns;
    return true;
}

static bool read_bytes(pb_istream_t *in, const uint8_t *end, uint32_t tag, struct exec_input *ret)
{
    uint32_t len;
    const uint8_t *data;

    if (!pb_decode_varint32(in, &len) || len > in->bytes_left) {
        return false;
    }
    data = end - in->bytes_left;
    if (!pb_read(in, NULL, len)) {
        return false;
    }
    if (tag == lima_guest_v1_ExecInput_data_tag) {
        ret->kind = EXEC_INPUT_DATA;
        ret->data = data;
        ret->len = len;
        return len <= EXEC_CHUNK_MAX;
    }
    return tag != lima_guest_v1_ExecInput_size_tag || read_size(data, len, ret);
}

static bool read_number(pb_istream_t *in, uint32_t tag, struct exec_input *ret)
{
    uint64_t number;

    if (!pb_decode_varint(in, &number)) {
        return false;
    }
    if (tag == lima_guest_v1_ExecInput_end_tag) {
        ret->kind = number ? EXEC_INPUT_END : EXEC_INPUT_NOTHING;
    } else if (tag == lima_guest_v1_ExecInput_signal_tag) {
        ret->kind = EXEC_INPUT_SIGNAL;
        ret->signal = number <= UINT32_MAX ? (uint32_t)number : 0;
    }
    return true;
}

bool exec_input_decode(const uint8_t *body, size_t len, struct exec_input *ret)
{
    pb_istream_t in = pb_istream_from_buffer(body, len);
    pb_wire_type_t type;
    uint32_t tag;
    bool eof = false;

    *ret = (struct exec_input){0};
    while (pb_decode_tag(&in, &type, &tag, &eof)) {
        bool ok = type == PB_WT_STRING   ? read_bytes(&in, body + len, tag, ret)
                  : type == PB_WT_VARINT ? read_number(&in, tag, ret)
                                         : pb_skip_field(&in, type);

        if (!ok) {
            return false;
        }
    }
    return eof;
}

/* ---- output ---- */

const uint8_t *exec_output_frame(enum exec_output_kind kind, uint8_t *data, size_t len,
                                 size_t *ret_len)
{
    uint8_t inner[1 + DELIMITED_PREFIX_MAX] = {(uint8_t)(kind << 3 | PB_WT_STRING)};
    size_t inner_len = 1 + delimited_prefix(inner + 1, len); /* a varint as any other */
    uint8_t outer[DELIMITED_PREFIX_MAX];
    size_t outer_len = delimited_prefix(outer, inner_len + len);

    memcpy(data - inner_len, inner, inner_len);
    memcpy(data - inner_len - outer_len, outer, outer_len);
    *ret_len = outer_len + inner_len + len;
    return data - inner_len - outer_len;
}

/* The body of an ExecOutput in a stream of its own, with the length before it. */
static size_t finish_control(const pb_ostream_t *body, const uint8_t *bytes, uint8_t *out)
{
    size_t prefix_len = delimited_prefix(out, body->bytes_written);

    memcpy(out + prefix_len, bytes, body->bytes_written);
    return prefix_len + body->bytes_written;
}

static size_t encode_number(uint32_t tag, uint64_t number, uint8_t *out)
{
    uint8_t bytes[EXEC_CONTROL_MAX - DELIMITED_PREFIX_MAX];
    pb_ostream_t body = pb_ostream_from_buffer(bytes, sizeof(bytes));
    bool fits = pb_encode_tag(&body, PB_WT_VARINT, tag) && pb_encode_varint(&body, number);

    assert(fits);
    return fits ? finish_control(&body, bytes, out) : 0;
}

size_t exec_taken_encode(uint64_t taken, uint8_t *out)
{
    return encode_number(lima_guest_v1_ExecOutput_taken_tag, taken, out);
}

size_t exec_closed_encode(uint8_t *out)
{
    return encode_number(lima_guest_v1_ExecOutput_closed_tag, 1, out);
}

size_t exec_exit_encode(uint32_t status, uint32_t signal, bool core, uint8_t *out)
{
    lima_guest_v1_ExecExit message = {.status = status, .signal = signal, .core = core};
    uint8_t bytes[EXEC_CONTROL_MAX - DELIMITED_PREFIX_MAX];
    pb_ostream_t body = pb_ostream_from_buffer(bytes, sizeof(bytes));
    bool fits = pb_encode_tag(&body, PB_WT_STRING, lima_guest_v1_ExecOutput_exit_tag) &&
                pb_encode_submessage(&body, lima_guest_v1_ExecExit_fields, &message);

    assert(fits);
    return fits ? finish_control(&body, bytes, out) : 0;
}
