/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/qemu/host.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "util/file.h"

#define HEAD_SIZE      8
#define IO_URING_SIZE  128 /* what QEMU asks for */
#define CMDLINE_MAX    (256u << 10)
#define LOG_TAIL_BYTES 2048
#define LOG_TAIL_LINES 5

/*
 * Only what has been checked to name no other file (host/image) is anything but raw: the guest of a
 * raw disk writes its first bytes, and some formats are a list of host files to open.
 */
const char *qemu_disk_format_of(const void *head, size_t len)
{
    static const char qcow2[] = "QFI\xfb";

    return len >= strlen(qcow2) && memcmp(head, qcow2, strlen(qcow2)) == 0 ? "qcow2" : "raw";
}

int qemu_disk_format(const char *path, const char **ret, struct error *err)
{
    scoped(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    char head[HEAD_SIZE];
    ssize_t n;

    if (fd < 0) {
        return error_errno(err, errno, "opening '%s'", path);
    }
    n = read(fd, head, sizeof(head));
    if (n < 0) {
        return error_errno(err, errno, "reading '%s'", path);
    }
    *ret = qemu_disk_format_of(head, (size_t)n);
    return 0;
}

bool qemu_io_uring_works(void)
{
    struct io_uring_params params = {0};
    scoped(fd_close) int fd = (int)syscall(__NR_io_uring_setup, IO_URING_SIZE, &params);

    return fd >= 0;
}

int qemu_port_check(int port, struct error *err)
{
    scoped(fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1; /* as QEMU binds */

    if (fd < 0) {
        return error_errno(err, errno, "creating a socket");
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1) < 0) {
        return error_errno(err, errno, "port %d of 127.0.0.1 for ssh", port);
    }
    return 0;
}

int qemu_process_args(int pid, struct strv *ret, struct error *err)
{
    scoped(free) char *path = xasprintf("/proc/%d/cmdline", pid);
    scoped(buf_done) struct buf text = BUF_INIT;
    int r = file_read(path, CMDLINE_MAX, &text, err);

    if (r == -ENOENT) {
        return error_set(err, ESRCH, "there is no process %d", pid);
    }
    if (r < 0) {
        return r;
    }
    for (size_t at = 0; at < text.len; at += strlen(text.data + at) + 1) {
        strv_add(ret, text.data + at);
    }
    return 0;
}

char *qemu_log_tail(const char *path)
{
    scoped(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    scoped(strv_done) struct strv lines = STRV_INIT;
    scoped(buf_done) struct buf out = BUF_INIT;
    char data[LOG_TAIL_BYTES + 1];
    char *rest;
    struct stat st;
    ssize_t n;
    size_t first;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return xstrdup("");
    }
    n = pread(fd, data, LOG_TAIL_BYTES, MAX(st.st_size - LOG_TAIL_BYTES, 0));
    data[MAX(n, 0)] = '\0';
    for (char *line = strtok_r(data, "\r\n", &rest); line; line = strtok_r(NULL, "\r\n", &rest)) {
        strv_add(&lines, line);
    }
    first = lines.len > LOG_TAIL_LINES ? lines.len - LOG_TAIL_LINES : 0;
    for (size_t i = first; i < lines.len; i++) {
        buf_printf(&out, "%s%s", i > first ? "; " : "", lines.items[i]);
    }
    return buf_steal(&out);
}
