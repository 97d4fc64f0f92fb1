/* SPDX-License-Identifier: Apache-2.0 */
#include "bpf.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/alloc.h"
#include "files.h"
#include "portset.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define STATE_LISTEN  10
#define RING_SIZE     4096 /* 170 notices of LISTEN, 102 of binds; a full ring loses some */
#define LOG_SIZE      1024
#define RECORD_HEADER 8
#define MOUNTS_MAX    (256u << 10)
#define UNSEEN_MAX    256

struct listen_notice {
    uint64_t socket; /* where it is in the kernel's memory: the same at its coming and leaving */
    uint32_t old_state;
    uint32_t new_state;
};

struct bind_notice {
    uint64_t cookie;
    uint32_t port; /* host order */
    uint32_t address_len;
    uint8_t address[16];
};

struct hook { /* a loaded program and where it hangs; -1: none */
    int prog_fd;
    int link_fd;
};

struct ring {
    int map_fd;
    size_t page;
    _Atomic unsigned long *consumer;
    void *producer_map; /* page with the producer's position, then the ring twice */
};

struct bpf {
    struct ring listens, binds;
    struct hook listen;
    struct hook bind[2];         /* IPv4, IPv6 */
    uint64_t unseen[UNSEEN_MAX]; /* listeners that no look has shown */
    size_t unseen_count;
    size_t missed; /* the first of them: there was a look, which did not show them */
    bool left;     /* another listener has left since the last look, or notices were lost */
};

static int sys_bpf(int cmd, union bpf_attr *attr)
{
    return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

/* Instructions by hand; names after the kernel's assembler. */
#define INSN(c, d, s, o, i)                                                                        \
    ((struct bpf_insn){.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i)})
#define LOAD64(dst, src, off)      INSN(BPF_LDX | BPF_MEM | BPF_DW, dst, src, off, 0)
#define STORE64(dst, off, src)     INSN(BPF_STX | BPF_MEM | BPF_DW, dst, src, off, 0)
#define LOAD32(dst, src, off)      INSN(BPF_LDX | BPF_MEM | BPF_W, dst, src, off, 0)
#define STORE32(dst, off, src)     INSN(BPF_STX | BPF_MEM | BPF_W, dst, src, off, 0)
#define STORE32_IMM(dst, off, imm) INSN(BPF_ST | BPF_MEM | BPF_W, dst, 0, off, imm)
#define MOVE(dst, src)             INSN(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
#define MOVE_IMM(dst, imm)         INSN(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm)
#define ADD_IMM(dst, imm)          INSN(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, imm)
#define JUMP_EQ(dst, imm, off)     INSN(BPF_JMP | BPF_JEQ | BPF_K, dst, 0, off, imm)
#define JUMP_NE(dst, imm, off)     INSN(BPF_JMP | BPF_JNE | BPF_K, dst, 0, off, imm)
#define JUMP_NE_REG(dst, src, off) INSN(BPF_JMP | BPF_JNE | BPF_X, dst, src, off, 0)
#define JUMP_LT(dst, imm, off)     INSN(BPF_JMP | BPF_JLT | BPF_K, dst, 0, off, imm)
#define JUMP_LE(dst, imm, off)     INSN(BPF_JMP | BPF_JLE | BPF_K, dst, 0, off, imm)
#define LOAD_IMM64(dst, value)                                                                     \
    INSN(BPF_LD | BPF_DW | BPF_IMM, dst, 0, 0, (int32_t)(uint32_t)(value)),                        \
        INSN(0, 0, 0, 0, (int32_t)(uint32_t)((value) >> 32))
#define LOAD_MAP_FD(dst, fd)                                                                       \
    INSN(BPF_LD | BPF_DW | BPF_IMM, dst, BPF_PSEUDO_MAP_FD, 0, fd), INSN(0, 0, 0, 0, 0)
#define CALL(function) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, function)
#define EXIT()         INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
/*
 * The notice of @size bytes that was put on top of the stack goes into the ring, which wakes us
 * when we have read all before it.
 */
#define OUTPUT_NOTICE(map_fd, size)                                                                \
    LOAD_MAP_FD(BPF_REG_1, map_fd), MOVE(BPF_REG_2, BPF_REG_10),                                   \
        ADD_IMM(BPF_REG_2, -(int32_t)(size)), MOVE_IMM(BPF_REG_3, size), MOVE_IMM(BPF_REG_4, 0),   \
        CALL(BPF_FUNC_ringbuf_output)
#define OUTPUT_NOTICE_LEN 7

/* The verifier's words are asked for only when it has refused: they may not fit, which fails too.
 */
static int load_program(const struct bpf_insn *insns, size_t count, uint32_t type,
                        uint32_t attach_type, struct hook *hook, struct error *err)
{
    char log[LOG_SIZE] = "";
    union bpf_attr attr = {.prog_type = type,
                           .expected_attach_type = attach_type,
                           .insns = (uintptr_t)insns,
                           .insn_cnt = (uint32_t)count,
                           .license = (uintptr_t) "Apache-2.0",
                           .prog_name = "lima_ports"};
    int code;

    hook->prog_fd = sys_bpf(BPF_PROG_LOAD, &attr);
    if (hook->prog_fd >= 0) {
        return 0;
    }
    code = errno;
    attr.log_buf = (uintptr_t)log;
    attr.log_size = sizeof(log);
    attr.log_level = 1;
    hook->prog_fd = sys_bpf(BPF_PROG_LOAD, &attr);
    return hook->prog_fd >= 0 ? 0 : error_errno(err, code, "loading the BPF program (%s)", log);
}

static void unhook(struct hook *hook)
{
    fd_close(hook->link_fd);
    fd_close(hook->prog_fd);
    *hook = (struct hook){-1, -1};
}

/* ---- LISTEN ---- */

/* Arguments of the tracepoint: sk, old state, new state, each 8 bytes. */
static int load_listen(struct bpf *bpf, struct error *err)
{
    const struct bpf_insn program[] = {
        LOAD64(BPF_REG_6, BPF_REG_1, 8),
        LOAD64(BPF_REG_7, BPF_REG_1, 16),
        JUMP_EQ(BPF_REG_6, STATE_LISTEN, 1),
        JUMP_NE(BPF_REG_7, STATE_LISTEN, 4 + OUTPUT_NOTICE_LEN),
        LOAD64(BPF_REG_8, BPF_REG_1, 0),
        STORE64(BPF_REG_10, -16, BPF_REG_8),
        STORE32(BPF_REG_10, -8, BPF_REG_6),
        STORE32(BPF_REG_10, -4, BPF_REG_7),
        OUTPUT_NOTICE(bpf->listens.map_fd, sizeof(struct listen_notice)),
        MOVE_IMM(BPF_REG_0, 0),
        EXIT(),
    };

    return load_program(program, ARRAY_LEN(program), BPF_PROG_TYPE_RAW_TRACEPOINT, 0, &bpf->listen,
                        err);
}

static int attach_listen(struct bpf *bpf, struct error *err)
{
    union bpf_attr attr = {.raw_tracepoint = {.name = (uintptr_t) "inet_sock_set_state",
                                              .prog_fd = (uint32_t)bpf->listen.prog_fd}};

    bpf->listen.link_fd = sys_bpf(BPF_RAW_TRACEPOINT_OPEN, &attr);
    if (bpf->listen.link_fd < 0) {
        return error_errno(err, errno, "attaching the BPF program");
    }
    return 0;
}

/* ---- binds ---- */

/* The kernel's number of our network namespace; 0 before Linux 5.14, then all are noticed. */
static uint64_t own_netns(void)
{
    scoped(fd_close) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    uint64_t cookie = 0;
    socklen_t len = sizeof(cookie);

    return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

/* A word of the address; of IPv4 there is but the first. */
#define ADDRESS_WORD(is6, n)                                                                       \
    LOAD32(BPF_REG_8, BPF_REG_6,                                                                   \
           (int16_t)((is6) ? offsetof(struct bpf_sock, src_ip6) + 4 * (n)                          \
                           : offsetof(struct bpf_sock, src_ip4))),                                 \
        STORE32(BPF_REG_10, -16 + 4 * (n), BPF_REG_8)
#define ADDRESS_LEN 8

static int load_bind(const struct bpf *bpf, uint32_t attach_type, uint16_t first, uint16_t last,
                     struct hook *hook, struct error *err)
{
    const uint64_t cookie = own_netns();
    const bool is6 = attach_type == BPF_CGROUP_INET6_POST_BIND;
    const struct bpf_insn program[] = {
        MOVE(BPF_REG_6, BPF_REG_1),
        LOAD32(BPF_REG_7, BPF_REG_6, offsetof(struct bpf_sock, protocol)),
        JUMP_NE(BPF_REG_7, IPPROTO_UDP, 13 + ADDRESS_LEN + OUTPUT_NOTICE_LEN),
        MOVE(BPF_REG_1, BPF_REG_6),
        CALL(BPF_FUNC_get_netns_cookie),
        LOAD_IMM64(BPF_REG_1, cookie),
        JUMP_NE_REG(BPF_REG_0, BPF_REG_1, cookie ? 8 + ADDRESS_LEN + OUTPUT_NOTICE_LEN : 0),
        LOAD32(BPF_REG_7, BPF_REG_6, offsetof(struct bpf_sock, src_port)),
        JUMP_LT(BPF_REG_7, first, 1),
        JUMP_LE(BPF_REG_7, last, 5 + ADDRESS_LEN + OUTPUT_NOTICE_LEN),
        MOVE(BPF_REG_1, BPF_REG_6),
        CALL(BPF_FUNC_get_socket_cookie),
        STORE64(BPF_REG_10, -32, BPF_REG_0),
        STORE32(BPF_REG_10, -24, BPF_REG_7),
        STORE32_IMM(BPF_REG_10, -20, is6 ? 16 : 4),
        ADDRESS_WORD(is6, 0),
        ADDRESS_WORD(is6, 1),
        ADDRESS_WORD(is6, 2),
        ADDRESS_WORD(is6, 3),
        OUTPUT_NOTICE(bpf->binds.map_fd, sizeof(struct bind_notice)),
        MOVE_IMM(BPF_REG_0, 1), /* the bind() stands */
        EXIT(),
    };

    return load_program(program, ARRAY_LEN(program), BPF_PROG_TYPE_CGROUP_SOCK, attach_type, hook,
                        err);
}

/* The mount point of the unified hierarchy in /proc/self/mounts: "DEVICE PATH TYPE ..." a line. */
static int open_cgroup_root(struct error *err)
{
    scoped(free) char *mounts = files_read("/proc/self/mounts", MOUNTS_MAX, err);
    char *rest = mounts, *line;

    while (rest && (line = strsep(&rest, "\n"))) {
        const char *path, *type;

        strsep(&line, " ");
        path = strsep(&line, " ");
        type = strsep(&line, " ");
        if (type && strcmp(type, "cgroup2") == 0) {
            int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

            return fd < 0 ? error_errno(err, errno, "opening '%s'", path) : fd;
        }
    }
    return mounts ? error_set(err, ENOENT, "no unified cgroup hierarchy is mounted") : -ENOENT;
}

static int attach_bind(int cgroup_fd, uint32_t attach_type, struct hook *hook, struct error *err)
{
    union bpf_attr attr = {.link_create = {.prog_fd = (uint32_t)hook->prog_fd,
                                           .target_fd = (uint32_t)cgroup_fd,
                                           .attach_type = attach_type}};

    hook->link_fd = sys_bpf(BPF_LINK_CREATE, &attr);
    if (hook->link_fd < 0) {
        return error_errno(err, errno, "attaching the BPF program to the cgroup");
    }
    return 0;
}

int bpf_watch_binds(struct bpf *bpf, uint16_t first, uint16_t last, struct error *err)
{
    static const uint32_t types[] = {BPF_CGROUP_INET4_POST_BIND, BPF_CGROUP_INET6_POST_BIND};
    scoped(fd_close) int cgroup_fd = open_cgroup_root(err);
    int r = MIN(cgroup_fd, 0);

    unhook(&bpf->bind[0]);
    unhook(&bpf->bind[1]);
    for (size_t i = 0; i < ARRAY_LEN(types) && r == 0; i++) {
        r = load_bind(bpf, types[i], first, last, &bpf->bind[i], err);
        r = r < 0 ? r : attach_bind(cgroup_fd, types[i], &bpf->bind[i], err);
    }
    if (r < 0) {
        unhook(&bpf->bind[0]);
        unhook(&bpf->bind[1]);
    }
    return r;
}

/* ---- the ring ---- */

static void ring_close(struct ring *ring)
{
    if (ring->consumer) {
        munmap((void *)ring->consumer, ring->page);
    }
    if (ring->producer_map) {
        munmap(ring->producer_map, ring->page + 2 * MAX(RING_SIZE, ring->page));
    }
    fd_close(ring->map_fd);
}

static int ring_open(struct ring *ring, struct error *err)
{
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_RINGBUF,
                           .max_entries = (uint32_t)MAX(RING_SIZE, ring->page),
                           .map_name = "lima_ports"};
    void *consumer;

    ring->map_fd = sys_bpf(BPF_MAP_CREATE, &attr);
    if (ring->map_fd < 0) {
        return error_errno(err, errno, "making a BPF ring buffer");
    }
    consumer = mmap(NULL, ring->page, PROT_READ | PROT_WRITE, MAP_SHARED, ring->map_fd, 0);
    if (consumer == MAP_FAILED) {
        return error_errno(err, errno, "mapping a BPF ring buffer");
    }
    ring->consumer = consumer;
    ring->producer_map = mmap(NULL, ring->page + 2 * MAX(RING_SIZE, ring->page), PROT_READ,
                              MAP_SHARED, ring->map_fd, (off_t)ring->page);
    if (ring->producer_map == MAP_FAILED) {
        ring->producer_map = NULL;
        return error_errno(err, errno, "mapping a BPF ring buffer");
    }
    return 0;
}

/* Hands out all notices of @size bytes. False when one may have found no room. */
static bool ring_read(struct ring *ring, size_t size,
                      void (*fn)(struct bpf *bpf, const void *notice, void *arg), struct bpf *bpf,
                      void *arg)
{
    const size_t whole = MAX(RING_SIZE, ring->page);
    const char *bytes = (const char *)ring->producer_map + ring->page;
    _Atomic unsigned long *producer = ring->producer_map;
    unsigned long at = atomic_load_explicit(ring->consumer, memory_order_relaxed);
    bool fitted =
        atomic_load_explicit(producer, memory_order_acquire) - at + size + RECORD_HEADER < whole;

    while (at < atomic_load_explicit(producer, memory_order_acquire)) {
        const char *record = bytes + (at & (whole - 1));
        uint32_t len =
            atomic_load_explicit((_Atomic uint32_t *)(uintptr_t)record, memory_order_acquire);

        if (len & BPF_RINGBUF_BUSY_BIT) {
            break;
        }
        if (!(len & BPF_RINGBUF_DISCARD_BIT)) {
            fn(bpf, record + RECORD_HEADER, arg);
        }
        len &= ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
        at += (len + RECORD_HEADER + 7) / 8 * 8;
        atomic_store_explicit(ring->consumer, at, memory_order_release);
    }
    return fitted;
}

/* ---- what was noticed ---- */

static void add_unseen(struct bpf *bpf, uint64_t socket)
{
    if (bpf->unseen_count < UNSEEN_MAX) {
        bpf->unseen[bpf->unseen_count++] = socket;
    } else {
        bpf->left = true; /* as it will be */
    }
}

static bool take_unseen(struct bpf *bpf, uint64_t socket)
{
    for (size_t i = 0; i < bpf->unseen_count; i++) {
        if (bpf->unseen[i] == socket) {
            bpf->unseen_count--;
            bpf->missed -= i < bpf->missed;
            memmove(&bpf->unseen[i], &bpf->unseen[i + 1],
                    (bpf->unseen_count - i) * sizeof(bpf->unseen[0]));
            return true;
        }
    }
    return false;
}

static void on_listen_notice(struct bpf *bpf, const void *record, void *arg)
{
    struct bpf_listens *listens = arg;
    struct listen_notice notice;

    memcpy(&notice, record, sizeof(notice));
    listens->any = true;
    if (notice.old_state == STATE_LISTEN) {
        listens->change--;
        bpf->left = !take_unseen(bpf, notice.socket) || bpf->left;
    }
    if (notice.new_state == STATE_LISTEN) {
        listens->change++;
        add_unseen(bpf, notice.socket);
    }
}

struct bpf_listens bpf_read_listens(struct bpf *bpf)
{
    struct bpf_listens listens = {0};
    bool fitted =
        ring_read(&bpf->listens, sizeof(struct listen_notice), on_listen_notice, bpf, &listens);

    bpf->left = bpf->left || !fitted;
    listens.left = bpf->left;
    listens.came = bpf->unseen_count > bpf->missed;
    return listens;
}

void bpf_listens_looked(struct bpf *bpf, bool changed)
{
    if (changed || bpf->left) {
        bpf->unseen_count = 0;
    }
    bpf->missed = bpf->unseen_count;
    bpf->left = false;
}

struct binds_reader {
    bpf_bind_fn *fn;
    void *arg;
    bool any;
};

static void on_bind_notice(struct bpf *bpf, const void *record, void *arg)
{
    struct binds_reader *reader = arg;
    scoped(portset_done) struct portset one = {0};
    struct bind_notice notice;

    memcpy(&notice, record, sizeof(notice));
    reader->any = true;
    portset_add(&one, PORT_UDP, notice.address, notice.address_len, (uint16_t)notice.port);
    if (one.count) {
        reader->fn(&one.entries[0], notice.cookie, reader->arg);
    }
}

bool bpf_read_binds(struct bpf *bpf, bpf_bind_fn *fn, void *arg, bool *ret_any)
{
    struct binds_reader reader = {.fn = fn, .arg = arg};
    bool fitted = ring_read(&bpf->binds, sizeof(struct bind_notice), on_bind_notice, bpf, &reader);

    *ret_any = reader.any;
    return fitted;
}

/* ---- life ---- */

int bpf_open(struct bpf **ret, struct error *err)
{
    const struct ring none = {.map_fd = -1, .page = (size_t)sysconf(_SC_PAGESIZE)};
    struct bpf *bpf = xnew(struct bpf);
    int r;

    *bpf = (struct bpf){
        .listens = none, .binds = none, .listen = {-1, -1}, .bind = {{-1, -1}, {-1, -1}}};
    r = ring_open(&bpf->listens, err);
    r = r < 0 ? r : ring_open(&bpf->binds, err);
    r = r < 0 ? r : load_listen(bpf, err);
    r = r < 0 ? r : attach_listen(bpf, err);
    if (r < 0) {
        bpf_close(bpf);
        return r;
    }
    *ret = bpf;
    return 0;
}

void bpf_close(struct bpf *bpf)
{
    if (!bpf) {
        return;
    }
    unhook(&bpf->listen);
    unhook(&bpf->bind[0]);
    unhook(&bpf->bind[1]);
    ring_close(&bpf->listens);
    ring_close(&bpf->binds);
    free(bpf);
}

int bpf_listens_fd(const struct bpf *bpf)
{
    return bpf->listens.map_fd;
}

int bpf_binds_fd(const struct bpf *bpf)
{
    return bpf->binds.map_fd;
}
