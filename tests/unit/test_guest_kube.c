/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services of a cluster: the events of an API server, and the life of the kubectl that brings them.
 * That one is a script here, which says what its file `events` holds and then waits: a cluster, or
 * kubectl itself, is not to be had where tests run, and real servers neither end a watch nor fail
 * when a test wants it.
 */
#include "test.h"
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include "child.h"
#include "files.h"
#include "kube.h"
#include "kubewatch.h"

#define WAIT_MS 20000

#define EVENT(type, name, kind, ports)                                                             \
    "{\"type\":\"" type "\",\"object\":{\"kind\":\"Service\",\"metadata\":{\"name\":\"" name       \
    "\",\"namespace\":\"default\",\"labels\":{\"name\":\"x\"}},\"spec\":{\"ports\":[" ports        \
    "],\"type\":\"" kind "\"},\"status\":{\"loadBalancer\":{}}}}"

#define HTTP_PORT                                                                                  \
    "{\"name\":\"http\",\"protocol\":\"TCP\",\"port\":80,\"targetPort\":8080,\"nodePort\":30080}"
#define DNS_PORT  "{\"protocol\":\"UDP\",\"port\":5300,\"nodePort\":30053}"
#define SCTP_PORT "{\"protocol\":\"SCTP\",\"port\":9,\"nodePort\":30009}"
#define BARE_PORT "{\"port\":81}"

static size_t count_of(const struct kubewatch *watch, enum port_protocol protocol, uint16_t port)
{
    scoped(portset_done) struct portset set = {0};

    kubewatch_ports(watch, &set);
    return portset_has_port(&set, protocol, port) ? set.count : 0;
}

static void test_node_ports_and_load_balancers_count(void **state)
{
    scoped(kubewatch_free) struct kubewatch *watch = kubewatch_new();
    scoped(portset_done) struct portset set = {0};

    assert_int_equal(kubewatch_line(watch, EVENT("ADDED", "kubernetes", "ClusterIP", HTTP_PORT)),
                     0);
    kubewatch_ports(watch, &set);
    assert_int_equal(set.count, 0);
    assert_int_equal(kubewatch_line(watch, EVENT("ADDED", "web", "NodePort",
                                                 HTTP_PORT "," DNS_PORT "," SCTP_PORT)),
                     0);
    assert_int_equal(count_of(watch, PORT_TCP, 30080), 2);
    assert_int_equal(count_of(watch, PORT_UDP, 30053), 2);
    assert_int_equal(
        kubewatch_line(watch, EVENT("ADDED", "lb", "LoadBalancer", DNS_PORT "," BARE_PORT)), 0);
    assert_int_equal(count_of(watch, PORT_UDP, 5300), 4);
    assert_int_equal(count_of(watch, PORT_TCP, 81), 4);
}

static void test_changes_and_deletions_are_followed(void **state)
{
    scoped(kubewatch_free) struct kubewatch *watch = kubewatch_new();

    kubewatch_line(watch, EVENT("ADDED", "web", "NodePort", HTTP_PORT));
    kubewatch_line(watch, EVENT("MODIFIED", "web", "LoadBalancer", HTTP_PORT));
    assert_int_equal(count_of(watch, PORT_TCP, 80), 1);
    kubewatch_line(watch, EVENT("MODIFIED", "web", "ClusterIP", HTTP_PORT));
    assert_int_equal(count_of(watch, PORT_TCP, 80), 0);
    kubewatch_line(watch, EVENT("ADDED", "web", "NodePort", HTTP_PORT));
    kubewatch_line(watch, EVENT("DELETED", "web", "NodePort", HTTP_PORT));
    assert_int_equal(count_of(watch, PORT_TCP, 30080), 0);
}

static void test_what_a_new_stream_does_not_name_is_gone(void **state)
{
    scoped(kubewatch_free) struct kubewatch *watch = kubewatch_new();

    kubewatch_line(watch, EVENT("ADDED", "web", "NodePort", HTTP_PORT));
    kubewatch_line(watch, EVENT("ADDED", "dns", "NodePort", DNS_PORT));
    kubewatch_begin(watch);
    kubewatch_line(watch, EVENT("ADDED", "web", "NodePort", HTTP_PORT));
    assert_int_equal(count_of(watch, PORT_UDP, 30053), 2); /* until it has settled */
    kubewatch_settle(watch);
    assert_int_equal(count_of(watch, PORT_TCP, 30080), 1);
}

static void test_what_is_no_event_changes_nothing(void **state)
{
    static const struct {
        const char *line;
        int want;
    } cases[] = {
        {"", -EBADMSG},
        {"error: the server is not there", -EBADMSG},
        {"{\"type\":\"ADDED\"", -EBADMSG},
        {"{\"type\":\"ADDED\",\"object\":{}}", -EBADMSG},
        {"{\"type\":\"BOOKMARK\",\"object\":{}}", 0},
        {"{\"type\":\"ERROR\",\"object\":{\"code\":410}}", -EREMOTE},
        {EVENT("ADDED", "a", "NodePort", "{\"port\":80,\"nodePort\":70000}"), 0},
        {EVENT("ADDED", "a", "NodePort", "{\"port\":80,\"nodePort\":\"x\"}"), 0},
        {EVENT("ADDED", "a", "NodePort", "{\"port\":80,\"nodePort\":-1}"), 0},
        {EVENT("ADDED", "a", "NodePort", "1,[2],null"), 0},
    };
    scoped(kubewatch_free) struct kubewatch *watch = kubewatch_new();
    scoped(portset_done) struct portset set = {0};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(kubewatch_line(watch, cases[i].line), cases[i].want);
    }
    kubewatch_ports(watch, &set);
    assert_int_equal(set.count, 0);
}

static void test_more_ports_than_a_service_may_have_are_left_out(void **state)
{
    scoped(kubewatch_free) struct kubewatch *watch = kubewatch_new();
    scoped(portset_done) struct portset set = {0};
    scoped(free) char *line = xstrdup("");

    for (unsigned i = 0; i < KUBEWATCH_PORTS_MAX + 10; i++) {
        char *longer = xasprintf("%s%s{\"nodePort\":%u}", line, i ? "," : "", 1000 + i);

        free(line);
        line = longer;
    }
    {
        scoped(free) char *event = xasprintf(EVENT("ADDED", "many", "NodePort", "%s"), line);

        assert_int_equal(kubewatch_line(watch, event), 0);
    }
    kubewatch_ports(watch, &set);
    assert_int_equal(set.count, KUBEWATCH_PORTS_MAX);
}

/* ---- the life of kubectl ---- */

struct fixture {
    char dir[64];
    char *configs[2], *script, *events;
    struct loop *loop;
    struct children *children;
    int signal_fd;
    struct loop_watch *signal_watch;
    struct loop_timer *deadline;
    struct kube *kube;
    struct portset seen;
    void (*then)(struct fixture *f); /* what on_kube_changed() does */
    unsigned changes;
};

static void on_child_signal(int fd, short revents, void *arg)
{
    struct fixture *f = arg;
    struct signalfd_siginfo info;

    while (read(fd, &info, sizeof(info)) > 0) {
    }
    children_reap(f->children);
}

static void on_deadline(void *arg)
{
    loop_quit(arg);
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(files_write(path, text, mode, &err), &err);
}

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);
    sigset_t set;

    snprintf(f->dir, sizeof(f->dir), "/tmp/lima-kube-XXXXXX");
    if (!mkdtemp(f->dir)) {
        return -1;
    }
    f->configs[0] = xasprintf("%s/etc/config", f->dir);
    f->script = xasprintf("%s/kubectl", f->dir);
    f->events = xasprintf("%s/events", f->dir);
    f->loop = loop_new();
    f->children = children_new(f->loop);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    f->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    f->signal_watch = loop_watch_new(f->loop, f->signal_fd, POLLIN, on_child_signal, f);
    f->deadline = loop_timer_new(f->loop, on_deadline, f->loop);
    loop_timer_start(f->deadline, WAIT_MS);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *clean = xasprintf("rm -rf '%s'", f->dir);

    kube_close(f->kube);
    loop_timer_free(f->deadline);
    loop_watch_free(f->signal_watch);
    close(f->signal_fd);
    children_free(f->children);
    loop_free(f->loop);
    portset_done(&f->seen);
    free(f->configs[0]);
    free(f->script);
    free(f->events);
    free(f);
    return system(clean);
}

static void on_kube_changed(void *arg)
{
    struct fixture *f = arg;

    f->changes++;
    portset_copy(&f->seen, kube_current(f->kube));
    f->then(f);
}

static void install_kubectl(const struct fixture *f)
{
    scoped(free) char *text = xasprintf("#!/bin/sh\n"
                                        "[ \"$1 $3 $4\" = '--kubeconfig get --raw' ] || exit 9\n"
                                        "[ -s \"$2\" ] || exit 8\n"
                                        "cat '%s'\n"
                                        "exec sleep 1000\n",
                                        f->events);

    write_file(f->script, text, 0755);
}

static void write_config(const struct fixture *f, const char *text)
{
    scoped(free) char *dir = xasprintf("%s/etc", f->dir);

    mkdir(dir, 0755);
    write_file(f->configs[0], text, 0600);
}

static void open_kube(struct fixture *f)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct kube_options options = {.loop = f->loop,
                                   .children = f->children,
                                   .configs = (const char *const *)f->configs,
                                   .path = f->dir,
                                   .changed = on_kube_changed,
                                   .arg = f};

    assert_works(kube_open(&options, &f->kube, &err), &err);
}

static void quit(struct fixture *f)
{
    loop_quit(f->loop);
}

static void remove_config(struct fixture *f)
{
    assert_true(portset_has_port(&f->seen, PORT_TCP, 30080));
    assert_int_equal(f->seen.count, 1);
    unlink(f->configs[0]);
    f->then = quit;
}

static void test_services_come_with_the_config_and_go_with_it(void **state)
{
    struct fixture *f = *state;

    write_file(f->events, EVENT("ADDED", "web", "NodePort", HTTP_PORT) "\n", 0644);
    install_kubectl(f);
    f->then = remove_config;
    open_kube(f);
    write_config(f, "cluster"); /* with the folder where it lies */
    loop_run(f->loop);
    assert_int_equal(f->changes, 2);
    assert_int_equal(f->seen.count, 0);
}

static void install_late(void *arg)
{
    install_kubectl(arg);
}

static void test_kubectl_may_come_after_the_config(void **state)
{
    struct fixture *f = *state;
    struct loop_timer *later;

    write_file(f->events, EVENT("ADDED", "web", "NodePort", HTTP_PORT) "\n", 0644);
    write_config(f, "cluster");
    f->then = quit;
    open_kube(f);
    later = loop_timer_new(f->loop, install_late, f);
    loop_timer_start(later, 200);
    loop_run(f->loop);
    loop_timer_free(later);
    assert_int_equal(f->seen.count, 1);
}

/* Another file under the same name: the cluster is another one. */
static void replace_config(struct fixture *f)
{
    write_file(f->events, "a word of warning\n" EVENT("ADDED", "dns", "NodePort", DNS_PORT) "\n",
               0644);
    write_config(f, "another cluster");
    f->then = quit;
}

static void test_another_config_begins_anew(void **state)
{
    struct fixture *f = *state;

    write_file(f->events, EVENT("ADDED", "web", "NodePort", HTTP_PORT) "\n", 0644);
    install_kubectl(f);
    write_config(f, "cluster");
    f->then = replace_config;
    open_kube(f);
    loop_run(f->loop);
    assert_true(portset_has_port(&f->seen, PORT_UDP, 30053));
}

static void make_it_work(void *arg)
{
    struct fixture *f = arg;

    write_file(f->events, EVENT("ADDED", "web", "NodePort", HTTP_PORT) "\n", 0644);
}

static void test_a_server_that_is_not_there_yet_is_asked_again(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *text = xasprintf("#!/bin/sh\n"
                                        "[ -e '%s' ] || { echo refused; exit 1; }\n"
                                        "cat '%s'\n"
                                        "exec sleep 1000\n",
                                        f->events, f->events);
    struct loop_timer *later;

    write_file(f->script, text, 0755);
    write_config(f, "cluster");
    f->then = quit;
    open_kube(f);
    later = loop_timer_new(f->loop, make_it_work, f);
    loop_timer_start(later, 300);
    loop_run(f->loop);
    loop_timer_free(later);
    assert_int_equal(f->seen.count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_node_ports_and_load_balancers_count),
        cmocka_unit_test(test_changes_and_deletions_are_followed),
        cmocka_unit_test(test_what_a_new_stream_does_not_name_is_gone),
        cmocka_unit_test(test_what_is_no_event_changes_nothing),
        cmocka_unit_test(test_more_ports_than_a_service_may_have_are_left_out),
        cmocka_unit_test_setup_teardown(test_services_come_with_the_config_and_go_with_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_kubectl_may_come_after_the_config, setup, teardown),
        cmocka_unit_test_setup_teardown(test_another_config_begins_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_server_that_is_not_there_yet_is_asked_again, setup,
                                        teardown),
    };

    return cmocka_run_group_tests_name("guest_kube", tests, NULL, NULL);
}
