/* SPDX-License-Identifier: Apache-2.0 */
#include "sshd_fixture.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"
#include "util/strv.h"

#define SSHD            "/usr/sbin/sshd"
#define KEYGEN_DEADLINE 60000

/* What a test cannot go on without. */
static void need(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "sshd fixture: %s: %s\n", what, strerror(errno));
        abort();
    }
}

/* ---- sshd ---- */

static void make_key(const char *path)
{
    const char *argv[] = {"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path, NULL};

    need(process_check(argv, KEYGEN_DEADLINE, NULL, NULL) == 0, "ssh-keygen");
}

static void write_config(const struct sshd *sshd, const char *options)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    scoped(free) char *path = path_join(sshd->dir, "sshd_config");

    buf_printf(&out,
               "ListenAddress 127.0.0.1:%d\nHostKey %s/host\nAuthorizedKeysFile %s.pub\n"
               "StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n"
               "PermitRootLogin prohibit-password\nMaxStartups 1000\n"
               "LogLevel ERROR\n%s",
               sshd->port, sshd->dir, sshd->key, options ? options : "");
    need(file_write_text(path, buf_str(&out), 0600, NULL) == 0, path);
}

bool sshd_open(struct sshd *sshd, const char *options)
{
    scoped(free) char *host_key = NULL;
    scoped(free) char *config = NULL;
    char dir[] = "/tmp/sshd-XXXXXX";
    struct passwd *pw = getpwuid(getuid());

    *sshd = (struct sshd){0};
    if (access(SSHD, X_OK) < 0) {
        fprintf(stderr, "no " SSHD ": install openssh-server\n");
        return false;
    }
    if (getuid() == 0) {
        mkdir("/run/sshd", 0755); /* where its unprivileged half is locked up */
    }
    need(mkdtemp(dir) && pw, dir);
    sshd->dir = xstrdup(dir);
    sshd->user = xstrdup(pw->pw_name);
    config = path_join(dir, "_config");
    need(mkdir(config, 0755) == 0, config);
    sshd->key = path_join(config, "user");
    host_key = path_join(dir, "host");
    make_key(sshd->key);
    make_key(host_key);
    sshd->port = port_unused();
    write_config(sshd, options);
    sshd_start(sshd);
    return true;
}

void sshd_start(struct sshd *sshd)
{
    scoped(free) char *config = path_join(sshd->dir, "sshd_config");
    const char *argv[] = {SSHD, "-D", "-e", "-f", config, NULL};
    struct process_options options = PROCESS_OPTIONS_INIT;

    options.stderr_fd = PROCESS_INHERIT;
    options.die_with_parent = true;
    need(process_start(argv, &options, &sshd->pid, NULL) == 0, SSHD);
}

/* Each session has a process of its own, in a process group of its own. */
static void kill_sessions(pid_t pid)
{
    scoped(free) char *path = xasprintf("/proc/%d/task/%d/children", (int)pid, (int)pid);
    scoped(buf_done) struct buf text = BUF_INIT;
    scoped(strv_done) struct strv pids = STRV_INIT;

    need(file_read(path, 65536, &text, NULL) == 0, path);
    strv_split(&pids, buf_str(&text), ' ');
    for (size_t i = 0; i < pids.len; i++) {
        if (atoi(pids.items[i]) > 1) {
            kill(atoi(pids.items[i]), SIGKILL);
        }
    }
}

void sshd_stop(struct sshd *sshd)
{
    if (sshd->pid) {
        kill(sshd->pid, SIGSTOP);
        kill_sessions(sshd->pid);
        kill(sshd->pid, SIGKILL);
        waitpid(sshd->pid, NULL, 0);
        sshd->pid = 0;
    }
}

void sshd_close(struct sshd *sshd)
{
    sshd_stop(sshd);
    if (sshd->dir) {
        file_remove_tree(sshd->dir, NULL);
    }
    free(sshd->dir);
    free(sshd->key);
    free(sshd->user);
}

/* ---- servers ---- */

static int new_listener(struct server *s)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(in);
    int fd = socket(s->path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (s->path) {
        snprintf(un.sun_path, sizeof(un.sun_path), "%s", s->path);
    }
    need(bind(fd, s->path ? (struct sockaddr *)&un : (struct sockaddr *)&in,
              s->path ? sizeof(un) : sizeof(in)) == 0,
         "bind");
    need(listen(fd, 512) == 0, "listen");
    if (!s->path) {
        getsockname(fd, (struct sockaddr *)&in, &len);
        s->port = ntohs(in.sin_port);
    }
    return fd;
}

int port_unused(void)
{
    struct server s = {0};
    int fd = new_listener(&s);

    close(fd);
    return s.port;
}

static void send_all(int fd, const void *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n <= 0) {
            return;
        }
        data = (const char *)data + n;
        len -= (size_t)n;
    }
}

/* Reads to the end, and sends it back if wanted; the number of bytes. */
static uint64_t drain(int fd, bool echo)
{
    char chunk[65536];
    uint64_t total = 0;
    ssize_t n;

    while ((n = recv(fd, chunk, sizeof(chunk), 0)) > 0) {
        total += (uint64_t)n;
        if (echo) {
            send_all(fd, chunk, (size_t)n);
        }
    }
    return total;
}

static void send_many(int fd)
{
    static const char chunk[65536];
    uint64_t left;

    if (recv(fd, &left, sizeof(left), MSG_WAITALL) != sizeof(left)) {
        return;
    }
    for (; left > 0; left -= MIN(left, sizeof(chunk))) {
        send_all(fd, chunk, MIN(left, sizeof(chunk)));
    }
}

struct visit {
    struct server *server;
    int fd;
};

static void *on_visit(void *arg)
{
    struct visit visit = *(struct visit *)arg;
    struct server *s = visit.server;
    uint64_t total = 0;
    char few[5];

    free(arg);
    if (s->kind == SERVER_GREET) {
        send_all(visit.fd, "hello", 5);
        shutdown(visit.fd, SHUT_WR);
    }
    if (s->kind == SERVER_SOURCE) {
        send_many(visit.fd);
    } else if (s->kind == SERVER_LEAVE) {
        (void)recv(visit.fd, few, sizeof(few), MSG_WAITALL);
    } else {
        total = drain(visit.fd, s->kind == SERVER_ECHO);
    }
    if (s->kind == SERVER_ANSWER) {
        send_all(visit.fd, &total, sizeof(total));
    }
    __atomic_add_fetch(&s->received, total, __ATOMIC_SEQ_CST);
    close(visit.fd);
    return NULL;
}

static void *on_server_run(void *arg)
{
    struct server *s = arg;
    pthread_attr_t attr;
    int fd;

    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
        struct visit *visit = xnew(struct visit);
        pthread_t thread;

        __atomic_add_fetch(&s->accepted, 1, __ATOMIC_SEQ_CST);
        *visit = (struct visit){.server = s, .fd = fd};
        need(pthread_create(&thread, &attr, on_visit, visit) == 0, "pthread_create");
    }
    pthread_attr_destroy(&attr);
    return NULL;
}

void server_start(struct server *s, enum server_kind kind, const char *path)
{
    *s = (struct server){.kind = kind, .path = xstrdup(path)};
    s->fd = new_listener(s);
    if (kind != SERVER_SILENT) { /* whose kernel accepts, and nobody reads */
        need(pthread_create(&s->thread, NULL, on_server_run, s) == 0, "pthread_create");
    }
}

void server_stop(struct server *s)
{
    shutdown(s->fd, SHUT_RDWR);
    if (s->thread) {
        pthread_join(s->thread, NULL);
    }
    close(s->fd);
    free(s->path);
}
