/* SPDX-License-Identifier: Apache-2.0 */
/* The blocking client asks from a child process while the server runs in this one's loop. */
#include "test.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "api/client.h"
#include "api/server.h"
#include "util/file.h"
#include "util/path.h"

struct fixture {
    char dir[64];
    char *socket;
    struct loop *loop;
    struct api_server *server;
};

static jv info(void *arg)
{
    return JV_OBJECT(jv_string("sshLocalPort"), jv_number(40022));
}

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
    return api_server_new(f->loop, f->socket, info, NULL, &f->server, NULL);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    api_server_free(f->server);
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

/* Exit status of a child that asks for @resource: 0 the port came, else errno. */
static int ask(struct fixture *f, const char *resource)
{
    scoped(loop_child_free) struct loop_child *child = NULL;
    pid_t pid = fork();

    if (pid == 0) {
        jv answer;
        int r = api_get(f->socket, resource, 3000, &answer, NULL);

        if (r == 0) {
            jv port = jv_object_get(answer, jv_string("sshLocalPort"));

            r = jv_number_value(port) == 40022 ? 0 : -EBADMSG;
        }
        _exit(-r);
    }
    assert_int_equal(loop_child_new(f->loop, pid, on_client_end, f->loop, &child, NULL), 0);
    return loop_run(f->loop);
}

static void test_info_comes_as_json(void **state)
{
    assert_int_equal(ask(*state, "/v1/info"), 0);
}

static void test_unknown_resource_is_a_protocol_error(void **state)
{
    assert_int_equal(ask(*state, "/v1/nothing"), EPROTO);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_info_comes_as_json, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unknown_resource_is_a_protocol_error, setup, teardown),
        cmocka_unit_test_setup_teardown(test_socket_is_for_the_owner_alone_and_goes_away, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_nobody_there_is_told_from_no_socket, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
