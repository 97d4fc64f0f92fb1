/* SPDX-License-Identifier: Apache-2.0 */
/* The service over a pair of muxes; a program is a shell script that says its version. */
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include "files.h"
#include "mux_pair.h"
#include "program.h"
#include "sha256.h"
#include "upgrade.h"
#include "wire.h"

#define OLD    "#!/bin/sh\necho lima-guestagent 1.0\n"
#define NEW    "#!/bin/sh\necho lima-guestagent 2.0\n"
#define BROKEN "#!/bin/sh\nexit 3\n"
#define OTHER  "#!/bin/sh\necho another-program 2.0\n"

struct fixture {
    char dir[64];
    char *path;
    struct loop *loop;
    struct children *children;
    int signals;
    struct loop_watch *signal_watch;
    struct upgrade *upgrade;
    struct rpc *rpc;
    struct pair pair;
    struct pair_stream *call;
    int replaced;
    size_t read;
};

static void on_child(int fd, short revents, void *arg)
{
    struct signalfd_siginfo info;

    assert_int_equal(read(fd, &info, sizeof(info)), sizeof(info));
    children_reap(((struct fixture *)arg)->children);
}

static void on_prepare(void *arg)
{
    struct fixture *f = arg;

    pair_run(&f->pair, 13);
    if (f->call && (f->call->fin || f->call->closed)) {
        loop_quit(f->loop);
    }
}

static void on_replaced(void *arg)
{
    struct fixture *f = arg;

    f->replaced++;
    if (!f->call) {
        loop_quit(f->loop);
    }
}

static void make_upgrade(struct fixture *f, bool on_trial, unsigned trial_ms)
{
    f->upgrade = upgrade_new(&(struct upgrade_options){.loop = f->loop,
                                                       .children = f->children,
                                                       .program = f->path,
                                                       .on_trial = on_trial,
                                                       .trial_ms = trial_ms,
                                                       .replaced = on_replaced,
                                                       .arg = f});
}

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);
    sigset_t set;

    *state = f;
    alarm(120);
    strcpy(f->dir, "/tmp/test_guest_upgrade.XXXXXX");
    if (!mkdtemp(f->dir)) {
        return -1;
    }
    f->path = xasprintf("%s/lima-guestagent", f->dir);
    files_write_as(f->path, OLD, 0755, geteuid(), getegid(), NULL);
    f->loop = loop_new();
    f->children = children_new(f->loop);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    f->signals = signalfd(-1, &set, SFD_CLOEXEC);
    f->signal_watch = loop_watch_new(f->loop, f->signals, POLLIN, on_child, f);
    loop_set_prepare(f->loop, on_prepare, f);
    make_upgrade(f, false, 0);
    f->rpc = rpc_new(NULL);
    pair_init(&f->pair);
    pair_up(&f->pair);
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *command = xasprintf("rm -rf '%s'", f->dir);

    upgrade_free(f->upgrade);
    rpc_free(f->rpc);
    pair_done(&f->pair);
    children_free(f->children);
    loop_watch_free(f->signal_watch);
    close(f->signals);
    loop_free(f->loop);
    free(f->path);
    free(f);
    return system(command);
}

static void put(struct buf *out, const pb_msgdesc_t *fields, const void *message)
{
    uint8_t bytes[WIRE_MAX];

    buf_put(out, bytes, wire_encode(fields, message, bytes));
}

/* Opens the call and sends the request and what follows. */
static void call(struct fixture *f, const lima_guest_v1_UpgradeRequest *request, const char *data,
                 size_t len, bool finish)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    lima_guest_v1_StreamOpen open = {.service = "Upgrade"};

    rpc_add(f->rpc,
            &(struct rpc_service){
                .name = "Upgrade", .has_request = true, .serve = upgrade_serve, .arg = f->upgrade});
    f->call = pair_open(&f->pair.host);
    f->read = 0;
    pair_send(f->call, "", 0, false);
    pair_run(&f->pair, 0);
    rpc_accept(f->rpc, pair_last(&f->pair.guest)->handle, RPC_FROM_HOST);
    put(&out, lima_guest_v1_StreamOpen_fields, &open);
    put(&out, lima_guest_v1_UpgradeRequest_fields, request);
    buf_put(&out, data, len);
    pair_send(f->call, out.data, out.len, finish);
    pair_run(&f->pair, 13);
}

static lima_guest_v1_UpgradeRequest request_for(const char *text)
{
    lima_guest_v1_UpgradeRequest request = {.version = "x", .size = strlen(text)};
    struct sha256 sha;

    sha256_init(&sha);
    sha256_put(&sha, text, strlen(text));
    request.sha256.size = SHA256_SIZE;
    sha256_end(&sha, request.sha256.bytes);
    return request;
}

static void take(struct fixture *f, const pb_msgdesc_t *fields, void *ret)
{
    scoped(delimited_done) struct delimited in = DELIMITED_INIT(4096);
    const uint8_t *body;
    size_t used, len;

    assert_int_equal(delimited_next(&in, (uint8_t *)f->call->got.data + f->read,
                                    f->call->got.len - f->read, &used, &body, &len),
                     1);
    f->read += used;
    assert_true(wire_decode(body, len, fields, ret));
}

static lima_guest_v1_StreamReply take_reply(struct fixture *f)
{
    lima_guest_v1_StreamReply reply = lima_guest_v1_StreamReply_init_zero;

    take(f, lima_guest_v1_StreamReply_fields, &reply);
    return reply;
}

/* Waits for the end and gives the last message. */
static lima_guest_v1_Upgraded finish(struct fixture *f)
{
    lima_guest_v1_Upgraded done = lima_guest_v1_Upgraded_init_zero;

    loop_run(f->loop);
    assert_int_equal(take_reply(f).error, 0);
    take(f, lima_guest_v1_Upgraded_fields, &done);
    return done;
}

static void check_program(struct fixture *f, const char *want)
{
    scoped(free) char *got = files_read(f->path, 1000, NULL);
    scoped(free) char *upload = program_beside(f->path, "upload");

    assert_string_equal(got, want);
    assert_false(files_exist(upload));
}

static void test_new_program_takes_the_place(void **state)
{
    struct fixture *f = *state;
    lima_guest_v1_UpgradeRequest request = request_for(NEW);
    lima_guest_v1_Upgraded done;

    call(f, &request, NEW, strlen(NEW), true);
    done = finish(f);
    assert_int_equal(done.error, 0);
    assert_string_equal(done.version, "2.0");
    assert_int_equal(f->replaced, 1);
    check_program(f, NEW);
    assert_int_equal(program_settle(f->path), PROGRAM_ON_TRIAL);
}

static void check_bad_upload(struct fixture *f, const lima_guest_v1_UpgradeRequest *request,
                             const char *text, int error, const char *words)
{
    lima_guest_v1_Upgraded done;

    call(f, request, text, strlen(text), true);
    done = finish(f);
    assert_int_equal(done.error, error);
    if (!strstr(done.message, words)) {
        fail_msg("\"%s\" lacks \"%s\"", done.message, words);
    }
    assert_int_equal(f->replaced, 0);
    check_program(f, OLD);
    assert_int_equal(program_settle(f->path), PROGRAM_SETTLED);
}

static void test_wrong_digest_leaves_the_old_one(void **state)
{
    lima_guest_v1_UpgradeRequest request = request_for(NEW);

    request.sha256.bytes[31] ^= 1;
    check_bad_upload(*state, &request, NEW, EBADMSG, "SHA-256");
}

static void test_short_upload_leaves_the_old_one(void **state)
{
    lima_guest_v1_UpgradeRequest request = request_for(NEW);

    request.size++;
    check_bad_upload(*state, &request, NEW, EBADMSG, "too early");
}

static void test_long_upload_leaves_the_old_one(void **state)
{
    lima_guest_v1_UpgradeRequest request = request_for(NEW);

    request.size = 5;
    check_bad_upload(*state, &request, NEW, EMSGSIZE, "more has come");
}

static void test_program_that_does_not_run_leaves_the_old_one(void **state)
{
    lima_guest_v1_UpgradeRequest request = request_for(BROKEN);

    check_bad_upload(*state, &request, BROKEN, ENOEXEC, "does not run");
}

static void test_program_that_is_none_of_ours_leaves_the_old_one(void **state)
{
    lima_guest_v1_UpgradeRequest request = request_for(OTHER);

    check_bad_upload(*state, &request, OTHER, ENOEXEC, "does not run");
}

static void check_refused(struct fixture *f, const lima_guest_v1_UpgradeRequest *request, int error)
{
    call(f, request, "", 0, false);
    assert_int_equal(take_reply(f).error, error);
    check_program(f, OLD);
}

static void test_odd_requests_are_refused(void **state)
{
    static const lima_guest_v1_UpgradeRequest rollback = {.rollback = true};
    struct fixture *f = *state;
    lima_guest_v1_UpgradeRequest request = request_for(NEW);

    request.size = 0;
    check_refused(f, &request, EMSGSIZE);
    request.size = UPGRADE_MAX + 1ull;
    check_refused(f, &request, EMSGSIZE);
    request.size = UINT64_MAX;
    check_refused(f, &request, EMSGSIZE);
    request = request_for(NEW);
    request.sha256.size = 31;
    check_refused(f, &request, EINVAL);
    request = request_for(OLD);
    check_refused(f, &request, EALREADY);
    check_refused(f, &rollback, ENOENT);
}

static void test_second_upload_at_a_time_is_refused(void **state)
{
    struct fixture *f = *state;
    lima_guest_v1_UpgradeRequest request = request_for(NEW);

    call(f, &request, NEW, 5, false);
    assert_int_equal(take_reply(f).error, 0);
    call(f, &request, NEW, 5, false);
    assert_int_equal(take_reply(f).error, EBUSY);
}

static void test_host_that_goes_away_leaves_the_old_one(void **state)
{
    struct fixture *f = *state;
    lima_guest_v1_UpgradeRequest request = request_for(NEW);

    call(f, &request, NEW, 5, false);
    mux_stop(f->pair.guest.mux);
    check_program(f, OLD);
}

static void test_rollback_brings_the_old_one_back(void **state)
{
    static const lima_guest_v1_UpgradeRequest rollback = {.rollback = true};
    struct fixture *f = *state;
    lima_guest_v1_UpgradeRequest request = request_for(NEW);

    call(f, &request, NEW, strlen(NEW), true);
    finish(f);
    call(f, &rollback, "", 0, true);
    assert_int_equal(finish(f).error, 0);
    assert_int_equal(f->replaced, 2);
    check_program(f, OLD);
    assert_int_equal(program_settle(f->path), PROGRAM_SETTLED);
}

/* As the program does that begins after an upgrade. */
static void begin_trial(struct fixture *f, unsigned trial_ms)
{
    scoped(free) char *upload = program_beside(f->path, "upload");

    files_write_as(upload, NEW, 0755, geteuid(), getegid(), NULL);
    assert_int_equal(program_replace(f->path, upload, NULL), 0);
    assert_int_equal(program_settle(f->path), PROGRAM_ON_TRIAL);
    upgrade_free(f->upgrade);
    make_upgrade(f, true, trial_ms);
}

static void test_program_that_never_meets_the_host_goes_back(void **state)
{
    struct fixture *f = *state;

    begin_trial(f, 1);
    loop_run(f->loop);
    assert_int_equal(f->replaced, 1);
    check_program(f, OLD);
}

static void test_guard_brings_the_old_one_back_unless_the_new_one_was_confirmed(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *previous = program_beside(f->path, "previous");
    struct error err = ERROR_INIT;

    assert_fails(upgrade_guard(f->path, &err), &err, EINVAL, "not a program that was replaced");
    assert_int_equal(upgrade_guard(previous, &err), 0);
    begin_trial(f, 60000);
    assert_int_equal(upgrade_guard(previous, &err), 1);
    check_program(f, OLD);
    assert_int_equal(upgrade_guard(previous, &err), 0);
    check_program(f, OLD);
}

static void test_program_that_has_met_the_host_stays(void **state)
{
    struct fixture *f = *state;

    begin_trial(f, 60000);
    upgrade_confirm(f->upgrade);
    assert_int_equal(program_settle(f->path), PROGRAM_SETTLED);
    check_program(f, NEW);
}

#define WITH_SERVICE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(test_new_program_takes_the_place),
        WITH_SERVICE(test_wrong_digest_leaves_the_old_one),
        WITH_SERVICE(test_short_upload_leaves_the_old_one),
        WITH_SERVICE(test_long_upload_leaves_the_old_one),
        WITH_SERVICE(test_program_that_does_not_run_leaves_the_old_one),
        WITH_SERVICE(test_program_that_is_none_of_ours_leaves_the_old_one),
        WITH_SERVICE(test_odd_requests_are_refused),
        WITH_SERVICE(test_second_upload_at_a_time_is_refused),
        WITH_SERVICE(test_host_that_goes_away_leaves_the_old_one),
        WITH_SERVICE(test_rollback_brings_the_old_one_back),
        WITH_SERVICE(test_program_that_never_meets_the_host_goes_back),
        WITH_SERVICE(test_program_that_has_met_the_host_stays),
        WITH_SERVICE(test_guard_brings_the_old_one_back_unless_the_new_one_was_confirmed),
    };

    return cmocka_run_group_tests_name("guest_upgrade", tests, NULL, NULL);
}
