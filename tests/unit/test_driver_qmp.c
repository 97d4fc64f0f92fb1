/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <sys/socket.h>
#include <unistd.h>
#include "base/buf.h"
#include "driver/qemu/qmp.h"
#include "util/file.h"

#define GREETING "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7}}, \"capabilities\": []}}\r\n"
#define ACCEPTED "{\"return\": {}, \"id\": 1}\r\n"

/* The test plays QEMU on one end of a socketpair and writes down what the client tells. */
struct fixture {
    struct loop *loop;
    struct qmp *qmp;
    int server;
    struct buf seen;
    const char *free_at; /* frees the client in the callback whose note starts so */
};

static void note(struct fixture *f, const char *what, const char *detail)
{
    buf_printf(&f->seen, "%s%s%s;", what, detail ? " " : "", detail ? detail : "");
    if (f->free_at && strcmp(f->free_at, what) == 0) {
        qmp_free(f->qmp);
        f->qmp = NULL;
    }
}

static void on_ready(void *arg)
{
    note(arg, "ready", NULL);
}

static void on_event(const char *name, jv data, void *arg)
{
    note(arg, "event", name);
}

static void on_closed(const struct error *reason, void *arg)
{
    note(arg, "closed", reason->code ? strerror(reason->code) : "orderly");
}

static const struct qmp_events events = {on_ready, on_event, on_closed};

static void on_reply(enum qmp_outcome outcome, jv value, const char *text, void *arg)
{
    static const char *const names[] = {[QMP_OUTCOME_DONE] = "done",
                                        [QMP_OUTCOME_REFUSED] = "refused",
                                        [QMP_OUTCOME_LOST] = "lost"};

    note(arg, names[outcome], text);
}

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    fd_set_nonblock(pair[0]);
    fd_set_nonblock(pair[1]);
    f->loop = loop_new();
    f->server = pair[1];
    f->qmp = qmp_new(f->loop, pair[0], &events, f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    qmp_free(f->qmp);
    loop_free(f->loop);
    fd_close(f->server);
    buf_done(&f->seen);
    free(f);
    return 0;
}

/* QEMU says @text; the client handles it. */
static void say(struct fixture *f, const char *text)
{
    assert_int_equal(fd_write_all(f->server, text, strlen(text)), 0);
    loop_once(f->loop);
}

static void assert_heard(struct fixture *f, const char *want)
{
    char data[8192];
    ssize_t n = read(f->server, data, sizeof(data) - 1);

    data[n > 0 ? n : 0] = '\0';
    assert_string_equal(data, want);
}

static void assert_seen(struct fixture *f, const char *want)
{
    assert_string_equal(buf_str(&f->seen), want);
    buf_truncate(&f->seen, 0);
}

static void command(struct fixture *f, const char *name, struct qmp_call **ret)
{
    assert_int_equal(qmp_command(f->qmp, name, jv_invalid(), on_reply, f, ret, NULL), 0);
}

static void test_client_negotiates_then_sends_what_waited(void **state)
{
    struct fixture *f = *state;

    command(f, "query-status", NULL);
    assert_heard(f, "");
    say(f, GREETING);
    assert_heard(f, "{\"execute\":\"qmp_capabilities\",\"id\":1}\r\n");
    say(f, ACCEPTED);
    assert_heard(f, "{\"execute\":\"query-status\",\"id\":2}\r\n");
    assert_seen(f, "ready;");
    say(f, "{\"return\": {}, \"id\": 2}\r\n");
    assert_seen(f, "done;");
}

static void test_client_matches_replies_by_id(void **state)
{
    struct fixture *f = *state;

    say(f, GREETING ACCEPTED);
    command(f, "a", NULL);
    command(f, "b", NULL);
    assert_seen(f, "ready;");
    say(f, "{\"id\": 3, \"error\": {\"class\": \"X\", \"desc\": \"b refused\"}}\r\n"
           "{\"event\": \"STOP\"}\r\n"
           "{\"return\": {}, \"id\": 99}\r\n"
           "{\"return\": {}, \"id\": 2}\r\n");
    assert_seen(f, "refused b refused;event STOP;done;");
}

static void test_client_ends_open_commands_as_lost(void **state)
{
    struct fixture *f = *state;

    say(f, GREETING ACCEPTED);
    command(f, "a", NULL);
    command(f, "b", NULL);
    fd_close(f->server);
    f->server = -1;
    loop_once(f->loop);
    assert_non_null(strstr(buf_str(&f->seen), "ready;lost;lost;closed "));
}

static void test_client_refuses_commands_once_closed(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    say(f, "rubbish\r\n");
    assert_seen(f, "closed Bad message;");
    assert_fails(qmp_command(f->qmp, "a", jv_object(), on_reply, f, NULL, &err), &err, ENOTCONN,
                 "closed");
}

static void test_client_forgets_a_dropped_command(void **state)
{
    struct fixture *f = *state;
    struct qmp_call *call;

    say(f, GREETING ACCEPTED);
    command(f, "a", &call);
    qmp_call_drop(call);
    say(f, "{\"return\": {}, \"id\": 2}\r\n");
    assert_seen(f, "ready;");
}

static void test_client_bounds_open_commands(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;

    for (int i = 0; i < 64; i++) {
        command(f, "a", NULL);
    }
    assert_fails(qmp_command(f->qmp, "a", jv_invalid(), on_reply, f, NULL, &err), &err, EBUSY,
                 "64");
}

static void test_client_closes_when_capabilities_are_refused(void **state)
{
    struct fixture *f = *state;

    say(f, GREETING "{\"id\": 1, \"error\": {\"class\": \"X\", \"desc\": \"no\"}}\r\n");
    assert_seen(f, "closed Protocol error;");
}

static void test_client_closes_at_an_answer_before_the_greeting(void **state)
{
    struct fixture *f = *state;

    say(f, ACCEPTED);
    assert_seen(f, "closed Protocol error;");
}

static void test_client_may_be_freed_in_any_callback(void **state)
{
    static const char *const places[] = {"ready", "event", "done", "refused", "lost", "closed"};

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        void *own;
        struct fixture *f;

        assert_int_equal(setup(&own), 0);
        f = own;
        f->free_at = places[i];
        for (int n = 0; n < 3; n++) {
            command(f, "a", NULL);
        }
        say(f, GREETING ACCEPTED "{\"event\": \"STOP\"}\r\n{\"return\": {}, \"id\": 2}\r\n"
                                 "{\"id\": 3, \"error\": {\"desc\": \"no\"}}\r\nrubbish\r\n");
        assert_null(f->qmp);
        teardown(&own);
    }
}

static void test_client_pumps_what_has_arrived(void **state)
{
    struct fixture *f = *state;
    static const char all[] = GREETING ACCEPTED "{\"event\": \"SHUTDOWN\"}\r\n";

    assert_int_equal(fd_write_all(f->server, all, strlen(all)), 0);
    assert_true(qmp_pump(f->qmp));
    assert_seen(f, "ready;event SHUTDOWN;");
    shutdown(f->server, SHUT_WR);
    assert_false(qmp_pump(f->qmp));
    assert_seen(f, "closed orderly;");
    assert_false(qmp_pump(f->qmp));
}

#define client_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(test_client_negotiates_then_sends_what_waited),
        client_test(test_client_matches_replies_by_id),
        client_test(test_client_ends_open_commands_as_lost),
        client_test(test_client_refuses_commands_once_closed),
        client_test(test_client_forgets_a_dropped_command),
        client_test(test_client_bounds_open_commands),
        client_test(test_client_closes_when_capabilities_are_refused),
        client_test(test_client_closes_at_an_answer_before_the_greeting),
        cmocka_unit_test(test_client_may_be_freed_in_any_callback),
        client_test(test_client_pumps_what_has_arrived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
