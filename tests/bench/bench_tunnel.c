/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a forward costs without a machine in between: the host's side in one process, the real guest
 * agent in another, a socketpair where the virtio port is, clients and servers in this one. Beside
 * each figure of a forward stands that of a bare loopback connection. Medians of RUNS. Nothing is
 * compared: numbers are for people and for the record.
 *
 *   bench_tunnel GUEST-AGENT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "base/alloc.h"
#include "forward/listener.h"

#define RUNS           5
#define BULK           (256u << 20) /* bytes of one throughput run, over all connections */
#define MANY           16
#define CONNECTIONS    500
#define ROUND_TRIPS    2000
#define STALLED        1000
#define DATAGRAM       1200
#define DATAGRAM_BYTES (25u << 20) /* two seconds of 100 Mbit/s */
#define DATAGRAM_RATE  (100e6 / 8)
#define CHUNK          65536

enum command { /* first byte of a connection: what its server does */
               SINK = 's',
               SOURCE = 'g', /* BULK / number of connections, which is the next byte */
               ECHO = 'e',
               STALL = 'x',
};

struct report { /* of the host's side, once it is up */
    pid_t agent;
    uint16_t tcp, udp;
};

static char chunk[CHUNK];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- the host's side ---- */

struct host {
    struct loop *loop;
    struct peer *peer;
    struct peer_dialer dialer;
    struct forward_env env;
};

static void on_connected(const struct peer_info *info, void *arg)
{
    loop_quit(arg, 1);
}

static void on_over(void *arg)
{
    exit(0);
}

static void on_stage(enum peer_stage stage, const char *detail, const char *instance_id,
                     uint64_t uptime_us, void *arg)
{
}

static void on_ports(bool snapshot, const struct peer_port *added, size_t added_count,
                     const struct peer_port *removed, size_t removed_count, void *arg)
{
}

static const struct peer_events peer_events = {
    .connected = on_connected,
    .disconnected = on_over,
    .closed = on_over,
    .stage = on_stage,
    .ports = on_ports,
};

static pid_t agent_start(const char *program, int fd)
{
    scoped(free) char *spec = xasprintf("fd:%d", fd);
    pid_t pid = fork();

    if (pid == 0) {
        fcntl(fd, F_SETFD, 0);
        execl(program, program, "run", "--transport", spec, "--no-boot", NULL);
        _exit(127);
    }
    return pid;
}

static uint16_t forward_open(const struct host *host, const struct forward_listener_ops *ops,
                             enum config_proto proto, uint16_t guest_port)
{
    struct forward_endpoint to = {.proto = proto,
                                  .address = {.family = AF_INET, .v4.s_addr = htonl(0x7f000001)}};
    struct forward_endpoint from = to;
    struct forward_listener *listener;

    to.port = guest_port;
    if (ops->open(&host->env, &from, &to, &listener, NULL) < 0) {
        die("forward");
    }
    return listener->port;
}

static void _noreturn_ host_run(const char *program, uint16_t tcp, uint16_t udp, int report_fd)
{
    struct host host = {.loop = loop_new()};
    struct report report;
    int fds[2];

    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        die("socketpair");
    }
    report.agent = agent_start(program, fds[1]);
    close(fds[1]);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    host.peer = peer_new(host.loop, &peer_events, host.loop);
    peer_dialer_init(&host.dialer, host.peer);
    host.env = (struct forward_env){
        .loop = host.loop, .dialer = &host.dialer.dialer, .peer = host.peer, .udp = true};
    peer_attach(host.peer, fds[0], false);
    loop_run(host.loop);
    report.tcp = forward_open(&host, &forward_tcp_ops, CONFIG_PROTO_TCP, tcp);
    report.udp = forward_open(&host, &forward_udp_ops, CONFIG_PROTO_UDP, udp);
    if (write(report_fd, &report, sizeof(report)) != (ssize_t)sizeof(report)) {
        die("report");
    }
    for (;;) {
        loop_once(host.loop);
    }
}

/* ---- servers ---- */

static int bind_any(int type, uint16_t *ret_port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), size = 4 << 20;

    if (type == SOCK_DGRAM) {
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    }
    if (bind(fd, (struct sockaddr *)&addr, len) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
        die("bind");
    }
    *ret_port = ntohs(addr.sin_port);
    return fd;
}

static int connect_to(uint16_t port, int type)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(0x7f000001)};
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        die("connect");
    }
    return fd;
}

static void put(int fd, const void *data, size_t len)
{
    if (send(fd, data, len, MSG_NOSIGNAL) != (ssize_t)len) {
        die("send");
    }
}

static void put_bulk(int fd, size_t len)
{
    while (len) {
        ssize_t n = send(fd, chunk, MIN(len, sizeof(chunk)), MSG_NOSIGNAL);

        if (n <= 0) {
            die("send");
        }
        len -= (size_t)n;
    }
}

static size_t take_all(int fd)
{
    char data[CHUNK];
    size_t total = 0;
    ssize_t n;

    while ((n = recv(fd, data, sizeof(data), 0)) > 0) {
        total += (size_t)n;
    }
    return total;
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char command[2] = "", byte;

    if (recv(fd, command, 1, 0) == 1 && command[0] == SINK) {
        take_all(fd);
        put(fd, "k", 1);
    } else if (command[0] == SOURCE && recv(fd, command + 1, 1, 0) == 1) {
        put_bulk(fd, BULK / (size_t)command[1]);
    } else if (command[0] == ECHO) {
        while (recv(fd, &byte, 1, 0) == 1) {
            put(fd, &byte, 1);
        }
    } else if (command[0] == STALL) {
        return NULL; /* open until the end */
    }
    close(fd);
    return NULL;
}

static void in_thread(void *(*fn)(void *), intptr_t arg, pthread_t *ret)
{
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256u << 10);
    pthread_attr_setdetachstate(&attr, ret ? PTHREAD_CREATE_JOINABLE : PTHREAD_CREATE_DETACHED);
    if (pthread_create(ret ? ret : &(pthread_t){0}, &attr, fn, (void *)arg) != 0) {
        die("thread");
    }
    pthread_attr_destroy(&attr);
}

static void _noreturn_ *serve_all(void *arg)
{
    int listen_fd = (int)(intptr_t)arg;

    for (;;) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC), on = 1;

        setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof(on));
        in_thread(serve, fd, NULL);
    }
}

/* ---- measurements ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare);
    return values[count / 2];
}

struct mover {
    uint16_t port;
    bool to_guest;
    int connections;
};

static void *move(void *arg)
{
    const struct mover *m = arg;
    int fd = connect_to(m->port, SOCK_STREAM);
    char command[2] = {m->to_guest ? SINK : SOURCE, (char)m->connections}, byte;

    put(fd, command, m->to_guest ? 1 : 2);
    if (m->to_guest) {
        put_bulk(fd, BULK / (size_t)m->connections);
        shutdown(fd, SHUT_WR);
        if (recv(fd, &byte, 1, 0) != 1) {
            die("answer");
        }
    } else if (take_all(fd) != BULK / (size_t)m->connections) {
        die("bytes were lost");
    }
    close(fd);
    return NULL;
}

/* MB/s */
static double throughput(uint16_t port, bool to_guest, int connections)
{
    struct mover mover = {port, to_guest, connections};
    pthread_t threads[MANY];
    double runs[RUNS];

    for (int run = 0; run < RUNS; run++) {
        double start = now();

        for (int i = 0; i < connections; i++) {
            in_thread(move, (intptr_t)&mover, &threads[i]);
        }
        for (int i = 0; i < connections; i++) {
            pthread_join(threads[i], NULL);
        }
        runs[run] = BULK / (now() - start) / 1e6;
    }
    return median(runs, RUNS);
}

/* Each one dialled, used for a byte and its answer, and closed. Per second. */
static double connection_rate(uint16_t port)
{
    double runs[RUNS];

    for (int run = 0; run < RUNS; run++) {
        double start = now();

        for (int i = 0; i < CONNECTIONS; i++) {
            int fd = connect_to(port, SOCK_STREAM);
            char byte;

            put(fd, "ex", 2);
            if (recv(fd, &byte, 1, 0) != 1) {
                die("answer");
            }
            close(fd);
        }
        runs[run] = CONNECTIONS / (now() - start);
    }
    return median(runs, RUNS);
}

static double round_trip_us(uint16_t port)
{
    static double runs[ROUND_TRIPS];
    int fd = connect_to(port, SOCK_STREAM);
    char byte = ECHO;

    put(fd, &byte, 1);
    for (int i = 0; i < ROUND_TRIPS; i++) {
        double start = now();

        put(fd, "x", 1);
        if (recv(fd, &byte, 1, 0) != 1) {
            die("answer");
        }
        runs[i] = (now() - start) * 1e6;
    }
    close(fd);
    return median(runs, ROUND_TRIPS);
}

static void *count_datagrams(void *arg)
{
    struct pollfd p = {.fd = (int)(intptr_t)arg, .events = POLLIN};
    char data[DATAGRAM + 1];
    size_t count = 0;

    while (poll(&p, 1, 2000) == 1) { /* quiet for so long: it is over */
        count += recv(p.fd, data, sizeof(data), 0) == DATAGRAM;
    }
    return (void *)count;
}

/* Percent of datagrams that did not arrive. */
static double loss(uint16_t port, int server)
{
    size_t total = DATAGRAM_BYTES / DATAGRAM;
    int fd = connect_to(port, SOCK_DGRAM);
    pthread_t thread;
    double start;
    void *got;

    in_thread(count_datagrams, server, &thread);
    start = now();
    for (size_t i = 0; i < total; i++) {
        struct timespec rest = {.tv_nsec = 200000};

        while (now() < start + (double)(i * DATAGRAM) / DATAGRAM_RATE) {
            nanosleep(&rest, NULL);
        }
        send(fd, chunk, DATAGRAM, 0);
    }
    pthread_join(thread, &got);
    close(fd);
    return 100.0 * (double)(total - (size_t)got) / (double)total;
}

/* KiB */
static long rss(pid_t pid)
{
    scoped(free) char *path = xasprintf("/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    char line[256];
    long value = 0;

    while (file && fgets(line, sizeof(line), file)) {
        if (strncmp(line, "VmRSS:", 6) == 0) {
            value = strtol(line + 6, NULL, 10);
        }
    }
    if (file) {
        fclose(file);
    }
    return value;
}

/* Connections whose server reads nothing, filled until nothing goes any more. */
static void stall(uint16_t port, pid_t host, pid_t agent)
{
    static int fds[STALLED];
    long host_before = rss(host), agent_before = rss(agent), last = 0, sum = 0;
    char command = STALL;

    for (int i = 0; i < STALLED; i++) {
        fds[i] = connect_to(port, SOCK_STREAM);
        put(fds[i], &command, 1);
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
    }
    do { /* until a whole second brings no change */
        struct timespec second = {.tv_sec = 1};

        last = sum;
        for (int i = 0; i < STALLED; i++) {
            while (send(fds[i], chunk, sizeof(chunk), MSG_NOSIGNAL) > 0) {
            }
        }
        nanosleep(&second, NULL);
        sum = rss(host) + rss(agent);
    } while (sum != last);
    printf("memory      %d stalled connections: host agent %ld -> %ld KiB, guest agent %ld -> %ld "
           "KiB\n",
           STALLED, host_before, rss(host), agent_before, rss(agent));
    for (int i = 0; i < STALLED; i++) {
        close(fds[i]);
    }
}

static void measure(const struct report *report, uint16_t bare_tcp, pid_t host, int udp_fd,
                    uint16_t bare_udp)
{
    static const int counts[] = {1, MANY};

    printf("%-52s %12s %12s\n", "medians of 5", "forward", "bare");
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        for (int to_guest = 1; to_guest >= 0; to_guest--) {
            printf("throughput  %-13s %2d connections, MB/s %8s %12.0f %12.0f\n",
                   to_guest ? "host to guest" : "guest to host", counts[i], "",
                   throughput(report->tcp, to_guest, counts[i]),
                   throughput(bare_tcp, to_guest, counts[i]));
            fflush(stdout);
        }
    }
    printf("connections a second, one after the other %10s %12.0f %12.0f\n", "",
           connection_rate(report->tcp), connection_rate(bare_tcp));
    printf("round trip of one byte, us %25s %12.1f %12.1f\n", "", round_trip_us(report->tcp),
           round_trip_us(bare_tcp));
    printf("datagrams lost at 100 Mbit/s, percent %14s %12.2f %12.2f\n", "",
           loss(report->udp, udp_fd), loss(bare_udp, udp_fd));
    fflush(stdout);
    stall(report->tcp, host, report->agent);
}

int main(int argc, char **argv)
{
    struct rlimit files;
    uint16_t tcp, udp;
    int tcp_fd = bind_any(SOCK_STREAM, &tcp), udp_fd = bind_any(SOCK_DGRAM, &udp);
    struct report report;
    int pipe_fds[2];
    pid_t host;

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (argc != 2 || pipe2(pipe_fds, O_CLOEXEC) < 0 || listen(tcp_fd, 4096) < 0) {
        die("usage: bench_tunnel GUEST-AGENT");
    }
    host = fork();
    if (host == 0) {
        host_run(argv[1], tcp, udp, pipe_fds[1]);
    }
    if (read(pipe_fds[0], &report, sizeof(report)) != (ssize_t)sizeof(report)) {
        die("no host");
    }
    in_thread(serve_all, tcp_fd, NULL);
    measure(&report, tcp, host, udp_fd, udp);
    kill(host, SIGTERM);
    return 0;
}
