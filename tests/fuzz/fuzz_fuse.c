/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input is a row of requests for a file server: opcode, node, length of the body (two bytes),
 * body; the first byte of the input says whether the folder is writable (1), and whether the guest
 * replays what the host does (2) and takes answers ahead (4). The highest bit of a node marks a
 * request as replayed; two opcodes that are none have the host rename its file. What must hold:
 * each request has one answer, with its number and a length that fits; nothing beside the shared
 * folder changes; a folder that is not writable stays as it was.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "fuzz.h"
#include "lima/mount.h"
#include "mount/fuse_server.h"
#include "mount/fuse_wire.h"
#include "util/path.h"
#include "world.h"

#define MARK 0x80
#define MOVE 0xf0 /* and the next one: back */

static void ask(struct fuse_server *server, uint32_t opcode, uint64_t unique, uint8_t node_byte,
                const uint8_t *body, size_t len)
{
    uint64_t node = (node_byte & ~MARK) == 0x7f ? LIMA_REPLAY_ELSEWHERE_NODE : node_byte & ~MARK;
    const uint16_t mark = node_byte & MARK ? LIMA_MOUNT_REPLAYED : 0;
    struct fuse_in_header head = {
        .len = (uint32_t)(sizeof(head) + len), .opcode = opcode, .unique = unique, .nodeid = node};
    scoped(free) uint8_t *message = xmalloc(head.len);
    scoped(buf_done) struct buf out = BUF_INIT_CAP(4u << 20);
    struct fuse_out_header answer;

    memcpy(message, &head, sizeof(head));
    memcpy(message + LIMA_MOUNT_REPLAYED_OFFSET, &mark, sizeof(mark));
    memcpy(message + sizeof(head), body, len);
    if (fuse_server_message(server, message, head.len, &out) < 0) {
        CHECK(out.len == 0);
        return;
    }
    CHECK(out.len >= sizeof(answer));
    memcpy(&answer, out.data, sizeof(answer));
    while (!answer.unique && answer.error == LIMA_MOUNT_AHEAD) {
        CHECK(answer.len <= out.len);
        buf_drop(&out, answer.len);
        CHECK(out.len >= sizeof(answer));
        memcpy(&answer, out.data, sizeof(answer));
    }
    CHECK(answer.len <= out.len && answer.unique == unique && answer.error <= 0);
    CHECK(answer.error == 0 || answer.len == sizeof(answer));
    for (buf_drop(&out, answer.len); out.len; buf_drop(&out, answer.len)) { /* notifications */
        CHECK(out.len >= sizeof(answer));
        memcpy(&answer, out.data, sizeof(answer));
        CHECK(answer.len >= sizeof(answer) && answer.len <= out.len && answer.unique == 0);
    }
}

/* The guest agent takes answers ahead. */
static void greet(struct fuse_server *server)
{
    struct {
        struct fuse_in_header head;
        uint64_t count, can;
    } hello = {.head = {.len = sizeof(hello), .opcode = LIMA_MOUNT_ACK},
               .can = LIMA_MOUNT_CAN_AHEAD};
    scoped(buf_done) struct buf out = BUF_INIT;

    CHECK(fuse_server_message(server, &hello, sizeof(hello), &out) == 0);
    CHECK(out.len > 0);
}

static void play(struct fuse_server *server, const char *file, const char *other,
                 const uint8_t *data, size_t size)
{
    const struct fuse_init_in init = {.major = 7, .minor = 38, .flags = UINT32_MAX};
    uint64_t unique = 2;

    ask(server, FUSE_INIT, unique, 0, (const uint8_t *)&init, sizeof(init));
    while (size >= 4) {
        size_t len = MIN((size_t)(data[2] | data[3] << 8), size - 4);

        unique += 2;
        if (data[0] == MOVE || data[0] == MOVE + 1) {
            rename(data[0] == MOVE ? file : other, data[0] == MOVE ? other : file);
        } else {
            ask(server, data[0], unique, data[1], data + 4, len);
        }
        data += 4 + len;
        size -= 4 + len;
    }
    fuse_server_idle(server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuse_server_options options = {.fd_max = 16, .cache_ms = 1000};
    struct fuse_server *server = NULL;
    scoped(free) char *other = NULL, *state = NULL;
    struct world world;

    world_begin(&world, "fuse", size > 0 && data[0] & 1);
    other = path_join(world.shared, "b");
    state = path_join(world.top, "state");
    options.tree = world.tree;
    options.state = state;
    CHECK(fuse_server_new(&options, &server, NULL) == 0);
    if (size > 0) {
        fuse_server_set_events(server, data[0] & 2);
        if (data[0] & 4) {
            greet(server);
        }
        play(server, world.file, other, data + 1, size - 1);
    }
    fuse_server_free(server);
    CHECK(unlink(state) == 0);
    world_end(&world);
    return 0;
}
