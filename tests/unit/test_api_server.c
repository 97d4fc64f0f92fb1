/* SPDX-License-Identifier: Apache-2.0 */
/* The blocking client asks from a child process while the server runs in this one's loop. */
#include "test.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "api/client.h"
#include "api/server.h"
#include "util/file.h"
#include "util/path.h"
#include "util/strv.h"

struct fixture {
    char dir[64];
    char *socket;
    struct loop *loop;
    struct api_server *server;
    struct loop_timer *timer;
    struct api_exchange *waiting;
    jv body;
};

static void on_info(struct api_exchange *exchange, jv body, void *arg)
{
    api_answer(exchange, JV_OBJECT(jv_string("sshLocalPort"), jv_number(40022)));
}

/* Adds one to the number that came, in a later round of the loop. */
static void on_time(void *arg)
{
    struct fixture *f = arg;
    jv port = jv_object_get(value_steal(&f->body), jv_string("port"));

    api_answer(steal(f->waiting),
               JV_OBJECT(jv_string("sshLocalPort"), jv_number(jv_number_value(port) + 1)));
}

static void on_later(struct api_exchange *exchange, jv body, void *arg)
{
    struct fixture *f = arg;

    f->waiting = exchange;
    f->body = body;
    loop_timer_set(f->timer, 0);
}

static void on_refused(struct api_exchange *exchange, jv body, void *arg)
{
    scoped(error_done) struct error err = ERROR_INIT;

    error_set(&err, EADDRINUSE, "no room");
    error_hint(&err, "try another");
    api_refuse(exchange, &err);
}

static const struct api_route routes[] = {
    {"GET", "/v1/info", .handle = on_info},
    {"POST", "/v1/later", .has_body = true, .handle = on_later},
    {"DELETE", "/v1/later", .handle = on_refused},
    {0},
};

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);

    *state = f;
    strcpy(f->dir, "/tmp/test_api_server.XXXXXX");
    if (!mkdtemp(f->dir)) {
        return -1;
    }
    f->socket = path_join(f->dir, "ha.sock");
    f->loop = loop_new();
    f->timer = loop_timer_new(f->loop, on_time, f);
    f->body = jv_invalid();
    return api_server_new(f->loop, f->socket, routes, f, &f->server, NULL);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    api_server_free(f->server);
    loop_timer_free(f->timer);
    loop_free(f->loop);
    file_remove_tree(f->dir, NULL);
    free(f->socket);
    free(f);
    return 0;
}

static void on_client_end(pid_t pid, int status, void *arg)
{
    loop_quit(arg, WEXITSTATUS(status));
}

/* What a child gets: 0 the port 40022, an errno, or 200 and more: a refusal in the server's words.
 */
static int ask_with(struct fixture *f, const char *method, const char *resource, const char *body)
{
    scoped(loop_child_free) struct loop_child *child = NULL;
    pid_t pid = fork();

    if (pid == 0) {
        struct error err = ERROR_INIT;
        jv answer;
        int r = api_call(f->socket, method, resource, body ? jv_parse(body) : jv_invalid(), 3000,
                         &answer, &err);

        if (r == 0) {
            jv port = jv_object_get(answer, jv_string("sshLocalPort"));

            r = jv_number_value(port) == 40022 ? 0 : -EBADMSG;
        } else if (str_eq(error_text(&err), "no room") && str_eq(err.hint, "try another")) {
            r = -201;
        } else if (strstr(error_text(&err), "is understood here")) {
            r = -202;
        } else if (strstr(error_text(&err), "body")) {
            r = -203;
        }
        _exit(-r);
    }
    assert_int_equal(loop_child_new(f->loop, pid, on_client_end, f->loop, &child, NULL), 0);
    return loop_run(f->loop);
}

static int ask(struct fixture *f, const char *resource)
{
    return ask_with(f, "GET", resource, NULL);
}

static void test_info_comes_as_json(void **state)
{
    assert_int_equal(ask(*state, "/v1/info"), 0);
}

static void test_unknown_resource_is_told_from_a_refusal(void **state)
{
    assert_int_equal(ask(*state, "/v1/nothing"), ESRCH);
}

static void test_an_answer_may_come_later_and_use_the_body(void **state)
{
    assert_int_equal(ask_with(*state, "POST", "/v1/later", "{\"port\":40021}"), 0);
}

static void test_a_refusal_comes_with_its_words(void **state)
{
    assert_int_equal(ask_with(*state, "DELETE", "/v1/later", NULL), 201);
}

static void test_only_the_methods_and_bodies_of_a_route_pass(void **state)
{
    assert_int_equal(ask_with(*state, "GET", "/v1/later", NULL), 202);
    assert_int_equal(ask_with(*state, "POST", "/v1/later", NULL), 203);
    assert_int_equal(ask_with(*state, "POST", "/v1/later", "[1]"), 203);
    assert_int_equal(ask_with(*state, "DELETE", "/v1/later", "{}"), 203);
}

static void test_a_client_that_left_does_no_harm_to_its_answer(void **state)
{
    struct fixture *f = *state;
    static const char request[] =
        "POST /v1/later HTTP/1.0\r\nContent-Length: 10\r\n\r\n{\"port\":1}";
    int fd;

    assert_int_equal(file_connect_unix(f->socket, &fd, NULL), 0);
    assert_int_equal(write(fd, request, sizeof(request) - 1), sizeof(request) - 1);
    while (!f->waiting) {
        loop_timer_set(f->timer, -1);
        loop_once(f->loop);
    }
    close(fd);
    api_server_free(steal(f->server));
    loop_timer_set(f->timer, -1);
    on_time(f);
}

static void test_socket_is_for_the_owner_alone_and_goes_away(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    assert_int_equal(stat(f->socket, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    api_server_free(f->server);
    f->server = NULL;
    assert_false(file_exists(f->socket));
}

static void test_nobody_there_is_told_from_no_socket(void **state)
{
    struct fixture *f = *state;
    int fd;

    api_server_free(f->server);
    f->server = NULL;
    assert_int_equal(api_get(f->socket, "/v1/info", 1000, NULL, NULL), -ENOENT);
    assert_int_equal(file_listen_unix(f->socket, 1, &fd, NULL), 0);
    close(fd);
    assert_int_equal(api_get(f->socket, "/v1/info", 1000, NULL, NULL), -ECONNREFUSED);
}

/* Exit status of a child that asks this server and a socket where nobody ever answers. */
static int ask_both(struct fixture *f, const char *deaf)
{
    scoped(loop_child_free) struct loop_child *child = NULL;
    pid_t pid = fork();

    if (pid == 0) {
        struct api_question questions[] = {{.path = deaf, .resource = "/v1/info"},
                                           {.path = f->socket, .resource = "/v1/info"},
                                           {.path = "/nowhere", .resource = "/v1/info"}};

        api_get_all(questions, ARRAY_LEN(questions), 300);
        _exit(questions[0].r == -ETIMEDOUT && questions[1].r == 0 && questions[2].r == -ENOENT &&
                      jv_get_kind(questions[1].answer) == JV_KIND_OBJECT
                  ? 0
                  : 1);
    }
    assert_int_equal(loop_child_new(f->loop, pid, on_client_end, f->loop, &child, NULL), 0);
    return loop_run(f->loop);
}

static void test_answers_are_taken_though_another_agent_hangs(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *deaf = path_join(f->dir, "deaf.sock");
    int fd;

    assert_int_equal(file_listen_unix(deaf, 8, &fd, NULL), 0);
    assert_int_equal(ask_both(f, deaf), 0);
    close(fd);
}

static double cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void on_loop_time(void *arg)
{
    loop_quit(arg, 0);
}

static void test_no_descriptor_left_neither_spins_nor_stays(void **state)
{
    struct fixture *f = *state;
    scoped(loop_timer_free) struct loop_timer *timer =
        loop_timer_new(f->loop, on_loop_time, f->loop);
    struct rlimit limit, none;
    double before;
    int fd;

    assert_int_equal(file_connect_unix(f->socket, &fd, NULL), 0);
    getrlimit(RLIMIT_NOFILE, &limit);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    before = cpu_seconds();
    loop_timer_set(timer, 1000);
    loop_run(f->loop);
    before = cpu_seconds() - before;
    setrlimit(RLIMIT_NOFILE, &limit);
    assert_true(before < 0.2);
    assert_int_equal(ask(f, "/v1/info"), 0);
    assert_int_equal(ask(f, "/v1/info"), 0);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_answers_are_taken_though_another_agent_hangs, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_info_comes_as_json, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown_resource_is_told_from_a_refusal, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_an_answer_may_come_later_and_use_the_body, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_refusal_comes_with_its_words, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_the_methods_and_bodies_of_a_route_pass, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_client_that_left_does_no_harm_to_its_answer, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_socket_is_for_the_owner_alone_and_goes_away, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_no_descriptor_left_neither_spins_nor_stays, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_nobody_there_is_told_from_no_socket, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
