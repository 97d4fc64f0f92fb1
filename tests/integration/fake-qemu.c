/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for QEMU, so that tests of the host agent run in milliseconds on any machine:
 * everything around the virtual machine is real, above all the guest agent, which runs as an
 * ordinary process on a socketpair where QEMU has a virtio port. It is started with QEMU's own
 * command line, through QEMU_SYSTEM_X86_64=/path/to/fake-qemu.
 *
 * Faked: the answers to capability questions (-qmp stdio); QMP greeting, capabilities,
 * query-status, query-chardev, system_powerdown, system_reset, quit, and of chardev-add,
 * device_add, device_del and chardev-remove as much as a folder by virtiofs needs; the events
 * SHUTDOWN, RESET, POWERDOWN, DEVICE_DELETED and VSERPORT_CHANGE; -pidfile; the serial log; a clean
 * end at SIGTERM. SIGUSR1 cuts the connection of the agent's port. One QMP client and one client of
 * the agent's port at a time, later ones wait, as with QEMU. What the guest writes while nobody is
 * connected to the port is lost, as with QEMU.
 *
 * Not faked: disks, networks, time. No port of the host is forwarded.
 *
 * Environment:
 *   FAKE_QEMU_GUEST=PATH     guest agent; without it the port never opens
 *   FAKE_QEMU_GUEST_SOCKET=PATH   where the agent serves programs of the guest (default: nowhere)
 *   FAKE_QEMU_STREAM=PATH    it listens there in place of vsock, for fake-vsock
 *   FAKE_QEMU_GUEST_MS=N     it starts so long after the VM (default 0)
 *   FAKE_QEMU_AGAIN_MS=N     and again so long after it has ended, as systemd would start it
 *   FAKE_QEMU_FAIL=TEXT      writes TEXT to stderr and exits with 1 before QMP answers
 *   FAKE_QEMU_EXIT=CODE      exits with CODE ...
 *   FAKE_QEMU_EXIT_MS=N      ... so long after the start (default 0)
 *   FAKE_QEMU_SERIAL=TEXT    written to the serial log at the start
 *   FAKE_QEMU_DEAF=1         the guest ignores the power button
 *   FAKE_QEMU_BOOTING=N      the guest does not hear of it when it is pressed the first N times
 *   FAKE_QEMU_REFUSE=COMMAND QMP refuses this command
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <jv.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "util/file.h"
#include "util/strv.h"
#include "util/value.h"

#define CHARDEVS_MAX 8
#define BRIDGE_MAX   (256u << 10) /* bytes on their way in one direction */
#define GUEST_FD     3

struct chardev {
    const char *id;
    int fd; /* listening; -1: none */
    char *logfile;
};

struct fake {
    struct chardev chardevs[CHARDEVS_MAX];
    size_t chardev_count;
    const char *pidfile;
    const char *qmp_chardev; /* NULL: QMP on stdio, a capability probe */

    struct chardev *qmp_listen, *port_listen;
    int qmp, qmp_out; /* client; -1: none */
    bool negotiated;
    struct buf qmp_in;
    jv args;        /* of the command that runs */
    int plugged_fd; /* the one chardev that was added; -1: none */

    int port;  /* client of the agent's port; -1: none */
    int guest; /* our end of the socketpair; -1: no guest runs */
    pid_t guest_pid;
    struct buf to_guest, to_port; /* bytes on their way */

    int signals;
    int64_t start_ms, guest_ms, exit_ms; /* the latter two -1: never */
    int exit_code;
    bool ending;
    int64_t pressed; /* times, the power button */
};

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static _noreturn_ void die(const char *what)
{
    fprintf(stderr, "fake-qemu: %s\n", what);
    exit(1);
}

/* --- end --- */

static void guest_stop(struct fake *f)
{
    if (f->guest_pid > 0) {
        kill(f->guest_pid, SIGTERM);
        waitpid(f->guest_pid, NULL, 0);
    }
    fd_close(f->guest);
    f->guest = -1;
    f->guest_pid = 0;
}

static _noreturn_ void end(struct fake *f, int code)
{
    guest_stop(f);
    if (f->pidfile) {
        unlink(f->pidfile);
    }
    exit(code);
}

/* --- QMP --- */

static void qmp_send(struct fake *f, jv message)
{
    scoped(free) char *text = value_to_json(message, false);
    scoped(free) char *line = xasprintf("%s\r\n", text);

    if (f->qmp_out >= 0) {
        fd_write_all(f->qmp_out, line, strlen(line));
    }
}

static void qmp_event(struct fake *f, const char *name, jv data)
{
    jv stamp = JV_OBJECT(jv_string("seconds"), jv_number((double)time(NULL)),
                         jv_string("microseconds"), jv_number(0));
    jv event = JV_OBJECT(jv_string("timestamp"), stamp, jv_string("event"), jv_string(name),
                         jv_string("data"), data);

    if (f->negotiated) {
        qmp_send(f, event);
    } else {
        jv_free(event);
    }
}

static void event_shutdown(struct fake *f, bool guest, const char *reason)
{
    qmp_event(
        f, "SHUTDOWN",
        JV_OBJECT(jv_string("guest"), jv_bool(guest), jv_string("reason"), jv_string(reason)));
}

static void event_port(struct fake *f, bool open)
{
    qmp_event(f, "VSERPORT_CHANGE",
              JV_OBJECT(jv_string("id"), jv_string("agent0"), jv_string("open"), jv_bool(open)));
}

static void guest_exec(const char *path)
{
    scoped(strv_done) struct strv argv = STRV_INIT;
    const char *local = getenv("FAKE_QEMU_GUEST_SOCKET"), *stream = getenv("FAKE_QEMU_STREAM");

    strv_add_all(&argv, path, "run", "--transport", "fd:3", "--no-boot", NULL);
    if (local) {
        strv_add_all(&argv, "--socket", local, NULL);
    }
    if (stream) {
        strv_add_all(&argv, "--stream-socket", stream, NULL);
    }
    execv(path, (char *const *)strv_argv(&argv));
}

static void guest_start(struct fake *f)
{
    const char *path = getenv("FAKE_QEMU_GUEST");
    int pair[2];

    if (!path || !*path) {
        return;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        die("socketpair");
    }
    f->guest_pid = fork();
    if (f->guest_pid == 0) {
        sigset_t none;

        prctl(PR_SET_PDEATHSIG, SIGKILL); /* as a guest dies with its machine */
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        if (pair[1] == GUEST_FD) {
            fcntl(GUEST_FD, F_SETFD, 0);
        } else {
            dup2(pair[1], GUEST_FD);
        }
        guest_exec(path);
        fprintf(stderr, "fake-qemu: cannot run '%s': %s\n", path, strerror(errno));
        _exit(127);
    }
    close(pair[1]);
    f->guest = pair[0];
    fd_set_nonblock(f->guest);
    event_port(f, true);
}

static jv do_nothing(struct fake *f)
{
    return jv_object();
}

static jv do_capabilities(struct fake *f)
{
    f->negotiated = true;
    return jv_object();
}

static jv do_status(struct fake *f)
{
    return JV_OBJECT(jv_string("status"), jv_string("running"), jv_string("running"), jv_true());
}

static jv do_chardevs(struct fake *f)
{
    jv list = jv_array();

    for (size_t i = 0; i < f->chardev_count; i++) {
        bool open = &f->chardevs[i] != f->port_listen || f->guest >= 0;

        list = jv_array_append(list, JV_OBJECT(jv_string("label"), jv_string(f->chardevs[i].id),
                                               jv_string("frontend-open"), jv_bool(open)));
    }
    return list;
}

static int64_t env_ms(const char *name, int64_t otherwise)
{
    const char *text = getenv(name);

    return text && *text ? strtoll(text, NULL, 10) : otherwise;
}

static jv do_powerdown(struct fake *f)
{
    qmp_event(f, "POWERDOWN", jv_object());
    f->ending = !getenv("FAKE_QEMU_DEAF") && ++f->pressed > env_ms("FAKE_QEMU_BOOTING", 0);
    return jv_object();
}

static jv do_reset(struct fake *f)
{
    qmp_event(f, "RESET",
              JV_OBJECT(jv_string("guest"), jv_false(), jv_string("reason"),
                        jv_string("host-qmp-system-reset")));
    if (f->guest >= 0) {
        guest_stop(f);
        event_port(f, false);
    }
    guest_start(f);
    return jv_object();
}

/* Of a socket whose path is given; one at a time. */
static jv do_chardev_add(struct fake *f)
{
    jv path = jv_getpath(jv_copy(f->args),
                         JV_ARRAY(jv_string("backend"), jv_string("data"), jv_string("addr"),
                                  jv_string("data"), jv_string("path")));

    if (jv_get_kind(path) != JV_KIND_STRING ||
        file_connect_unix(jv_string_value(path), &f->plugged_fd, NULL) < 0) {
        fprintf(stderr, "fake-qemu: chardev-add has no path that could be connected to\n");
        exit(1);
    }
    jv_free(path);
    return jv_object();
}

static jv do_device_add(struct fake *f)
{
    return jv_object();
}

static jv do_device_del(struct fake *f)
{
    qmp_event(f, "DEVICE_DELETED",
              JV_OBJECT(jv_string("device"), jv_object_get(jv_copy(f->args), jv_string("id")),
                        jv_string("path"), jv_string("/machine/peripheral")));
    return jv_object();
}

static jv do_chardev_remove(struct fake *f)
{
    fd_close(f->plugged_fd);
    f->plugged_fd = -1;
    return jv_object();
}

static jv do_quit(struct fake *f)
{
    event_shutdown(f, false, "host-qmp-quit");
    f->exit_ms = now_ms();
    f->exit_code = 0;
    return jv_object();
}

static jv json(const char *text)
{
    return jv_parse(text);
}

static jv do_machines(struct fake *f)
{
    return json("[{\"name\":\"pc-q35-7.2\",\"alias\":\"q35\"},{\"name\":\"none\"}]");
}

static jv do_cpus(struct fake *f)
{
    return json("[{\"name\":\"max\"},{\"name\":\"host\"},{\"name\":\"qemu64\"}]");
}

static jv do_types(struct fake *f)
{
    return json("[{\"name\":\"tcg-accel\"},{\"name\":\"kvm-accel\"},{\"name\":\"virtio-blk-pci\"},"
                "{\"name\":\"virtio-net-pci\"},{\"name\":\"virtio-rng-pci\"},"
                "{\"name\":\"virtio-scsi-pci\"},{\"name\":\"virtio-serial-pci\"},"
                "{\"name\":\"scsi-cd\"},{\"name\":\"virtserialport\"},"
                "{\"name\":\"vhost-user-vsock-pci\"}]");
}

static jv do_schema(struct fake *f)
{
    return json("[{\"name\":\"1\",\"meta-type\":\"enum\",\"values\":[\"user\",\"tap\","
                "\"hubport\",\"stream\"]},"
                "{\"name\":\"2\",\"meta-type\":\"enum\",\"values\":[\"threads\",\"native\"]}]");
}

static const struct {
    const char *name;
    jv (*run)(struct fake *f);
} commands[] = {
    {"qmp_capabilities", do_capabilities},
    {"query-status", do_status},
    {"query-chardev", do_chardevs},
    {"query-machines", do_machines},
    {"query-cpu-definitions", do_cpus},
    {"qom-list-types", do_types},
    {"query-qmp-schema", do_schema},
    {"system_powerdown", do_powerdown},
    {"system_reset", do_reset},
    {"system_wakeup", do_nothing},
    {"quit", do_quit},
    {"chardev-add", do_chardev_add},
    {"device_add", do_device_add},
    {"device_del", do_device_del},
    {"chardev-remove", do_chardev_remove},
};

static void qmp_greet(struct fake *f)
{
    f->negotiated = false;
    qmp_send(f, json("{\"QMP\":{\"version\":{\"qemu\":{\"micro\":0,\"minor\":2,\"major\":7},"
                     "\"package\":\"fake\"},\"capabilities\":[\"oob\"]}}"));
}

static jv qmp_run(struct fake *f, const char *name)
{
    const char *refused = getenv("FAKE_QEMU_REFUSE");

    if (refused && str_eq(refused, name)) {
        return JV_OBJECT(jv_string("error"),
                         JV_OBJECT(jv_string("class"), jv_string("GenericError"), jv_string("desc"),
                                   jv_string("It is refused")));
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (str_eq(commands[i].name, name)) {
            return JV_OBJECT(jv_string("return"), commands[i].run(f));
        }
    }
    return JV_OBJECT(jv_string("error"),
                     JV_OBJECT(jv_string("class"), jv_string("CommandNotFound"), jv_string("desc"),
                               jv_string("The command has not been found")));
}

static void qmp_line(struct fake *f, const char *line)
{
    jv command = jv_parse(line);
    jv name, id, reply;

    if (jv_get_kind(command) != JV_KIND_OBJECT) {
        jv_free(command);
        return;
    }
    name = jv_object_get(jv_copy(command), jv_string("execute"));
    f->args = jv_object_get(jv_copy(command), jv_string("arguments"));
    id = jv_object_get(command, jv_string("id"));
    reply = qmp_run(f, jv_get_kind(name) == JV_KIND_STRING ? jv_string_value(name) : "");
    jv_free(f->args);
    jv_free(name);
    if (jv_is_valid(id)) {
        reply = jv_object_set(reply, jv_string("id"), id);
    } else {
        jv_free(id);
    }
    qmp_send(f, reply);
}

static void qmp_readable(struct fake *f)
{
    char data[4096];
    ssize_t n = read(f->qmp, data, sizeof(data));
    char *end_of_line;

    if (n <= 0) {
        if (!f->qmp_chardev) {
            exit(0); /* the probe's asker is done */
        }
        fd_close(f->qmp);
        f->qmp = f->qmp_out = -1;
        f->negotiated = false;
        buf_truncate(&f->qmp_in, 0);
        return;
    }
    buf_put(&f->qmp_in, data, (size_t)n);
    while (f->qmp_in.len && (end_of_line = memchr(f->qmp_in.data, '\n', f->qmp_in.len))) {
        *end_of_line = '\0';
        qmp_line(f, f->qmp_in.data);
        buf_drop(&f->qmp_in, (size_t)(end_of_line - f->qmp_in.data) + 1);
    }
}

/* --- bridge --- */

/* Fills @to from @fd. False at end of file. */
static bool bridge_read(int fd, struct buf *to)
{
    char data[16384];
    ssize_t n = read(fd, data, sizeof(data));

    if (n > 0) {
        buf_put(to, data, (size_t)n);
    }
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static void bridge_write(int fd, struct buf *from)
{
    ssize_t n = send(fd, from->data, from->len, MSG_NOSIGNAL);

    if (n > 0) {
        buf_drop(from, (size_t)n);
    }
}

static void port_cut(struct fake *f)
{
    fd_close(f->port);
    f->port = -1;
    buf_truncate(&f->to_port, 0);
}

static void port_readable(struct fake *f)
{
    if (!bridge_read(f->port, &f->to_guest)) {
        port_cut(f);
    }
}

static void guest_readable(struct fake *f)
{
    if (!bridge_read(f->guest, &f->to_port)) {
        int64_t again_ms = env_ms("FAKE_QEMU_AGAIN_MS", -1);

        guest_stop(f);
        event_port(f, false);
        buf_truncate(&f->to_guest, 0);
        f->guest_ms = again_ms < 0 ? -1 : now_ms() + again_ms;
    }
    if (f->port < 0) {
        buf_truncate(&f->to_port, 0);
    }
}

/* --- command line --- */

/* The value of @key in "type,key=value,...", or NULL. Caller frees. */
static char *option_get(const char *options, const char *key)
{
    scoped(strv_done) struct strv parts = STRV_INIT;
    size_t n = strlen(key);

    strv_split(&parts, options, ',');
    for (size_t i = 0; i < parts.len; i++) {
        if (strncmp(parts.items[i], key, n) == 0 && parts.items[i][n] == '=') {
            return xstrdup(parts.items[i] + n + 1);
        }
    }
    return NULL;
}

static void add_chardev(struct fake *f, const char *options)
{
    struct chardev *c = &f->chardevs[f->chardev_count];
    scoped(free) char *fd = option_get(options, "fd"), *path = option_get(options, "path");

    if (f->chardev_count++ == CHARDEVS_MAX) {
        die("too many chardevs");
    }
    c->id = option_get(options, "id");
    c->logfile = option_get(options, "logfile");
    c->fd = fd ? atoi(fd) : -1;
    if (!c->id || (!fd && !path)) {
        die("a chardev without id, or without fd and path");
    }
    if (path && file_listen_unix(path, 8, &c->fd, NULL) < 0) {
        die("cannot listen");
    }
    fcntl(c->fd, F_SETFD, FD_CLOEXEC);
}

static struct chardev *find_chardev(struct fake *f, const char *id)
{
    for (size_t i = 0; id && i < f->chardev_count; i++) {
        if (str_eq(f->chardevs[i].id, id)) {
            return &f->chardevs[i];
        }
    }
    return NULL;
}

static void parse(struct fake *f, int argc, char **argv)
{
    scoped(free) char *port = NULL;
    const char *qmp = "";

    for (int i = 1; i + 1 < argc; i++) {
        if (str_eq(argv[i], "-chardev")) {
            add_chardev(f, argv[i + 1]);
        } else if (str_eq(argv[i], "-qmp")) {
            qmp = argv[i + 1];
        } else if (str_eq(argv[i], "-pidfile")) {
            f->pidfile = argv[i + 1];
        } else if (str_eq(argv[i], "-device") && str_starts(argv[i + 1], "virtserialport,")) {
            free(port);
            port = option_get(argv[i + 1], "chardev");
        }
    }
    if (str_eq(qmp, "stdio")) {
        return;
    }
    if (!str_starts(qmp, "chardev:")) {
        die("no -qmp chardev:ID");
    }
    f->qmp_chardev = qmp + strlen("chardev:");
    f->qmp_listen = find_chardev(f, f->qmp_chardev);
    f->port_listen = find_chardev(f, port);
    if (!f->qmp_listen || !f->port_listen) {
        die("no chardev for QMP or for the agent's port");
    }
}

/* --- life --- */

static void write_serial(const struct fake *f)
{
    const char *text = getenv("FAKE_QEMU_SERIAL");

    for (size_t i = 0; i < f->chardev_count; i++) {
        int fd = f->chardevs[i].logfile
                     ? open(f->chardevs[i].logfile, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)
                     : -1;

        if (fd >= 0 && text) {
            fd_write_all(fd, text, strlen(text));
        }
        fd_close(fd);
    }
}

static void power_on(struct fake *f)
{
    scoped(free) char *pid = xasprintf("%d\n", (int)getpid());
    const char *fail = getenv("FAKE_QEMU_FAIL");
    sigset_t set;

    if (fail) {
        fprintf(stderr, "%s\n", fail);
        exit(1);
    }
    if (f->pidfile && file_write_text(f->pidfile, pid, 0644, NULL) < 0) {
        die("cannot write the pid file");
    }
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    f->signals = signalfd(-1, &set, SFD_CLOEXEC);
    write_serial(f);
    f->start_ms = now_ms();
    f->guest_ms = getenv("FAKE_QEMU_GUEST") ? f->start_ms + env_ms("FAKE_QEMU_GUEST_MS", 0) : -1;
    f->exit_ms = getenv("FAKE_QEMU_EXIT") ? f->start_ms + env_ms("FAKE_QEMU_EXIT_MS", 0) : -1;
    f->exit_code = (int)env_ms("FAKE_QEMU_EXIT", 0);
}

static void on_signal(struct fake *f)
{
    struct signalfd_siginfo info;

    if (read(f->signals, &info, sizeof(info)) != (ssize_t)sizeof(info)) {
        return;
    }
    if (info.ssi_signo == SIGUSR1) {
        port_cut(f);
    } else {
        fprintf(stderr, "fake-qemu: terminating on signal %u from pid %u\n", info.ssi_signo,
                info.ssi_pid);
        event_shutdown(f, false, "host-signal");
        end(f, 0);
    }
}

static int accept_from(const struct chardev *c)
{
    return accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);
}

static void on_qmp_connect(struct fake *f)
{
    f->qmp = f->qmp_out = accept_from(f->qmp_listen);
    qmp_greet(f);
}

static void on_port_connect(struct fake *f)
{
    f->port = accept_from(f->port_listen);
    fd_set_nonblock(f->port);
}

static void port_writable(struct fake *f)
{
    bridge_write(f->port, &f->to_port);
}

static void guest_writable(struct fake *f)
{
    bridge_write(f->guest, &f->to_guest);
}

struct source {
    int fd;
    short events;
    void (*handle)(struct fake *f);
};

/* What to wait for in this round. A poll entry with fd -1 is skipped. */
static size_t sources(struct fake *f, struct source *s)
{
    size_t n = 0;
    short room_to_guest = f->to_guest.len < BRIDGE_MAX ? POLLIN : 0;
    short room_to_port = f->to_port.len < BRIDGE_MAX ? POLLIN : 0;

    s[n++] = (struct source){f->signals, POLLIN, on_signal};
    s[n++] = (struct source){f->qmp, POLLIN, qmp_readable};
    s[n++] = (struct source){f->qmp < 0 ? f->qmp_listen->fd : -1, POLLIN, on_qmp_connect};
    s[n++] = (struct source){f->port < 0 ? f->port_listen->fd : -1, POLLIN, on_port_connect};
    s[n++] = (struct source){room_to_guest ? f->port : -1, room_to_guest, port_readable};
    s[n++] = (struct source){f->to_port.len ? f->port : -1, POLLOUT, port_writable};
    s[n++] = (struct source){room_to_port ? f->guest : -1, room_to_port, guest_readable};
    s[n++] = (struct source){f->to_guest.len ? f->guest : -1, POLLOUT, guest_writable};
    return n;
}

static int64_t earliest(int64_t a, int64_t b)
{
    return a < 0 ? b : b < 0 ? a : MIN(a, b);
}

static void timers(struct fake *f)
{
    int64_t now = now_ms();

    if (f->ending) { /* the guest has seen the power button */
        guest_stop(f);
        event_shutdown(f, true, "guest-shutdown");
        end(f, 0);
    }
    if (f->exit_ms >= 0 && now >= f->exit_ms) {
        end(f, f->exit_code);
    }
    if (f->guest_ms >= 0 && now >= f->guest_ms) {
        f->guest_ms = -1;
        guest_start(f);
    }
}

static void run(struct fake *f)
{
    struct source s[16];
    struct pollfd p[16];

    for (;;) {
        int64_t next = earliest(f->guest_ms, f->exit_ms);
        size_t n = sources(f, s);

        for (size_t i = 0; i < n; i++) {
            p[i] = (struct pollfd){.fd = s[i].fd, .events = s[i].events};
        }
        if (poll(p, n, next < 0 ? -1 : (int)MAX(next - now_ms(), 0)) < 0 && errno != EINTR) {
            die("poll");
        }
        for (size_t i = 0; i < n; i++) {
            if (s[i].fd >= 0 && p[i].revents) {
                s[i].handle(f);
                break; /* handlers close descriptors: look again */
            }
        }
        timers(f);
    }
}

/* Answers questions on stdio until told to quit. */
static void answer_probe(struct fake *f)
{
    f->qmp = STDIN_FILENO;
    f->qmp_out = STDOUT_FILENO;
    f->exit_ms = -1;
    qmp_greet(f);
    while (f->exit_ms < 0) {
        qmp_readable(f);
    }
}

int main(int argc, char **argv)
{
    /* Not on the stack: it is in use until exit(), wherever that is called. */
    static struct fake f = {.qmp = -1, .qmp_out = -1, .port = -1, .guest = -1, .plugged_fd = -1};

    parse(&f, argc, argv);
    if (!f.qmp_chardev) {
        answer_probe(&f);
        return 0;
    }
    power_on(&f);
    run(&f);
}
