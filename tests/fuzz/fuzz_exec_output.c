/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input is what a guest answers to a command. What must hold: output, end and outcome do not
 * depend on how the bytes were cut, there is one end at most, and it is a status.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fuzz.h"
#include "peer/exec.h"

struct outcome {
    struct buf out, err;
    int accepted, exits, status, result;
    size_t room;
};

static void on_accepted(void *arg)
{
    ((struct outcome *)arg)->accepted++;
}

static void on_output(bool is_stderr, const void *data, size_t len, void *arg)
{
    struct outcome *o = arg;

    CHECK(o->accepted == 1 && !o->exits);
    buf_put(is_stderr ? &o->err : &o->out, data, len);
}

static void on_exited(const struct peer_exec_exit *end, void *arg)
{
    struct outcome *o = arg;

    CHECK(end->status >= 0 && end->status <= 255 && end->signal >= 0 && end->signal <= 64);
    o->exits++;
    o->status = end->status;
}

static const struct peer_exec_events events = {on_accepted, on_output, on_exited};

static void run(const uint8_t *data, size_t size, size_t step, struct outcome *o)
{
    static const char *const argv[] = {"true", NULL};
    static const char input[1000];
    const struct peer_exec_request request = {.argv = argv, .user = "", .dir = ""};
    scoped(peer_exec_free) struct peer_exec *exec = NULL;

    CHECK(peer_exec_new(&request, &events, o, &exec, NULL) == 0);
    peer_exec_send(exec, input, sizeof(input));
    for (size_t at = 0; at < size && o->result == 0; at += step) {
        o->result = peer_exec_take(exec, data + at, MIN(step, size - at), NULL);
    }
    CHECK(o->exits <= 1 && o->accepted <= 1);
    o->room = peer_exec_room(exec);
    CHECK(o->room <= PEER_EXEC_WINDOW);
}

static bool same(const struct buf *a, const struct buf *b)
{
    return a->len == b->len && (!a->len || memcmp(a->data, b->data, a->len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole = {0}, bytes = {0};

    run(data, size, size ? size : 1, &whole);
    run(data, size, 1, &bytes);
    CHECK(same(&whole.out, &bytes.out) && same(&whole.err, &bytes.err));
    CHECK(whole.exits == bytes.exits && whole.status == bytes.status);
    CHECK(whole.result == bytes.result && whole.room == bytes.room);
    buf_done(&whole.out);
    buf_done(&whole.err);
    buf_done(&bytes.out);
    buf_done(&bytes.err);
    return 0;
}
