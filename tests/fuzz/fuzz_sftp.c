/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input is a row of SFTP requests for a file server: type, length of what follows the number
 * (two bytes), and that; the first byte of the input says whether the folder is writable (1), and
 * whether links are followed (2). What must hold: each request has one answer, with its number and
 * a length that fits, which does not hold the canary's text; see world.h.
 */
#include <endian.h>
#include <string.h>
#include "base/alloc.h"
#include "fuzz.h"
#include "mount/sftp_server.h"
#include "mount/sftp_wire.h"
#include "world.h"

static void check_answer(const struct buf *out, uint32_t id)
{
    uint32_t said;

    CHECK(sftp_message_len(out->data, out->len) == (int)out->len);
    CHECK(out->len >= 9);
    memcpy(&said, out->data + 5, sizeof(said));
    CHECK(be32toh(said) == id);
    CHECK(!memmem(out->data, out->len, WORLD_SECRET, strlen(WORLD_SECRET)));
}

static void ask(struct sftp_server *server, uint8_t type, uint32_t id, const uint8_t *body,
                size_t len)
{
    scoped(buf_done) struct buf message = BUF_INIT, out = BUF_INIT_CAP(1u << 20);
    size_t begin = sftp_reply_begin(&message, type, id);

    buf_put(&message, body, len);
    sftp_reply_end(&message, begin);
    CHECK(sftp_message_len(message.data, message.len) == (int)message.len);
    CHECK(sftp_server_message(server, message.data, message.len, &out) == 0);
    check_answer(&out, type == SFTP_INIT ? SFTP_VERSION : id);
}

static void play(struct sftp_server *server, const uint8_t *data, size_t size)
{
    uint32_t id = 1;

    ask(server, SFTP_INIT, SFTP_VERSION, NULL, 0);
    while (size >= 3) {
        size_t len = MIN((size_t)(data[1] | data[2] << 8), size - 3);

        ask(server, data[0], ++id, data + 3, len);
        data += 3 + len;
        size -= 3 + len;
    }
    CHECK(sftp_server_open_count(server) <= SFTP_HANDLES_MAX);
    sftp_server_restart(server);
    CHECK(sftp_server_open_count(server) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sftp_server *server;
    struct world world;

    world_begin(&world, "sftp", size > 0 && data[0] & 1);
    server = sftp_server_new(world.tree, size > 0 && data[0] & 2);
    if (size > 0) {
        play(server, data + 1, size - 1);
    }
    sftp_server_free(server);
    world_end(&world);
    return 0;
}
