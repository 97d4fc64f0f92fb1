/* SPDX-License-Identifier: Apache-2.0 */
#include "bpf.h"

#include <linux/bpf.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/alloc.h"

#define STATE_LISTEN  10
#define RING_SIZE     4096 /* 256 notices; a full ring loses some, which the next look makes good */
#define LOG_SIZE      1024
#define RECORD_HEADER 8

struct notice {
    uint32_t old_state;
    uint32_t new_state;
};

struct bpf_listen {
    int map_fd;
    int prog_fd;
    int link_fd;
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
#define LOAD64(dst, src, off)  INSN(BPF_LDX | BPF_MEM | BPF_DW, dst, src, off, 0)
#define STORE32(dst, off, src) INSN(BPF_STX | BPF_MEM | BPF_W, dst, src, off, 0)
#define MOVE(dst, src)         INSN(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
#define MOVE_IMM(dst, imm)     INSN(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm)
#define ADD_IMM(dst, imm)      INSN(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, imm)
#define JUMP_EQ(dst, imm, off) INSN(BPF_JMP | BPF_JEQ | BPF_K, dst, 0, off, imm)
#define JUMP_NE(dst, imm, off) INSN(BPF_JMP | BPF_JNE | BPF_K, dst, 0, off, imm)
#define LOAD_MAP_FD(dst, fd)                                                                       \
    INSN(BPF_LD | BPF_DW | BPF_IMM, dst, BPF_PSEUDO_MAP_FD, 0, fd), INSN(0, 0, 0, 0, 0)
#define CALL(function) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, function)
#define EXIT()         INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

/* Arguments of the tracepoint: sk, old state, new state, each 8 bytes. */
static int load_program(struct bpf_listen *bpf, struct error *err)
{
    const struct bpf_insn program[] = {
        LOAD64(BPF_REG_6, BPF_REG_1, 8),
        LOAD64(BPF_REG_7, BPF_REG_1, 16),
        JUMP_EQ(BPF_REG_6, STATE_LISTEN, 1),
        JUMP_NE(BPF_REG_7, STATE_LISTEN, 9),
        STORE32(BPF_REG_10, -8, BPF_REG_6),
        STORE32(BPF_REG_10, -4, BPF_REG_7),
        LOAD_MAP_FD(BPF_REG_1, bpf->map_fd),
        MOVE(BPF_REG_2, BPF_REG_10),
        ADD_IMM(BPF_REG_2, -8),
        MOVE_IMM(BPF_REG_3, sizeof(struct notice)),
        MOVE_IMM(BPF_REG_4, 0),
        CALL(BPF_FUNC_ringbuf_output),
        MOVE_IMM(BPF_REG_0, 0),
        EXIT(),
    };
    char log[LOG_SIZE] = "";
    union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT,
                           .insns = (uintptr_t)program,
                           .insn_cnt = ARRAY_LEN(program),
                           .license = (uintptr_t) "Apache-2.0",
                           .log_buf = (uintptr_t)log,
                           .log_size = sizeof(log),
                           .log_level = 1,
                           .prog_name = "lima_listen"};

    bpf->prog_fd = sys_bpf(BPF_PROG_LOAD, &attr);
    if (bpf->prog_fd < 0) {
        return error_errno(err, errno, "loading the BPF program (%s)", log);
    }
    return 0;
}

static int make_ring(struct bpf_listen *bpf, struct error *err)
{
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_RINGBUF,
                           .max_entries = MAX(RING_SIZE, bpf->page),
                           .map_name = "lima_listen"};
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

static int attach_program(struct bpf_listen *bpf, struct error *err)
{
    union bpf_attr attr = {.raw_tracepoint = {.name = (uintptr_t) "inet_sock_set_state",
                                              .prog_fd = (uint32_t)bpf->prog_fd}};

    bpf->link_fd = sys_bpf(BPF_RAW_TRACEPOINT_OPEN, &attr);
    if (bpf->link_fd < 0) {
        return error_errno(err, errno, "attaching the BPF program");
    }
    return 0;
}

int bpf_listen_open(struct bpf_listen **ret, struct error *err)
{
    struct bpf_listen *bpf = xnew(struct bpf_listen);
    int r;

    *bpf = (struct bpf_listen){
        .map_fd = -1, .prog_fd = -1, .link_fd = -1, .page = (size_t)sysconf(_SC_PAGESIZE)};
    r = make_ring(bpf, err);
    r = r < 0 ? r : load_program(bpf, err);
    r = r < 0 ? r : attach_program(bpf, err);
    if (r < 0) {
        bpf_listen_close(bpf);
        return r;
    }
    *ret = bpf;
    return 0;
}

void bpf_listen_close(struct bpf_listen *bpf)
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
    fd_close(bpf->link_fd);
    fd_close(bpf->prog_fd);
    fd_close(bpf->map_fd);
    free(bpf);
}

int bpf_listen_fd(const struct bpf_listen *bpf)
{
    return bpf->map_fd;
}

struct bpf_listen_counts bpf_listen_read(struct bpf_listen *bpf)
{
    const size_t mask = MAX(RING_SIZE, bpf->page) - 1;
    const char *ring = (const char *)bpf->producer_map + bpf->page;
    _Atomic unsigned long *producer = bpf->producer_map;
    struct bpf_listen_counts counts = {0};
    unsigned long at = atomic_load_explicit(bpf->consumer, memory_order_relaxed);

    while (at < atomic_load_explicit(producer, memory_order_acquire)) {
        const char *record = ring + (at & mask);
        uint32_t len =
            atomic_load_explicit((_Atomic uint32_t *)(uintptr_t)record, memory_order_acquire);
        struct notice notice;

        if (len & BPF_RINGBUF_BUSY_BIT) {
            break;
        }
        if (!(len & BPF_RINGBUF_DISCARD_BIT)) {
            memcpy(&notice, record + RECORD_HEADER, sizeof(notice));
            counts.entered += notice.new_state == STATE_LISTEN;
            counts.left += notice.old_state == STATE_LISTEN;
        }
        len &= ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
        at += (len + RECORD_HEADER + 7) / 8 * 8;
        atomic_store_explicit(bpf->consumer, at, memory_order_release);
    }
    return counts;
}
