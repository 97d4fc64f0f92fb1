/* SPDX-License-Identifier: Apache-2.0 */
/* The socket's inode by /proc/net, then the process with a descriptor of it. */
#include "forward/holder.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "util/file.h"
#include "util/path.h"
#include "util/strv.h"

#define LIST_MAX    (4u << 20) /* bytes of a socket list that are looked at */
#define CMDLINE_MAX 65536
#define AGENT       "lima-hostagent" /* its last argument is the instance */

struct holder {
    unsigned long inode;
    unsigned uid;
};

static void close_dir(DIR *dir)
{
    closedir(dir);
}
SCOPED_PTR(DIR, close_dir)

/* As /proc/net has it: each 32 bits of the address in the host's order. */
static char *format_local(const struct config_address *address, uint16_t port)
{
    uint32_t words[4];

    if (address->family == AF_INET) {
        return xasprintf("%08X:%04X", address->v4.s_addr, port);
    }
    memcpy(words, &address->v6, sizeof(words));
    return xasprintf("%08X%08X%08X%08X:%04X", words[0], words[1], words[2], words[3], port);
}

/* "sl: local remote state queues timer retransmits uid timeout inode ..." */
static bool parse_line(const char *line, const char *wanted, const char *any, bool tcp,
                       struct holder *ret)
{
    char local[64];
    unsigned state;

    if (sscanf(line, " %*u: %63s %*s %x %*s %*s %*s %u %*s %lu", local, &state, &ret->uid,
               &ret->inode) != 4) {
        return false;
    }
    return (!tcp || state == 0x0a) && (str_eq(local, wanted) || str_eq(local, any));
}

static bool find_in(const char *list, const struct config_address *address, uint16_t port, bool tcp,
                    struct holder *ret)
{
    const struct config_address zero = {.family = address->family};
    scoped(free) char *wanted = format_local(address, port);
    scoped(free) char *any = format_local(&zero, port);
    scoped(buf_done) struct buf text = BUF_INIT;
    scoped(strv_done) struct strv lines = STRV_INIT;

    if (file_read(list, LIST_MAX, &text, NULL) < 0) {
        return false;
    }
    strv_split(&lines, buf_str(&text), '\n');
    for (size_t i = 1; i < lines.len; i++) {
        if (parse_line(lines.items[i], wanted, any, tcp, ret)) {
            return true;
        }
    }
    return false;
}

/* A wildcard socket of IPv6 has the port of IPv4 too. */
static bool find_socket(const struct forward_endpoint *host, struct holder *ret)
{
    const struct config_address any = {.family = AF_INET6};
    bool tcp = host->proto != CONFIG_PROTO_UDP;
    bool v4 = host->address.family == AF_INET;
    const char *const lists[] = {tcp ? "/proc/net/tcp" : "/proc/net/udp",
                                 tcp ? "/proc/net/tcp6" : "/proc/net/udp6"};

    return find_in(lists[!v4], &host->address, host->port, tcp, ret) ||
           (v4 && find_in(lists[1], &any, host->port, tcp, ret));
}

static bool process_has(const char *pid, const char *link)
{
    scoped(free) char *path = path_join("/proc", pid, "fd");
    scoped(close_dir) DIR *dir = opendir(path);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        char target[64];
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

        if (n > 0) {
            target[n] = '\0';
            if (str_eq(target, link)) {
                return true;
            }
        }
    }
    return false;
}

/* Any user gives processes names; in place. */
static void make_harmless(char *text)
{
    for (; *text; text++) {
        if (*text < ' ' || *text > '~') {
            *text = '?';
        }
    }
}

/* Caller frees; NULL if it has gone. */
static char *describe_process(const char *pid)
{
    scoped(free) char *comm_path = path_join("/proc", pid, "comm");
    scoped(free) char *args_path = path_join("/proc", pid, "cmdline");
    scoped(buf_done) struct buf comm = BUF_INIT;
    scoped(buf_done) struct buf args = BUF_INIT;
    scoped(free) char *name = NULL;
    char *last;

    if (file_read(comm_path, CMDLINE_MAX, &comm, NULL) < 0) {
        return NULL;
    }
    name = str_trim(buf_str(&comm));
    make_harmless(name);
    if (file_read(args_path, CMDLINE_MAX, &args, NULL) < 0 || args.len < 2 ||
        !str_eq(path_base(args.data), AGENT)) {
        return xasprintf("process %s (%s)", pid, name);
    }
    last = args.data + args.len - 1; /* its NUL */
    while (last > args.data && last[-1]) {
        last--;
    }
    make_harmless(last);
    return xasprintf("instance '%s' (process %s)", last, pid);
}

char *forward_holder_find(const struct forward_endpoint *host)
{
    scoped(close_dir) DIR *dir = NULL;
    scoped(free) char *link = NULL;
    struct holder holder;
    struct dirent *entry;

    if (host->socket || !find_socket(host, &holder)) {
        return NULL;
    }
    link = xasprintf("socket:[%lu]", holder.inode);
    dir = opendir("/proc");
    while (dir && (entry = readdir(dir))) {
        if (isdigit((unsigned char)*entry->d_name) && process_has(entry->d_name, link)) {
            return describe_process(entry->d_name);
        }
    }
    return xasprintf("a process of uid %u", holder.uid);
}
