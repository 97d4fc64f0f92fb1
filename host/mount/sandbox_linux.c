/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/alloc.h"

/* --- Landlock: include/uapi/linux/landlock.h --- */

/* Newer than some kernel headers. */
#define ACCESS_REFER     (UINT64_C(1) << 13) /* ABI 2 */
#define ACCESS_TRUNCATE  (UINT64_C(1) << 14) /* ABI 3 */
#define ACCESS_IOCTL_DEV (UINT64_C(1) << 15) /* ABI 5 */

#define ACCESS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_MAKE                                                                                \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                               \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |  \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM)
#define ACCESS_NEVER                                                                               \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK)

static int allow_beneath(int ruleset, const char *path, uint64_t access, struct error *err)
{
    scoped(fd_close) int fd = open(path, O_PATH | O_CLOEXEC);
    struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};

    if (fd < 0 ||
        syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0) {
        return error_errno(err, errno, "allowing '%s'", path);
    }
    return 0;
}

/* 1: the kernel has none. */
static int enter_landlock(const struct sandbox_options *options, struct error *err)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    uint64_t newer = (abi >= 2 ? ACCESS_REFER : 0) | (abi >= 3 ? ACCESS_TRUNCATE : 0);
    uint64_t full = ACCESS_READ | ACCESS_MAKE | newer;
    struct landlock_ruleset_attr attr = {.handled_access_fs = full | ACCESS_NEVER |
                                                              (abi >= 5 ? ACCESS_IOCTL_DEV : 0)};
    scoped(fd_close) int ruleset = -1;
    int r;

    if (abi < 1) {
        return 1;
    }
    ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr.handled_access_fs), 0);
    if (ruleset < 0) {
        return error_errno(err, errno, "making a Landlock rule set");
    }
    r = allow_beneath(ruleset, options->source, options->writable ? full : ACCESS_READ, err);
    r = r < 0 || !options->state_dir ? r : allow_beneath(ruleset, options->state_dir, full, err);
    r = r < 0 ? r : allow_beneath(ruleset, "/proc/self/fd", ACCESS_READ, err);
    if (r < 0) {
        return r;
    }
    return syscall(SYS_landlock_restrict_self, ruleset, 0) < 0
               ? error_errno(err, errno, "entering the Landlock rule set")
               : 0;
}

/* --- seccomp --- */

#if defined(__x86_64__)
#define OWN_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OWN_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define OWN_ARCH AUDIT_ARCH_RISCV64
#else
#define OWN_ARCH 0
#endif

/* What serving files needs, and what libc, libevent and the log need for it. */
static const int allowed[] = {
    /* files, by descriptor or name */
    SYS_openat,
    SYS_openat2,
    SYS_close,
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_pread64,
    SYS_pwrite64,
    SYS_preadv2,
    SYS_lseek,
    SYS_fstat,
    SYS_newfstatat,
    SYS_statx,
    SYS_statfs,
    SYS_fstatfs,
    SYS_getdents64,
    SYS_readlinkat,
    SYS_mkdirat,
    SYS_mknodat,
    SYS_unlinkat,
    SYS_symlinkat,
    SYS_linkat,
    SYS_renameat2,
    SYS_fchmod,
    SYS_fchmodat,
    SYS_ftruncate,
    SYS_utimensat,
    SYS_fsync,
    SYS_fdatasync,
    SYS_fallocate,
    SYS_copy_file_range,
    SYS_getxattr,
    SYS_setxattr,
    SYS_listxattr,
    SYS_removexattr,
    SYS_lgetxattr,
    SYS_lsetxattr,
    SYS_lremovexattr,
    SYS_fcntl,
    SYS_umask,
    SYS_faccessat,
#ifdef __x86_64__
    SYS_open,
    SYS_stat,
    SYS_lstat,
    SYS_chmod,
    SYS_rename,
    SYS_unlink,
    SYS_poll,
    SYS_epoll_wait,
    SYS_inotify_init,
    SYS_getpgrp,
    SYS_pipe,
    SYS_eventfd,
#endif
#ifdef SYS_renameat
    SYS_renameat,
#endif
    /* the loop */
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_ppoll,
    SYS_accept4,
    SYS_recvfrom,
    SYS_sendto,
    SYS_recvmsg,
    SYS_sendmsg,
    SYS_getsockopt,
    SYS_shutdown,
    SYS_inotify_add_watch,
    SYS_inotify_rm_watch,
    SYS_inotify_init1,
    SYS_timerfd_settime,
    SYS_eventfd2,
    SYS_pipe2,
    /* the process */
    SYS_mmap,
    SYS_munmap,
    SYS_mremap,
    SYS_mprotect,
    SYS_madvise,
    SYS_brk,
    SYS_futex,
    SYS_exit,
    SYS_exit_group,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sigaltstack,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_getrandom,
    SYS_getpid,
    SYS_gettid,
    SYS_getuid,
    SYS_geteuid,
    SYS_getgid,
    SYS_getegid,
    SYS_tgkill,
    SYS_sched_yield,
    SYS_sched_getaffinity,
    SYS_prlimit64,
    SYS_restart_syscall,
    SYS_gettimeofday,
};

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RET(value)  BPF_STMT(BPF_RET | BPF_K, (value))
#define IF_EQUAL(value, then, otherwise)                                                           \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (then), (otherwise))

/* Denied calls fail with EPERM: a library that tries something new goes on without. */
static int enter_seccomp(struct error *err)
{
    struct sock_filter filter[ARRAY_LEN(allowed) * 2 + 8];
    struct sock_fprog program = {.filter = filter};
    size_t n = 0;
    long r;

    filter[n++] = (struct sock_filter)LOAD(arch);
    filter[n++] = (struct sock_filter)IF_EQUAL(OWN_ARCH, 1, 0);
    filter[n++] = (struct sock_filter)RET(SECCOMP_RET_KILL_PROCESS);
    filter[n++] = (struct sock_filter)LOAD(nr);
    for (size_t i = 0; i < ARRAY_LEN(allowed); i++) {
        filter[n++] = (struct sock_filter)IF_EQUAL((uint32_t)allowed[i], 0, 1);
        filter[n++] = (struct sock_filter)RET(SECCOMP_RET_ALLOW);
    }
    filter[n++] = (struct sock_filter)RET(SECCOMP_RET_ERRNO | EPERM);
    program.len = (unsigned short)n;
    r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    if (r > 0) {
        return error_set(err, EBUSY, "filtering system calls: thread %ld stays outside", r);
    }
    if (r < 0) {
        return errno == EINVAL || errno == ENOSYS
                   ? 1
                   : error_errno(err, errno, "filtering system calls");
    }
    return 0;
}

int sandbox_enter(const struct sandbox_options *options, const char **ret_missing,
                  struct error *err)
{
    const char *missing = NULL;
    int r;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        return error_errno(err, errno, "giving up new privileges");
    }
    r = enter_landlock(options, err);
    if (r < 0) {
        return r;
    }
    missing = r > 0 ? "Landlock" : NULL;
    r = options->start_threads ? options->start_threads(options->arg, err) : 0;
    if (r < 0) {
        return r;
    }
    r = OWN_ARCH ? enter_seccomp(err) : 1;
    if (r < 0) {
        return r;
    }
    if (r > 0) {
        missing = missing ? "Landlock and seccomp" : "seccomp";
    }
    *ret_missing = missing;
    return 0;
}
