/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes by a vsock connection: its beginning, what an Info says of it, and segments cut into
 * pieces, the length of each given by the byte before it. What must hold: the stream gets no byte
 * that was not in a segment, and its end or its reset once.
 */
#include <stdbool.h>
#include <stdlib.h>
#include "fuzz.h"
#include "mux/direct.h"
#include "peer/greeter.h"
#include "peer/wire.h"

static struct {
    size_t fed, got;
    bool fin, closed;
} seen;

static void on_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    seen.got += len;
    if (seen.fin || seen.closed || seen.got > seen.fed) {
        abort();
    }
    mux_stream_consumed(stream, len);
}

static void on_fin(struct mux_stream *stream, void *arg)
{
    if (seen.fin || seen.closed) {
        abort();
    }
    seen.fin = true;
}

static void on_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    if (seen.closed) {
        abort();
    }
    seen.closed = true;
}

static const struct mux_stream_ops stream_ops = {
    .data = on_data, .fin = on_fin, .closed = on_closed};

static void on_opened(struct mux *mux, struct mux_stream *stream, void *arg)
{
    mux_stream_set_ops(stream, &stream_ops, NULL);
}

static void on_output(struct mux *mux, void *arg)
{
}

static const struct mux_ops mux_ops = {.opened = on_opened, .output = on_output};

static void try_segments(const uint8_t *data, size_t len)
{
    struct mux *mux = direct_new(DIRECT_FORM_SEGMENTED, &mux_ops, NULL);

    direct_accept(mux);
    while (len && direct_state(mux) != DIRECT_STATE_BROKEN) {
        size_t n = *data++;

        len--;
        n = MIN(n, MIN(len, direct_room(mux)));
        seen.fed += n;
        direct_input(mux, data, n);
        data += n;
        len -= n;
    }
    if (direct_state(mux) != DIRECT_STATE_BROKEN) {
        direct_end(mux);
    }
    mux_free(mux);
    if (!seen.closed) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const uint8_t key[GREETING_KEY_LEN] = "0123456789abcdef";
    struct wire_vsock told;

    seen.fed = seen.got = 0;
    seen.fin = seen.closed = false;
    greeter_parse(true, data, len, key);
    greeter_parse(false, data, len, key);
    if (wire_vsock_decode(data, len, &told) > 0 && !told.port) {
        abort();
    }
    try_segments(data, len);
    return 0;
}
