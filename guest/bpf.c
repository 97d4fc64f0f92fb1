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

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define STATE_LISTEN  10
#define STATE_BOUND   100  /* no state of the kernel: what a bind is noticed as */
#define RING_SIZE     4096 /* 256 notices; a full ring loses some, which the next look makes good */
#define LOG_SIZE      1024
#define RECORD_HEADER 8
#define MOUNTS_MAX    (256u << 10)

struct notice {
    uint32_t old_state;
    uint32_t new_state;
};

struct hook { /* a loaded program and where it hangs; -1: none */
    int prog_fd;
    int link_fd;
};

struct bpf {
    int map_fd;
    struct hook listen;
    struct hook binds[2]; /* IPv4, IPv6 */
    size_t page;
    _Atomic unsigned long *consumer;
    void *producer_map; /* page with the producer's position, then the ring twice */
};

static int sys_bpf(int cmd, union bpf_attr *attr)
{
    return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

/* Instructions by hand; names after the kernel's assembler. */
#define INSN(c, d, s, o, i)                                                                        \
    ((struct bpf_insn){.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i)})
#define LOAD64(dst, src, off)      INSN(BPF_LDX | BPF_MEM | BPF_DW, dst, src, off, 0)
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
/* The struct notice that was put at -8 of the stack goes into the ring. */
#define OUTPUT_NOTICE(map_fd)                                                                      \
    LOAD_MAP_FD(BPF_REG_1, map_fd), MOVE(BPF_REG_2, BPF_REG_10), ADD_IMM(BPF_REG_2, -8),           \
        MOVE_IMM(BPF_REG_3, sizeof(struct notice)), MOVE_IMM(BPF_REG_4, 0),                        \
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
        JUMP_NE(BPF_REG_7, STATE_LISTEN, 2 + OUTPUT_NOTICE_LEN),
        STORE32(BPF_REG_10, -8, BPF_REG_6),
        STORE32(BPF_REG_10, -4, BPF_REG_7),
        OUTPUT_NOTICE(bpf->map_fd),
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

static int load_bind(const struct bpf *bpf, uint32_t attach_type, uint16_t first, uint16_t last,
                     struct hook *hook, struct error *err)
{
    const uint64_t cookie = own_netns();
    const struct bpf_insn program[] = {
        MOVE(BPF_REG_6, BPF_REG_1),
        LOAD32(BPF_REG_7, BPF_REG_6, offsetof(struct bpf_sock, protocol)),
        JUMP_NE(BPF_REG_7, IPPROTO_UDP, 10 + OUTPUT_NOTICE_LEN),
        MOVE(BPF_REG_1, BPF_REG_6),
        CALL(BPF_FUNC_get_netns_cookie),
        LOAD_IMM64(BPF_REG_1, cookie),
        JUMP_NE_REG(BPF_REG_0, BPF_REG_1, cookie ? 5 + OUTPUT_NOTICE_LEN : 0),
        LOAD32(BPF_REG_7, BPF_REG_6, offsetof(struct bpf_sock, src_port)),
        JUMP_LT(BPF_REG_7, first, 1),
        JUMP_LE(BPF_REG_7, last, 2 + OUTPUT_NOTICE_LEN),
        STORE32_IMM(BPF_REG_10, -8, 0),
        STORE32_IMM(BPF_REG_10, -4, STATE_BOUND),
        OUTPUT_NOTICE(bpf->map_fd),
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

    unhook(&bpf->binds[0]);
    unhook(&bpf->binds[1]);
    for (size_t i = 0; i < ARRAY_LEN(types) && r == 0; i++) {
        r = load_bind(bpf, types[i], first, last, &bpf->binds[i], err);
        r = r < 0 ? r : attach_bind(cgroup_fd, types[i], &bpf->binds[i], err);
    }
    if (r < 0) {
        unhook(&bpf->binds[0]);
        unhook(&bpf->binds[1]);
    }
    return r;
}

/* ---- the ring ---- */

static int make_ring(struct bpf *bpf, struct error *err)
{
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_RINGBUF,
                           .max_entries = (uint32_t)MAX(RING_SIZE, bpf->page),
                           .map_name = "lima_ports"};
    void *consumer;

    bpf->map_fd = sys_bpf(BPF_MAP_CREATE, &attr);
    if (bpf->map_fd < 0) {
        return error_errno(err, errno, "making a BPF ring buffer");
    }
    consumer = mmap(NULL, bpf->page, PROT_READ | PROT_WRITE, MAP_SHARED, bpf->map_fd, 0);
    if (consumer == MAP_FAILED) {
        return error_errno(err, errno, "mapping a BPF ring buffer");
    }
    bpf->consumer = consumer;
    bpf->producer_map = mmap(NULL, bpf->page + 2 * MAX(RING_SIZE, bpf->page), PROT_READ, MAP_SHARED,
                             bpf->map_fd, (off_t)bpf->page);
    if (bpf->producer_map == MAP_FAILED) {
        bpf->producer_map = NULL;
        return error_errno(err, errno, "mapping a BPF ring buffer");
    }
    return 0;
}

int bpf_open(struct bpf **ret, struct error *err)
{
    struct bpf *bpf = xnew(struct bpf);
    int r;

    *bpf = (struct bpf){.map_fd = -1,
                        .listen = {-1, -1},
                        .binds = {{-1, -1}, {-1, -1}},
                        .page = (size_t)sysconf(_SC_PAGESIZE)};
    r = make_ring(bpf, err);
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
    if (bpf->consumer) {
        munmap((void *)bpf->consumer, bpf->page);
    }
    if (bpf->producer_map) {
        munmap(bpf->producer_map, bpf->page + 2 * MAX(RING_SIZE, bpf->page));
    }
    unhook(&bpf->listen);
    unhook(&bpf->binds[0]);
    unhook(&bpf->binds[1]);
    fd_close(bpf->map_fd);
    free(bpf);
}

int bpf_fd(const struct bpf *bpf)
{
    return bpf->map_fd;
}

static void count_notice(const char *record, struct bpf_notices *notices)
{
    struct notice notice;

    memcpy(&notice, record + RECORD_HEADER, sizeof(notice));
    notices->entered += notice.new_state == STATE_LISTEN;
    notices->left += notice.old_state == STATE_LISTEN;
    notices->bound = notices->bound || notice.new_state == STATE_BOUND;
}

struct bpf_notices bpf_read(struct bpf *bpf)
{
    const size_t mask = MAX(RING_SIZE, bpf->page) - 1;
    const char *ring = (const char *)bpf->producer_map + bpf->page;
    _Atomic unsigned long *producer = bpf->producer_map;
    struct bpf_notices notices = {0};
    unsigned long at = atomic_load_explicit(bpf->consumer, memory_order_relaxed);

    while (at < atomic_load_explicit(producer, memory_order_acquire)) {
        const char *record = ring + (at & mask);
        uint32_t len =
            atomic_load_explicit((_Atomic uint32_t *)(uintptr_t)record, memory_order_acquire);

        if (len & BPF_RINGBUF_BUSY_BIT) {
            break;
        }
        if (!(len & BPF_RINGBUF_DISCARD_BIT)) {
            count_notice(record, &notices);
        }
        len &= ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
        at += (len + RECORD_HEADER + 7) / 8 * 8;
        atomic_store_explicit(bpf->consumer, at, memory_order_release);
    }
    return notices;
}
