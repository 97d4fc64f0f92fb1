/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "instance/instance.h"
#include "instance/layout.h"
#include "instance/record.h"
#include "instance/store.h"
#include "util/file.h"
#include "util/process.h"

static const char yaml[] = "images:\n"
                           "- location: https://example.invalid/disk.qcow2\n"
                           "  arch: x86_64\n"
                           "arch: x86_64\n"
                           "cpus: 3\n"
                           "memory: 1GiB\n"
                           "disk: 2GiB\n"
                           "message: |\n"
                           "  {{.Name}} listens on {{.SSHLocalPort}}\n"
                           "ssh:\n"
                           "  localPort: 4242\n";

struct fixture {
    char *home;
    char *dir;
    pid_t pids[2];
};

static void put(struct fixture *f, const char *file, const char *text)
{
    scoped(free) char *path = path_join(f->dir, file);

    assert_int_equal(file_write_text(path, text, 0600, NULL), 0);
}

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);

    f->home = xstrdup("/tmp/lima-instance-XXXXXX");
    if (!mkdtemp(f->home)) {
        return -1;
    }
    f->dir = path_join(f->home, "dev.1");
    mkdir(f->dir, 0700);
    put(f, LAYOUT_CONFIG, yaml);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(f->pids); i++) {
        if (f->pids[i]) {
            process_kill(f->pids[i], SIGKILL, 5000, NULL);
        }
    }
    file_remove_tree(f->home, NULL);
    free(f->home);
    free(f->dir);
    free(f);
    return 0;
}

/* A process that lives and whose command line mentions @path, named by the pid file. */
static void run(struct fixture *f, size_t which, const char *pidfile, const char *path)
{
    const char *argv[] = {"tail", "-f", path, NULL};
    struct process_options options = PROCESS_OPTIONS_INIT;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *text = NULL;

    assert_works(process_start(argv, &options, &f->pids[which], &err), &err);
    text = xasprintf("%d\n", (int)f->pids[which]);
    put(f, pidfile, text);
}

static struct instance *open_it(struct fixture *f)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct instance *inst = NULL;

    assert_works(instance_open(f->home, "dev.1", &inst, &err), &err);
    return inst;
}

static void test_a_created_instance_is_stopped(void **state)
{
    scoped(instance_free) struct instance *inst = open_it(*state);

    assert_int_equal(inst->status, INSTANCE_STATUS_STOPPED);
    assert_int_equal(inst->errors.len, 0);
    assert_string_equal(inst->hostname, "lima-dev-1");
    assert_int_equal(inst->ssh_port, 4242);
    assert_int_equal(inst->config->cpus, 3);
}

static void test_pids_of_other_processes_do_not_count(void **state)
{
    struct fixture *f = *state;
    scoped(instance_free) struct instance *inst = NULL;
    scoped(free) char *sibling = xasprintf("%s0", f->dir);

    mkdir(sibling, 0700); /* dev.10 is not dev.1 */
    run(f, 0, LAYOUT_HA_PID, sibling);
    run(f, 1, LAYOUT_QEMU_PID, "/dev/null");
    inst = open_it(f);
    assert_int_equal(inst->status, INSTANCE_STATUS_STOPPED);
    assert_int_equal(inst->host_agent_pid, 0);
    assert_int_equal(inst->driver_pid, 0);
}

static void test_a_vm_without_agent_is_broken_and_says_how_to_go_on(void **state)
{
    struct fixture *f = *state;
    scoped(instance_free) struct instance *inst = NULL;
    scoped(free) char *file = path_join(f->dir, LAYOUT_CONFIG);

    run(f, 0, LAYOUT_QEMU_PID, file);
    inst = open_it(f);
    assert_int_equal(inst->status, INSTANCE_STATUS_BROKEN);
    assert_int_equal(inst->driver_pid, f->pids[0]);
    assert_non_null(strstr(inst->errors.items[0], "limactl start dev.1"));
}

static void test_an_agent_that_does_not_answer_is_broken(void **state)
{
    struct fixture *f = *state;
    scoped(instance_free) struct instance *inst = NULL;
    scoped(free) char *file = path_join(f->dir, LAYOUT_CONFIG);

    run(f, 0, LAYOUT_HA_PID, file);
    run(f, 1, LAYOUT_QEMU_PID, file);
    inst = open_it(f);
    assert_int_equal(inst->status, INSTANCE_STATUS_BROKEN);
    assert_non_null(strstr(inst->errors.items[0], LAYOUT_HA_SOCK));
}

static void test_a_dead_pid_is_no_process(void **state)
{
    struct fixture *f = *state;
    scoped(instance_free) struct instance *inst = NULL;

    put(f, LAYOUT_HA_PID, "99999999\n");
    put(f, LAYOUT_QEMU_PID, "nonsense\n");
    inst = open_it(f);
    assert_int_equal(inst->status, INSTANCE_STATUS_STOPPED);
}

static void test_an_unreadable_configuration_is_an_error_of_the_instance(void **state)
{
    struct fixture *f = *state;
    scoped(instance_free) struct instance *inst = NULL;

    put(f, LAYOUT_CONFIG, "cpus: many\n");
    inst = open_it(f);
    assert_int_equal(inst->status, INSTANCE_STATUS_UNKNOWN);
    assert_string_equal(instance_status_name(inst->status), "");
    assert_null(inst->config);
    assert_non_null(strstr(inst->errors.items[0], "cpus"));
}

static void test_without_lima_yaml_there_is_no_instance(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = path_join(f->dir, LAYOUT_CONFIG);
    struct instance *inst;

    unlink(path);
    assert_fails(instance_open(f->home, "dev.1", &inst, &err), &err, ENOENT, "does not exist");
    assert_fails(instance_open(f->home, "../x", &inst, &err), &err, EINVAL, "not a valid");
}

static void test_names_are_sorted_and_reserved_ones_left_out(void **state)
{
    struct fixture *f = *state;
    static const char *const dirs[] = {"_config", ".git", "b", "a", "Z"};
    scoped(strv_done) struct strv names = STRV_INIT;
    scoped(free) char *text = NULL;
    scoped(free) char *file = path_join(f->home, "file");

    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        scoped(free) char *path = path_join(f->home, dirs[i]);

        mkdir(path, 0700);
    }
    file_write_text(file, "", 0600, NULL);
    assert_int_equal(instance_names(f->home, &names, NULL), 0);
    text = strv_join(&names, " ");
    assert_string_equal(text, "Z a b dev.1");
}

static void test_a_missing_home_has_no_instances(void **state)
{
    scoped(strv_done) struct strv names = STRV_INIT;

    assert_int_equal(instance_names("/nonexistent/lima", &names, NULL), 0);
    assert_int_equal(names.len, 0);
}

static void test_names_that_cannot_be_are_refused(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *deep = xcalloc(1, 91);

    memset(deep, 'd', 90);
    deep[0] = '/';
    assert_fails(instance_check_name("/l", "a..b", &err), &err, EINVAL, "`a..b`");
    assert_fails(instance_check_name("/l", "x.yaml", &err), &err, EINVAL, "not a valid");
    assert_fails(instance_check_name(deep, "dev", &err), &err, ENAMETOOLONG, "too long");
    assert_works(instance_check_name("/l", "dev", &err), &err);
}

static void test_record_has_the_keys_in_order_and_no_empty_ones(void **state)
{
    struct fixture *f = *state;
    scoped(instance_free) struct instance *inst = open_it(f);
    scoped(free) char *text = value_to_json(instance_record(inst, f->home), false);
    scoped(free) char *start =
        xasprintf("{\"name\":\"dev.1\",\"hostname\":\"lima-dev-1\",\"status\":\"Stopped\","
                  "\"dir\":\"%s\",\"vmType\":\"qemu\",\"arch\":\"x86_64\",\"cpus\":3,"
                  "\"memory\":1073741824,\"disk\":2147483648,"
                  "\"message\":\"dev.1 listens on 4242\",\"sshLocalPort\":4242,\"sshConfigFile\":",
                  f->dir);

    assert_true(str_starts(text, start));
    assert_null(strstr(text, "additionalDisks"));
    assert_null(strstr(text, "hostAgentPID"));
    assert_non_null(strstr(text, "\"protected\":false"));
}

static void test_a_broken_record_says_so_first(void **state)
{
    scoped(instance_free) struct instance *inst = instance_broken("/l", "x_y", "no lima.yaml");
    scoped(free) char *text = value_to_json(instance_record(inst, "/l"), false);

    assert_true(str_starts(
        text,
        "{\"name\":\"x_y\",\"hostname\":\"lima-x-y\",\"status\":\"Broken\",\"dir\":\"/l/x_y\""));
    assert_non_null(strstr(text, "\"errors\":[\"no lima.yaml\"]"));
}

static void test_templates_see_names_as_in_go(void **state)
{
    struct fixture *f = *state;
    scoped(instance_free) struct instance *inst = open_it(f);
    scoped(value_done) jv record = instance_record_go(inst, f->home);
    jv config = jv_object_get(jv_copy(record), jv_string("Config"));
    scoped(value_done) jv cpus = jv_object_get(jv_copy(config), jv_string("CPUs"));
    scoped(value_done) jv ssh = jv_object_get(config, jv_string("SSH"));
    scoped(value_done) jv port = jv_object_get(jv_copy(ssh), jv_string("LocalPort"));

    assert_int_equal((int)jv_number_value(cpus), 3);
    assert_int_equal((int)jv_number_value(port), 4242);
}

static void test_fields_are_those_offered_and_sorted(void **state)
{
    scoped(strv_done) struct strv fields = STRV_INIT;

    instance_record_fields(&fields);
    assert_true(fields.len >= 24);
    assert_string_equal(fields.items[0], "AdditionalDisks");
    assert_false(strv_contains(&fields, "HostOS"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_created_instance_is_stopped),
        TEST(test_pids_of_other_processes_do_not_count),
        TEST(test_a_vm_without_agent_is_broken_and_says_how_to_go_on),
        TEST(test_an_agent_that_does_not_answer_is_broken),
        TEST(test_a_dead_pid_is_no_process),
        TEST(test_an_unreadable_configuration_is_an_error_of_the_instance),
        TEST(test_without_lima_yaml_there_is_no_instance),
        TEST(test_names_are_sorted_and_reserved_ones_left_out),
        TEST(test_a_missing_home_has_no_instances),
        TEST(test_names_that_cannot_be_are_refused),
        TEST(test_record_has_the_keys_in_order_and_no_empty_ones),
        TEST(test_a_broken_record_says_so_first),
        TEST(test_templates_see_names_as_in_go),
        TEST(test_fields_are_those_offered_and_sorted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
