/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the mux costs by itself: two of them in one process, bytes handed from one's output to the
 * other's input in pieces as large as one read or write of the transport. Prints MB/s per case,
 * then microseconds per round trip of a small message. Nothing is compared: numbers are for people
 * and for the record.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "mux/mux.h"

#define TOTAL    (512u << 20)
#define MESSAGES 200000
#define CHUNK    65536
#define WARM_UP  1000
#define MANY     64

struct end {
    struct mux *mux;
    struct mux_stream *stream; /* the last that was opened */
    uint64_t got;
    bool echo;
};

static uint8_t chunk[CHUNK];

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void on_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct end *end = arg;

    end->got += len;
    mux_stream_consumed(stream, len);
    if (end->echo) {
        mux_stream_write(stream, data, len);
    }
}

/* As much as goes: a short write brings the next call. */
static void write_on(struct mux_stream *stream)
{
    while (mux_stream_write(stream, chunk, sizeof(chunk)) == sizeof(chunk)) {
    }
}

static void on_writable(struct mux_stream *stream, void *arg)
{
    write_on(stream);
}

static const struct mux_stream_ops quiet_ops = {.data = on_data};
static const struct mux_stream_ops busy_ops = {.data = on_data, .writable = on_writable};

static void on_opened(struct mux *mux, struct mux_stream *stream, void *arg)
{
    struct end *end = arg;

    end->stream = stream;
    mux_stream_set_ops(stream, &quiet_ops, end);
}

static void on_output(struct mux *mux, void *arg)
{
}

static const struct mux_ops mux_ops = {.opened = on_opened, .output = on_output};

/* Hands over at most @piece bytes; false when there was nothing. */
static bool hand_over(struct end *from, struct end *to, size_t piece)
{
    static uint8_t wire[1u << 20];
    const void *data;
    size_t len = 0, n;

    while (len < piece && (n = mux_output(from->mux, &data)) > 0) {
        n = n < piece - len ? n : piece - len;
        memcpy(wire + len, data, n); /* the transport's own copy */
        mux_output_done(from->mux, n);
        len += n;
    }
    if (len > 0) {
        mux_input(to->mux, wire, len);
    }
    return len > 0;
}

static void pump(struct end *a, struct end *b, size_t piece)
{
    bool more = true;

    while (more) {
        more = hand_over(a, b, piece);
        more = hand_over(b, a, piece) || more;
    }
}

static void ends_open(struct end *host, struct end *guest)
{
    *host = (struct end){.mux = mux_new(MUX_ROLE_HOST, &mux_ops, host)};
    *guest = (struct end){.mux = mux_new(MUX_ROLE_GUEST, &mux_ops, guest)};
    mux_start(host->mux, false);
    mux_start(guest->mux, false);
    pump(host, guest, CHUNK);
    if (!mux_is_up(host->mux) || !mux_is_up(guest->mux)) {
        fprintf(stderr, "no session\n");
        exit(1);
    }
}

static void ends_close(struct end *host, struct end *guest)
{
    mux_free(host->mux);
    mux_free(guest->mux);
}

static void throughput(size_t piece, int streams)
{
    struct end host, guest;
    double start, seconds;

    ends_open(&host, &guest);
    for (int i = 0; i < streams; i++) {
        write_on(mux_open(host.mux, &busy_ops, &host));
    }
    start = now();
    while (guest.got < TOTAL) {
        hand_over(&host, &guest, piece);
        hand_over(&guest, &host, piece);
    }
    seconds = now() - start;
    printf("throughput  pieces of %6zu bytes, %2d streams: %7.0f MB/s\n", piece, streams,
           (double)guest.got / seconds / 1e6);
    ends_close(&host, &guest);
}

static void round_trips(size_t size)
{
    struct end host, guest;
    struct mux_stream *stream;
    double start = 0;

    ends_open(&host, &guest);
    stream = mux_open(host.mux, &quiet_ops, &host);
    pump(&host, &guest, CHUNK);
    guest.echo = true;
    for (int i = -WARM_UP; i < MESSAGES; i++) {
        if (i == 0) {
            start = now();
        }
        mux_stream_write_all(stream, chunk, size);
        pump(&host, &guest, CHUNK);
    }
    printf("round trip  messages of %4zu bytes:             %7.2f us\n", size,
           (now() - start) / MESSAGES * 1e6);
    if (host.got != (uint64_t)size * (MESSAGES + WARM_UP)) {
        fprintf(stderr, "bytes were lost\n");
        exit(1);
    }
    ends_close(&host, &guest);
}

static void open_and_close(void)
{
    struct end host, guest;
    double start = now();

    ends_open(&host, &guest);
    for (int i = 0; i < MESSAGES; i++) {
        struct mux_stream *stream = mux_open(host.mux, &quiet_ops, &host);

        mux_stream_write_all(stream, chunk, 64);
        mux_stream_finish(stream);
        pump(&host, &guest, CHUNK);
        mux_stream_finish(guest.stream);
        pump(&host, &guest, CHUNK);
    }
    printf("stream      opened, written and closed:         %7.2f us\n",
           (now() - start) / MESSAGES * 1e6);
    ends_close(&host, &guest);
}

int main(void)
{
    static const size_t pieces[] = {4096, 32768, 131072};

    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        throughput(pieces[i], 1);
        throughput(pieces[i], MANY);
    }
    round_trips(16);
    round_trips(1000);
    open_and_close();
    return 0;
}
