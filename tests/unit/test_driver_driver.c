/* SPDX-License-Identifier: Apache-2.0 */
/* The QEMU driver against fake-qemu: real processes, sockets and files, no machine. */
#include "test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/buf.h"
#include "driver/driver.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"

#define DEADLINE_MS 20000

struct fixture {
    struct loop *loop;
    struct loop_timer *deadline;
    char *dir;
    struct config config;
    const struct driver_ops *ops;
    struct driver *driver;
    struct buf seen; /* what the driver told, one word each */
    char *reason;    /* of exited(), or why of a mount */
    char *path;      /* of the environment, when another one was set */
    char *tag;       /* of the mount that was last told of */
    struct buf console;
    const char *wait_for; /* ends wait() */
    const char *close_at; /* closes the driver in that callback */
};

static void note(struct fixture *f, const char *what)
{
    buf_printf(&f->seen, "%s ", what);
    if (f->close_at && strcmp(f->close_at, what) == 0) {
        f->ops->close(f->driver);
        f->driver = NULL;
    }
    if (f->wait_for && strcmp(f->wait_for, what) == 0) {
        loop_quit(f->loop, 0);
    }
}

static void on_started(void *arg)
{
    note(arg, "started");
}

static void on_exited(bool expected, const char *reason, void *arg)
{
    struct fixture *f = arg;

    free(f->reason);
    f->reason = xstrdup(reason);
    note(f, expected ? "ended" : "died");
}

static void on_notice(const char *what, void *arg)
{
    note(arg, what);
}

static void on_guest_port(bool open, void *arg)
{
    note(arg, open ? "open" : "shut");
}

static void on_console(const char *text, size_t len, void *arg)
{
    struct fixture *f = arg;

    buf_put(&f->console, text, len);
    note(f, "console");
}

static void note_mount(struct fixture *f, const char *tag, const char *what, const char *why)
{
    free(f->reason);
    f->reason = xstrdup(why ? why : "");
    free(f->tag);
    f->tag = xstrdup(tag);
    note(f, what);
}

static void on_mount_lost(const char *tag, const char *reason, void *arg)
{
    note_mount(arg, tag, "lost", reason);
}

static void on_mount_added(const char *tag, const char *why, void *arg)
{
    note_mount(arg, tag, why ? "refused" : "added", why);
}

static void on_mount_removed(const char *tag, const char *why, void *arg)
{
    note_mount(arg, tag, why ? "kept" : "removed", why);
}

static const struct driver_events events = {.started = on_started,
                                            .mount_lost = on_mount_lost,
                                            .mount_added = on_mount_added,
                                            .mount_removed = on_mount_removed,
                                            .exited = on_exited,
                                            .notice = on_notice,
                                            .guest_port = on_guest_port,
                                            .console = on_console};

static void on_deadline(void *arg)
{
    struct fixture *f = arg;

    loop_quit(f->loop, -ETIMEDOUT);
}

static void wait_for(struct fixture *f, const char *what)
{
    f->wait_for = what;
    loop_timer_set(f->deadline, DEADLINE_MS);
    if (loop_run(f->loop) != 0) {
        fail_msg("waited for \"%s\", saw \"%s\"", what, buf_str(&f->seen));
    }
}

static void write_file(const struct fixture *f, const char *name)
{
    scoped(free) char *path = path_join(f->dir, name);

    assert_int_equal(file_write_text(path, name, 0644, NULL), 0);
}

static bool has_file(const struct fixture *f, const char *name)
{
    scoped(free) char *path = path_join(f->dir, name);

    return file_exists(path);
}

static void open_driver(struct fixture *f, int ssh_port)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct driver_options options = {.config = &f->config, .dir = f->dir, .ssh_port = ssh_port};

    assert_works(f->ops->open(f->loop, &options, &events, f, &f->driver, &err), &err);
}

static void start(struct fixture *f)
{
    scoped(error_done) struct error err = ERROR_INIT;

    open_driver(f, 0);
    assert_works(f->ops->start(f->driver, &err), &err);
}

static const char *const knobs[] = {"FAKE_QEMU_FAIL",  "FAKE_QEMU_EXIT",   "FAKE_QEMU_EXIT_MS",
                                    "FAKE_QEMU_DEAF",  "FAKE_QEMU_SERIAL", "FAKE_QEMU_GUEST",
                                    "FAKE_QEMU_REFUSE"};

static int setup(void **state)
{
    char template[] = "/tmp/test-driver-XXXXXX";
    struct fixture *f = xnew(struct fixture);

    f->dir = xstrdup(mkdtemp(template));
    setenv("XDG_CACHE_HOME", f->dir, 1);
    setenv("QEMU_SYSTEM_X86_64", getenv("FAKE_QEMU"), 1);
    f->config = (struct config){.instance = "a",
                                .dir = f->dir,
                                .os = "Linux",
                                .arch = "x86_64",
                                .cpus = 1,
                                .memory = 64 << 20,
                                .cpu_type = "",
                                .video_display = "none",
                                .legacy_bios = true};
    f->loop = loop_new();
    f->deadline = loop_timer_new(f->loop, on_deadline, f);
    assert_int_equal(driver_find("qemu", &f->ops, NULL), 0);
    write_file(f, "disk");
    write_file(f, "cidata.iso");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *pidfile = path_join(f->dir, "qemu.pid");
    pid_t pid = process_read_pidfile(pidfile);

    if (f->driver) {
        f->ops->close(f->driver);
    }
    if (pid > 0) {
        process_kill(pid, SIGKILL, DEADLINE_MS, NULL);
    }
    for (size_t i = 0; i < ARRAY_LEN(knobs); i++) {
        unsetenv(knobs[i]);
    }
    if (f->path) {
        setenv("PATH", f->path, 1);
        free(f->path);
    }
    loop_timer_free(f->deadline);
    loop_free(f->loop);
    file_remove_tree(f->dir, NULL);
    buf_done(&f->seen);
    buf_done(&f->console);
    free(f->reason);
    free(f->tag);
    free(f->dir);
    free(f);
    return 0;
}

static void assert_clean(const struct fixture *f)
{
    static const char *const runtime[] = {"qemu.pid", "qmp.sock", "serial.sock", "ga.port.sock"};

    for (size_t i = 0; i < ARRAY_LEN(runtime); i++) {
        assert_false(has_file(f, runtime[i]));
    }
}

static void test_driver_starts_and_powers_down(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    start(f);
    wait_for(f, "started");
    assert_true(f->ops->pid(f->driver) > 0);
    wait_for(f, "shut");
    assert_works(f->ops->shutdown(f->driver, &err), &err);
    wait_for(f, "ended");
    assert_string_equal(buf_str(&f->seen), "started shut shutdown ended ");
    assert_string_equal(f->reason, "the VM powered down");
    assert_int_equal(f->ops->pid(f->driver), 0);
    assert_clean(f);
}

static void test_driver_carries_the_words_of_a_launch_that_fails(void **state)
{
    struct fixture *f = *state;

    setenv("FAKE_QEMU_FAIL", "first line\nCould not open disk", 1);
    start(f);
    wait_for(f, "died");
    assert_string_equal(buf_str(&f->seen), "died ");
    assert_non_null(strstr(f->reason, "exit status 1: first line; Could not open disk"));
    assert_clean(f);
}

static void test_driver_tells_of_a_sudden_end(void **state)
{
    struct fixture *f = *state;

    setenv("FAKE_QEMU_EXIT", "3", 1);
    setenv("FAKE_QEMU_EXIT_MS", "50", 1);
    start(f);
    wait_for(f, "died");
    assert_non_null(strstr(f->reason, "exit status 3"));
    assert_clean(f);
}

static void test_driver_tells_of_a_kill_from_outside(void **state)
{
    struct fixture *f = *state;

    start(f);
    wait_for(f, "started");
    kill(f->ops->pid(f->driver), SIGKILL);
    wait_for(f, "died");
    assert_non_null(strstr(f->reason, "signal 9"));
    assert_clean(f);
}

static void test_driver_kills_a_guest_that_is_deaf(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    setenv("FAKE_QEMU_DEAF", "1", 1);
    start(f);
    wait_for(f, "started");
    assert_works(f->ops->shutdown(f->driver, &err), &err);
    assert_works(f->ops->kill(f->driver, &err), &err);
    wait_for(f, "ended");
    assert_non_null(strstr(f->reason, "the VM was ended"));
}

static void test_driver_kills_a_process_that_hangs(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    start(f);
    wait_for(f, "started");
    kill(f->ops->pid(f->driver), SIGSTOP);
    assert_works(f->ops->kill(f->driver, &err), &err);
    wait_for(f, "ended");
    assert_non_null(strstr(f->reason, "signal 9"));
}

static void test_driver_hands_the_console_over(void **state)
{
    struct fixture *f = *state;

    setenv("FAKE_QEMU_SERIAL", "No bootable device.\r\n", 1);
    start(f);
    wait_for(f, "console");
    assert_string_equal(buf_str(&f->console), "No bootable device.\r\n");
}

static int bound_port(int *ret_fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);

    *ret_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(*ret_fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(*ret_fd, 1), 0);
    assert_int_equal(getsockname(*ret_fd, (struct sockaddr *)&address, &len), 0);
    return ntohs(address.sin_port);
}

static void test_driver_names_a_port_that_is_taken(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    int fd, port = bound_port(&fd);

    open_driver(f, port);
    assert_fails(f->ops->start(f->driver, &err), &err, EADDRINUSE, "for ssh");
    fd_close(fd);
    assert_works(f->ops->start(f->driver, &err), &err);
    wait_for(f, "started");
}

static void test_driver_needs_a_disk(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *disk = path_join(f->dir, "disk");

    unlink(disk);
    open_driver(f, 0);
    assert_fails(f->ops->start(f->driver, &err), &err, ENOENT, "disk");
    assert_clean(f);
}

static void test_driver_leaves_the_vm_running_and_takes_it_over(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    pid_t pid;
    int fd;

    start(f);
    wait_for(f, "started");
    pid = f->ops->pid(f->driver);
    f->ops->close(f->driver);
    buf_truncate(&f->seen, 0);
    open_driver(f, 0);
    assert_works(f->ops->attach(f->driver, &err), &err);
    assert_int_equal(f->ops->pid(f->driver), pid);
    wait_for(f, "shut");
    assert_string_equal(buf_str(&f->seen), "started shut ");
    assert_works(f->ops->guest_connect(f->driver, &fd, &err), &err);
    fd_close(fd);
    assert_works(f->ops->shutdown(f->driver, &err), &err);
    wait_for(f, "ended");
    assert_clean(f);
}

/* --- folders by virtiofs --- */

/* A virtiofsd that serves nothing, as long as somebody is connected to it. */
static const char virtiofsd[] =
    "#!/bin/sh\n"
    "if [ \"$1\" = --help ]; then echo '--shared-dir --readonly'; exit; fi\n"
    "exec python3 -S -c 'import socket\n"
    "peer = socket.socket(fileno=3).accept()[0]\n"
    "while peer.recv(4096): pass'\n";

static void start_with_virtiofsd(struct fixture *f, enum config_mount_type mount_type)
{
    scoped(free) char *program = path_join(f->dir, "bin/virtiofsd");
    scoped(free) char *bin = path_join(f->dir, "bin");
    scoped(free) char *path = xasprintf("%s:%s", bin, getenv("PATH"));

    f->path = xstrdup(getenv("PATH"));
    assert_int_equal(file_mkdirs(bin, 0700, NULL), 0);
    assert_int_equal(file_write_text(program, virtiofsd, 0700, NULL), 0);
    setenv("PATH", path, 1);
    f->config.mount_type = mount_type;
    start(f);
    wait_for(f, "started");
}

static int add_mount(struct fixture *f, const char *point, struct error *err)
{
    scoped(free) char *location = path_join(f->dir, "shared");
    const struct config_mount mount = {
        .location = location, .mount_point = (char *)point, .writable = true};

    return f->ops->mount_add(f->driver, &mount, err);
}

/* Of the server of the mount that was last told of. */
static pid_t server_pid(const struct fixture *f)
{
    scoped(free) char *name = xasprintf("virtiofsd-%s.pid", f->tag);
    scoped(free) char *path = path_join(f->dir, name);
    scoped(buf_done) struct buf text = BUF_INIT;

    return file_read(path, 256, &text, NULL) < 0 ? 0 : atoi(buf_str(&text));
}

static void test_driver_gives_a_running_vm_a_folder_and_takes_it_again(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    pid_t pid;

    start_with_virtiofsd(f, CONFIG_MOUNT_VIRTIOFS);
    for (int i = 0; i < 3; i++) {
        assert_works(add_mount(f, "/mnt", &err), &err);
        wait_for(f, "added");
        assert_true(f->ops->mount_has(f->driver, f->tag));
        pid = server_pid(f);
        assert_true(process_alive(pid));
        assert_works(f->ops->mount_remove(f->driver, f->tag, &err), &err);
        wait_for(f, "removed");
        assert_false(f->ops->mount_has(f->driver, f->tag));
        assert_int_equal(server_pid(f), 0);
        assert_int_equal(process_wait(pid, DEADLINE_MS), 0);
    }
    assert_fails(f->ops->mount_remove(f->driver, f->tag, &err), &err, ENOENT, "no device");
}

static void test_driver_adds_no_folder_to_a_vm_that_was_to_have_none(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    start_with_virtiofsd(f, CONFIG_MOUNT_AGENT);
    assert_fails(add_mount(f, "/mnt", &err), &err, EOPNOTSUPP, "mountType");
}

static void test_driver_undoes_a_folder_that_qemu_refuses(void **state)
{
    static const char *const commands[] = {"chardev-add", "device_add"};
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        setenv("FAKE_QEMU_REFUSE", commands[i], 1);
        start_with_virtiofsd(f, CONFIG_MOUNT_VIRTIOFS);
        assert_works(add_mount(f, "/mnt", &err), &err);
        wait_for(f, "refused");
        assert_non_null(strstr(f->reason, "It is refused"));
        assert_false(f->ops->mount_has(f->driver, f->tag));
        assert_int_equal(server_pid(f), 0);
        assert_works(f->ops->kill(f->driver, &err), &err);
        wait_for(f, "ended");
        f->ops->close(f->driver);
        f->driver = NULL;
        setenv("PATH", f->path, 1);
        free(steal(f->path));
    }
}

static void test_driver_says_when_no_port_is_left(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    start_with_virtiofsd(f, CONFIG_MOUNT_VIRTIOFS);
    for (int i = 0; i < 4; i++) {
        scoped(free) char *point = xasprintf("/mnt/%d", i);

        assert_works(add_mount(f, point, &err), &err);
        wait_for(f, "added");
    }
    assert_fails(add_mount(f, "/mnt/more", &err), &err, ENOSPC, "all 4 ports");
    assert_works(f->ops->mount_remove(f->driver, f->tag, &err), &err);
    wait_for(f, "removed");
    assert_works(add_mount(f, "/mnt/more", &err), &err);
    wait_for(f, "added");
}

static void test_driver_watches_the_servers_that_another_has_started(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    start_with_virtiofsd(f, CONFIG_MOUNT_VIRTIOFS);
    assert_works(add_mount(f, "/mnt/a", &err), &err);
    wait_for(f, "added");
    assert_works(add_mount(f, "/mnt/b", &err), &err);
    wait_for(f, "added");
    f->ops->close(f->driver);
    open_driver(f, 0);
    assert_works(f->ops->attach(f->driver, &err), &err);
    wait_for(f, "started");
    assert_true(f->ops->mount_has(f->driver, f->tag));
    kill(server_pid(f), SIGKILL);
    wait_for(f, "lost");
    assert_non_null(strstr(f->reason, "virtiofsd"));
    assert_false(f->ops->mount_has(f->driver, f->tag));
    assert_fails(add_mount(f, "/mnt/b", &err), &err, EEXIST, "has ended");
    assert_works(f->ops->mount_remove(f->driver, f->tag, &err), &err);
    wait_for(f, "removed");
    assert_works(add_mount(f, "/mnt/b", &err), &err);
    wait_for(f, "added");
}

/* Whatever has its number by then. */
static void test_driver_tells_of_a_server_that_ended_while_nobody_watched(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *name = NULL;
    scoped(free) char *path = NULL;
    scoped(free) char *text = xasprintf("%d 0 1\n", (int)getpid());

    start_with_virtiofsd(f, CONFIG_MOUNT_VIRTIOFS);
    assert_works(add_mount(f, "/mnt", &err), &err);
    wait_for(f, "added");
    name = xasprintf("virtiofsd-%s.pid", f->tag);
    path = path_join(f->dir, name);
    f->ops->close(f->driver);
    assert_int_equal(file_write_text(path, text, 0600, NULL), 0);
    open_driver(f, 0);
    assert_works(f->ops->attach(f->driver, &err), &err);
    assert_false(f->ops->mount_has(f->driver, f->tag));
    wait_for(f, "lost");
}

static void test_driver_takes_over_no_stranger(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *pidfile = path_join(f->dir, "qemu.pid");
    scoped(free) char *own = xasprintf("%d\n", (int)getpid());

    open_driver(f, 0);
    assert_fails(f->ops->attach(f->driver, &err), &err, ESRCH, "no QEMU runs");
    assert_int_equal(file_write_text(pidfile, own, 0644, NULL), 0);
    assert_fails(f->ops->attach(f->driver, &err), &err, ESRCH, "no QEMU runs");
    assert_int_equal(file_write_text(pidfile, "999999999\n", 0644, NULL), 0);
    assert_fails(f->ops->attach(f->driver, &err), &err, ESRCH, "no QEMU runs");
}

static void test_driver_may_be_closed_in_any_callback(void **state)
{
    static const char *const places[] = {"console", "started", "shut", "shutdown", "died"};

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        void *own;
        struct fixture *f;

        assert_int_equal(setup(&own), 0);
        f = own;
        f->close_at = places[i];
        setenv("FAKE_QEMU_SERIAL", "text\n", 1);
        start(f);
        if (strcmp(places[i], "died") == 0) {
            wait_for(f, "started");
            kill(f->ops->pid(f->driver), SIGKILL);
        } else if (strcmp(places[i], "shutdown") == 0) {
            wait_for(f, "shut");
            kill(f->ops->pid(f->driver), SIGTERM);
        }
        wait_for(f, places[i]);
        assert_null(f->driver);
        teardown(&own);
    }
}

static void test_registry_knows_its_drivers(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    const struct driver_ops *ops;

    assert_fails(driver_find("vz", &ops, &err), &err, ENOTSUP, "'vz'");
}

#define driver_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        driver_test(test_driver_starts_and_powers_down),
        driver_test(test_driver_carries_the_words_of_a_launch_that_fails),
        driver_test(test_driver_tells_of_a_sudden_end),
        driver_test(test_driver_tells_of_a_kill_from_outside),
        driver_test(test_driver_kills_a_guest_that_is_deaf),
        driver_test(test_driver_kills_a_process_that_hangs),
        driver_test(test_driver_hands_the_console_over),
        driver_test(test_driver_names_a_port_that_is_taken),
        driver_test(test_driver_needs_a_disk),
        driver_test(test_driver_leaves_the_vm_running_and_takes_it_over),
        driver_test(test_driver_gives_a_running_vm_a_folder_and_takes_it_again),
        driver_test(test_driver_adds_no_folder_to_a_vm_that_was_to_have_none),
        driver_test(test_driver_undoes_a_folder_that_qemu_refuses),
        driver_test(test_driver_says_when_no_port_is_left),
        driver_test(test_driver_watches_the_servers_that_another_has_started),
        driver_test(test_driver_tells_of_a_server_that_ended_while_nobody_watched),
        driver_test(test_driver_takes_over_no_stranger),
        cmocka_unit_test(test_driver_may_be_closed_in_any_callback),
        cmocka_unit_test(test_registry_knows_its_drivers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
