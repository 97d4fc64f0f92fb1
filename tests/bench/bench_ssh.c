/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forwards over ssh: ours in the host agent's manner (a listener, the carrier, libssh2), and that
 * of `ssh -L`, with the same sshd, beside no forward at all. Prints one line each. Nothing is
 * compared: numbers are for people and for the record.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "agent/carrier.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "forward/listener.h"
#include "ssh/ssh.h"
#include "sshd_fixture.h"
#include "util/path.h"
#include "util/process.h"

#define TOTAL  (512u << 20)
#define TRIPS  2000
#define VISITS 300
#define MANY   50

enum what { ECHO, SINK, SOURCE, WHATS };

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void need(bool ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

/* ---- the forwarder, a process of its own ---- */

static const struct peer_events no_events;

/* argv: "forward" HOME SSH_PORT USER, then pairs of a host's and a guest's port. */
static int forward(int argc, char **argv)
{
    struct loop *loop = loop_new();
    struct carrier_options options = {.peer = peer_new(loop, &no_events, NULL),
                                      .plain = true,
                                      .lima_home = argv[2],
                                      .ssh_port = atoi(argv[3]),
                                      .user = argv[4]};
    struct carrier *carrier = carrier_new(loop, &options);
    struct forward_env env = {.loop = loop, .dialer = carrier_dialer(carrier)};

    for (int i = 5; i + 1 < argc; i += 2) {
        struct config_address loopback = {.family = AF_INET, .v4.s_addr = htonl(INADDR_LOOPBACK)};
        struct forward_endpoint host = {.address = loopback, .port = (uint16_t)atoi(argv[i])};
        struct forward_endpoint guest = {.address = loopback, .port = (uint16_t)atoi(argv[i + 1])};
        struct forward_listener *listener;

        need(forward_tcp_ops.open(&env, &host, &guest, &listener, NULL) == 0, "listening");
    }
    carrier_ssh_answers(carrier);
    return loop_run(loop);
}

static pid_t start(const struct strv *argv)
{
    struct process_options options = PROCESS_OPTIONS_INIT;
    pid_t pid;

    options.stderr_fd = PROCESS_INHERIT;
    options.die_with_parent = true;
    need(process_start(strv_argv(argv), &options, &pid, NULL) == 0, "starting a forwarder");
    return pid;
}

static pid_t start_ours(const struct sshd *sshd, const int *host, const struct server *servers)
{
    scoped(strv_done) struct strv argv = STRV_INIT;

    strv_add_all(&argv, "/proc/self/exe", "forward", sshd->dir, NULL);
    strv_addf(&argv, "%d", sshd->port);
    strv_add(&argv, sshd->user);
    for (int i = 0; i < WHATS; i++) {
        strv_addf(&argv, "%d", host[i]);
        strv_addf(&argv, "%d", servers[i].port);
    }
    return start(&argv);
}

static pid_t start_ssh(const struct sshd *sshd, const int *host, const struct server *servers)
{
    scoped(strv_done) struct strv argv = STRV_INIT;

    strv_add_all(&argv, "ssh", "-F", "/dev/null", "-N", "-i", sshd->key, "-l", sshd->user, "-o",
                 "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o",
                 "LogLevel=ERROR", "-o", "Ciphers=^aes128-gcm@openssh.com,aes256-gcm@openssh.com",
                 "-p", NULL);
    strv_addf(&argv, "%d", sshd->port);
    for (int i = 0; i < WHATS; i++) {
        strv_add(&argv, "-L");
        strv_addf(&argv, "127.0.0.1:%d:127.0.0.1:%d", host[i], servers[i].port);
    }
    strv_add(&argv, "127.0.0.1");
    return start(&argv);
}

/* ---- the client ---- */

static int dial(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd, on = 1;

    do { /* as long as the forwarder starts */
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
            return fd;
        }
        close(fd);
    } while (errno == ECONNREFUSED);
    need(false, "connect");
    return -1;
}

static uint64_t drain(int fd)
{
    static char chunk[256u << 10];
    uint64_t total = 0;
    ssize_t n;

    while ((n = recv(fd, chunk, sizeof(chunk), 0)) > 0) {
        total += (uint64_t)n;
    }
    return total;
}

static double upload(int port)
{
    static const char chunk[256u << 10];
    int fd = dial(port);
    uint64_t got = 0;
    double begin = now();

    for (uint64_t sent = 0; sent < TOTAL; sent += sizeof(chunk)) {
        need(send(fd, chunk, sizeof(chunk), 0) == sizeof(chunk), "send");
    }
    shutdown(fd, SHUT_WR);
    need(recv(fd, &got, sizeof(got), MSG_WAITALL) == sizeof(got) && got == TOTAL, "upload");
    close(fd);
    return TOTAL / (now() - begin) / 1e6;
}

static double download(int port)
{
    uint64_t total = TOTAL;
    int fd = dial(port);
    double begin = now();

    need(send(fd, &total, sizeof(total), 0) == sizeof(total), "send");
    need(drain(fd) == total, "download");
    close(fd);
    return TOTAL / (now() - begin) / 1e6;
}

static void trip(int fd)
{
    char byte = 'x';

    need(send(fd, &byte, 1, 0) == 1 && recv(fd, &byte, 1, 0) == 1, "round trip");
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Median, in microseconds. */
static double latency(int port)
{
    static double times[TRIPS];
    int fd = dial(port);

    trip(fd);
    for (int i = 0; i < TRIPS; i++) {
        double begin = now();

        trip(fd);
        times[i] = (now() - begin) * 1e6;
    }
    close(fd);
    qsort(times, TRIPS, sizeof(times[0]), compare);
    return times[TRIPS / 2];
}

/* One after the other, each with a byte there and back. */
static double visits(int port)
{
    double begin = now();

    for (int i = 0; i < VISITS; i++) {
        int fd = dial(port);

        trip(fd);
        close(fd);
    }
    return VISITS / (now() - begin);
}

/* Milliseconds until all of MANY that come at once have their byte back. */
static double crowd(int port)
{
    int fds[MANY];
    double begin = now();
    char byte = 'x';

    for (int i = 0; i < MANY; i++) {
        fds[i] = dial(port);
        need(send(fds[i], &byte, 1, 0) == 1, "send");
    }
    for (int i = 0; i < MANY; i++) {
        need(recv(fds[i], &byte, 1, 0) == 1, "recv");
        close(fds[i]);
    }
    return (now() - begin) * 1e3;
}

static void measure(const char *name, const int *ports)
{
    int fd = dial(ports[ECHO]);

    trip(fd); /* it is up */
    close(fd);
    printf("%-8s up %6.0f MB/s  down %6.0f MB/s  round trip %6.0f us  %6.0f connections/s  %d at "
           "once %6.1f ms\n",
           name, upload(ports[SINK]), download(ports[SOURCE]), latency(ports[ECHO]),
           visits(ports[ECHO]), MANY, crowd(ports[ECHO]));
    fflush(stdout);
}

static void measure_forward(const char *name, const struct sshd *sshd, const struct server *servers,
                            pid_t (*begin)(const struct sshd *, const int *, const struct server *))
{
    int host[WHATS];
    pid_t pid;

    for (int i = 0; i < WHATS; i++) {
        host[i] = port_unused();
    }
    pid = begin(sshd, host, servers);
    measure(name, host);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
    static const enum server_kind kinds[] = {SERVER_ECHO, SERVER_ANSWER, SERVER_SOURCE};
    struct server servers[WHATS];
    int ports[WHATS];
    struct sshd sshd;

    if (argc > 1 && strcmp(argv[1], "forward") == 0) {
        return forward(argc, argv);
    }
    if (!sshd_open(&sshd, NULL)) {
        return 77;
    }
    for (int i = 0; i < WHATS; i++) {
        server_start(&servers[i], kinds[i], NULL);
        ports[i] = servers[i].port;
    }
    measure("direct", ports);
    measure_forward("ours", &sshd, servers, start_ours);
    measure_forward("ssh -L", &sshd, servers, start_ssh);
    sshd_close(&sshd);
    return 0;
}
