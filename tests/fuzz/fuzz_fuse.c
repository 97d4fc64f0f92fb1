/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input is a row of requests for a file server: opcode, node, length of the body (two bytes),
 * body; the first byte of the input says whether the folder is writable (1), and whether the guest
 * replays what the host does (2). The highest bit of a node marks a request as replayed; two
 * opcodes that are none have the host rename its file. What must hold: each request has one answer,
 * with its number and a length that fits; nothing beside the shared folder changes; a folder that
 * is not writable stays as it was.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "fuzz.h"
#include "lima/mount.h"
#include "mount/fuse_server.h"
#include "mount/fuse_wire.h"
#include "util/file.h"
#include "util/path.h"

#define FILE_MAX (4u << 20)
#define MARK     0x80
#define MOVE     0xf0 /* and the next one: back */

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __func__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static size_t count_entries(const char *path)
{
    DIR *dir = opendir(path);
    size_t count = 0;

    CHECK(dir);
    while (readdir(dir)) {
        count++;
    }
    closedir(dir);
    return count;
}

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
    if (fuse_server_message(server, message, head.len, &out) < 0 || opcode == FUSE_INTERRUPT) {
        CHECK(out.len == 0);
        return;
    }
    CHECK(out.len >= sizeof(answer));
    memcpy(&answer, out.data, sizeof(answer));
    CHECK(answer.len <= out.len && answer.unique == unique && answer.error <= 0);
    CHECK(answer.error == 0 || answer.len == sizeof(answer));
    for (buf_drop(&out, answer.len); out.len; buf_drop(&out, answer.len)) { /* notifications */
        CHECK(out.len >= sizeof(answer));
        memcpy(&answer, out.data, sizeof(answer));
        CHECK(answer.len >= sizeof(answer) && answer.len <= out.len && answer.unique == 0);
    }
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

/* Not for files of the fuzzer itself, which are small. */
static void limit_files(void)
{
    const struct rlimit limit = {FILE_MAX, FILE_MAX};

    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char top[] = "/tmp/fuzz-fuse-XXXXXX";
    scoped(free) char *shared = NULL, *file = NULL, *other = NULL, *state = NULL, *canary = NULL;
    struct fuse_server_options options = {.fd_max = 16, .cache_ms = 1000};
    struct fuse_server *server = NULL;
    struct tree *tree = NULL;
    bool writable = size > 0 && data[0] & 1;

    log_set_level(LOG_LEVEL_FATAL);
    limit_files();
    CHECK(mkdtemp(top));
    shared = path_join(top, "shared");
    file = path_join(shared, "a");
    other = path_join(shared, "b");
    state = path_join(top, "state");
    canary = path_join(top, "canary");
    CHECK(mkdir(shared, 0700) == 0);
    CHECK(file_write_text(file, "text", 0600, NULL) == 0);
    CHECK(file_write_text(canary, "sings", 0600, NULL) == 0);
    CHECK(tree_open(shared, writable, &tree, NULL) == 0);
    options.tree = tree;
    options.state = state;
    CHECK(fuse_server_new(&options, &server, NULL) == 0);
    if (size > 0) {
        fuse_server_set_events(server, data[0] & 2);
        play(server, file, other, data + 1, size - 1);
    }
    fuse_server_free(server);
    tree_free(tree);
    CHECK(count_entries(top) == 5);
    CHECK(writable || count_entries(shared) == 3);
    CHECK(file_remove_tree(top, NULL) == 0);
    return 0;
}
