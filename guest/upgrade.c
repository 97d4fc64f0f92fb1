/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An upload is in one of two states: RECEIVING, while bytes are missing, and ON TEST, while the new
 * program says its version. It ends with an answer (both states), or without one when the stream
 * goes away.
 */
#include "upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "files.h"
#include "program.h"
#include "sha256.h"
#include "steps.h"
#include "wire.h"

#define TEST_MS   20000 /* a machine that is just starting has much to do */
#define WORDS_MAX 256
#define NAME      "lima-guestagent "

struct upload {
    struct upgrade *upgrade;
    struct mux_stream *stream; /* NULL: it has gone */
    char *path;
    int fd;
    uint64_t left;
    struct sha256 sha;
    uint8_t want[SHA256_SIZE];
    struct child *test;  /* NULL: receiving */
    struct steps *guard; /* being set up, while the program is in place already */
    char *version;       /* of it */
    struct loop_timer *limit;
    struct buf words; /* that it says */
};

struct upgrade {
    struct upgrade_options options;
    struct loop_timer *trial; /* runs while this program is on trial */
    struct upload *upload;    /* at most one */
};

/* ---- end of an upload ---- */

static void upload_free(struct upload *upload)
{
    if (!upload) {
        return;
    }
    upload->upgrade->upload = NULL;
    if (upload->test) {
        child_kill(upload->test, SIGKILL);
        child_forget(upload->test);
    }
    steps_free(upload->guard);
    free(upload->version);
    loop_timer_free(upload->limit);
    fd_close(upload->fd);
    unlink(upload->path); /* unless it has moved to its place */
    free(upload->path);
    buf_done(&upload->words);
    free(upload);
}

/* Answers and frees it. @err: why it failed, NULL if it did not. */
static void upload_end(struct upload *upload, const char *version, const struct error *err)
{
    lima_guest_v1_Upgraded done = lima_guest_v1_Upgraded_init_zero;

    wire_text(done.version, sizeof(done.version), version);
    if (err) {
        done.error = (uint32_t)err->code;
        wire_text(done.message, sizeof(done.message), error_text(err));
        log_warn("the host's new agent: %s, ignoring it", error_text(err));
    }
    if (upload->stream) {
        rpc_end(upload->stream, lima_guest_v1_Upgraded_fields, &done);
    }
    upload_free(upload);
}

static void upload_fail(struct upload *upload, int code, const char *what)
{
    scoped(error_done) struct error err = ERROR_INIT;

    error_set(&err, code, "%s", what);
    upload_end(upload, "", &err);
}

/* ---- the new program is started once ---- */

/* The version of "lima-guestagent VERSION\n", cut out of @words; NULL: it says something else. */
static const char *version_of(char *words)
{
    char *end = strchr(words, '\n');

    if (!end || strncmp(words, NAME, strlen(NAME)) != 0) {
        return NULL;
    }
    *end = '\0';
    return words + strlen(NAME);
}

static void on_test_output(const void *data, size_t len, void *arg)
{
    struct upload *upload = arg;

    (void)buf_put(&upload->words, data, len); /* what is too long is wrong anyway */
}

static void take_over(struct upload *upload)
{
    struct upgrade *upgrade = upload->upgrade;

    log_info("version %s of this program takes over", upload->version);
    upload_end(upload, upload->version, NULL);
    upgrade->options.replaced(upgrade->options.arg);
}

static void on_guard_set(unsigned failed, void *arg)
{
    struct upload *upload = arg;

    upload->guard = NULL;
    if (failed) {
        log_warn("no timer to go back if the new program does not begin at all, ignoring");
    }
    take_over(upload);
}

static void set_guard(struct upload *upload)
{
    struct upgrade *upgrade = upload->upgrade;
    scoped(free) char *previous = program_beside(upgrade->options.program, "previous");

    upload->guard = steps_new(upgrade->options.children, on_guard_set, upload);
    steps_add(upload->guard, "systemd-run", "--quiet", "--collect", "--on-active=" UPGRADE_GUARD_S,
              previous, "guard", NULL);
    steps_start(upload->guard); /* may have ended the upload */
}

static void on_test_exited(int status, void *arg)
{
    struct upload *upload = arg;
    struct upgrade *upgrade = upload->upgrade;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *words = buf_steal(&upload->words);
    const char *version = version_of(words);

    upload->test = NULL;
    if (status || !version) {
        upload_fail(upload, ENOEXEC, "it does not run on this machine");
        return;
    }
    if (program_replace(upgrade->options.program, upload->path, &err) < 0) {
        upload_end(upload, "", &err);
        return;
    }
    upload->version = xstrdup(version);
    if (upgrade->options.guarded) {
        set_guard(upload);
    } else {
        take_over(upload);
    }
}

static void on_test_late(void *arg)
{
    upload_fail(arg, ETIMEDOUT, "it does not say its version in time");
}

static void upload_test(struct upload *upload)
{
    const char *const argv[] = {upload->path, "version", NULL};
    const char *const envp[] = {NULL};
    struct child_options options = {.argv = argv,
                                    .envp = envp,
                                    .dir = "/",
                                    .output = on_test_output,
                                    .exited = on_test_exited,
                                    .arg = upload};
    scoped(error_done) struct error err = ERROR_INIT;
    uint8_t got[SHA256_SIZE];

    sha256_end(&upload->sha, got);
    if (memcmp(got, upload->want, sizeof(got)) != 0) {
        upload_fail(upload, EBADMSG,
                    "what has come is not what was announced: its SHA-256 differs");
        return;
    }
    if (fchmod(upload->fd, 0755) < 0 || fsync(upload->fd) < 0) {
        upload_fail(upload, errno, "writing it to the disk");
        return;
    }
    fd_close(steal_fd(&upload->fd)); /* a file that is open for writing can't be executed */
    if (child_start(upload->upgrade->options.children, &options, &upload->test, &err) < 0) {
        upload_end(upload, "", &err);
        return;
    }
    loop_timer_start(upload->limit, TEST_MS);
}

/* ---- its bytes ---- */

static int write_all(int fd, const uint8_t *data, size_t len)
{
    while (len) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        data += MAX(n, 0);
        len -= (size_t)MAX(n, 0);
    }
    return 0;
}

static void on_upload_data(struct mux_stream *stream, const void *data, size_t len, void *arg)
{
    struct upload *upload = arg;
    int r;

    if (upload->guard) {
        mux_stream_consumed(stream, len);
        return; /* the program is in its place */
    }
    if (len > upload->left || upload->test) {
        upload_fail(upload, EMSGSIZE, "more has come than was announced");
        return;
    }
    r = write_all(upload->fd, data, len);
    if (r < 0) {
        scoped(error_done) struct error err = ERROR_INIT;

        error_errno(&err, -r, "writing '%s'", upload->path);
        upload_end(upload, "", &err);
        return;
    }
    sha256_put(&upload->sha, data, len);
    mux_stream_consumed(stream, len);
    upload->left -= len;
    if (upload->left == 0) {
        upload_test(upload);
    }
}

static void on_upload_fin(struct mux_stream *stream, void *arg)
{
    struct upload *upload = arg;

    if (upload->left > 0) {
        upload_fail(upload, EBADMSG, "it ended too early");
    }
}

static void on_upload_writable(struct mux_stream *stream, void *arg)
{
}

static void on_upload_closed(struct mux_stream *stream, uint32_t code, void *arg)
{
    struct upload *upload = arg;

    upload->stream = NULL;
    if (upload->guard) {
        return; /* the program is in its place */
    }
    log_debug("the host gave up sending an agent");
    upload_free(upload);
}

static const struct mux_stream_ops upload_ops = {
    .data = on_upload_data,
    .fin = on_upload_fin,
    .writable = on_upload_writable,
    .closed = on_upload_closed,
};

/* ---- requests ---- */

static int check_request(const struct upgrade *upgrade, const lima_guest_v1_UpgradeRequest *request,
                         struct error *err)
{
    scoped(fd_close) int fd = open(upgrade->options.program, O_RDONLY | O_CLOEXEC);
    uint8_t own[SHA256_SIZE];

    if (request->size == 0 || request->size > UPGRADE_MAX) {
        return error_set(err, EMSGSIZE, "a program of 1 to %u bytes is wanted", UPGRADE_MAX);
    }
    if (request->sha256.size != SHA256_SIZE) {
        return error_set(err, EINVAL, "a SHA-256 has %d bytes", SHA256_SIZE);
    }
    if (upgrade->upload) {
        return error_set(err, EBUSY, "another program is on its way already");
    }
    if (fd >= 0 && sha256_file(fd, own) == 0 &&
        memcmp(own, request->sha256.bytes, SHA256_SIZE) == 0) {
        return error_set(err, EALREADY, "this very program runs already");
    }
    return 0;
}

/* Room on the disk is taken at once where the file system can. */
static int open_upload(const struct upgrade *upgrade, uint64_t size, char **ret_path, int *ret_fd,
                       struct error *err)
{
    scoped(free) char *path = program_beside(upgrade->options.program, "upload");
    scoped(fd_close) int fd = -1;

    unlink(path); /* of a run that was cut short */
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    if (fd < 0) {
        return error_errno(err, errno, "creating '%s'", path);
    }
    if (fallocate(fd, 0, 0, (off_t)size) < 0 && errno == ENOSPC) {
        unlink(path);
        return error_errno(err, ENOSPC, "writing '%s'", path);
    }
    *ret_path = steal(path);
    *ret_fd = steal_fd(&fd);
    return 0;
}

static int begin_upload(struct upgrade *upgrade, const struct rpc_call *call,
                        const lima_guest_v1_UpgradeRequest *request, struct error *err)
{
    struct upload *upload;
    char *path = NULL;
    int fd = -1, r = check_request(upgrade, request, err);

    if (r == 0) {
        r = open_upload(upgrade, request->size, &path, &fd, err);
    }
    if (r < 0) {
        return r;
    }
    upload = xnew(struct upload);
    *upload = (struct upload){.upgrade = upgrade,
                              .stream = call->stream,
                              .path = path,
                              .fd = fd,
                              .left = request->size,
                              .words = BUF_INIT_CAP(WORDS_MAX)};
    upload->limit = loop_timer_new(upgrade->options.loop, on_test_late, upload);
    sha256_init(&upload->sha);
    memcpy(upload->want, request->sha256.bytes, SHA256_SIZE);
    upgrade->upload = upload;
    if (!rpc_reply(call->stream, 0, NULL)) {
        upload_free(upload);
        return error_set(err, EAGAIN, "too much is waiting for the host");
    }
    mux_stream_set_ops(call->stream, &upload_ops, upload);
    mux_stream_pass(call->stream, call->rest, call->rest_len);
    return 0;
}

static int roll_back(struct upgrade *upgrade, const struct rpc_call *call, struct error *err)
{
    lima_guest_v1_Upgraded done = lima_guest_v1_Upgraded_init_zero;
    int r = upgrade->upload ? error_set(err, EBUSY, "a new program is on its way")
                            : program_go_back(upgrade->options.program, err);

    if (r < 0) {
        return r;
    }
    log_info("the host wants the program before this one back");
    mux_stream_consumed(call->stream, call->rest_len);
    rpc_answer(call->stream, lima_guest_v1_Upgraded_fields, &done);
    upgrade->options.replaced(upgrade->options.arg);
    return 0;
}

int upgrade_serve(const struct rpc_call *call, void *arg, struct error *err)
{
    struct upgrade *upgrade = arg;
    lima_guest_v1_UpgradeRequest request = lima_guest_v1_UpgradeRequest_init_zero;

    if (!wire_decode(call->request, call->request_len, lima_guest_v1_UpgradeRequest_fields,
                     &request)) {
        return error_set(err, EBADMSG, "malformed request");
    }
    return request.rollback ? roll_back(upgrade, call, err)
                            : begin_upload(upgrade, call, &request, err);
}

/* ---- this program itself ---- */

int upgrade_guard(const char *previous, struct error *err)
{
    const char *suffix = strrchr(previous, '.');
    scoped(free) char *program = NULL;
    scoped(free) char *trial = NULL;
    int r;

    if (!suffix || strcmp(suffix, ".previous") != 0) {
        return error_set(err, EINVAL, "'%s' is not a program that was replaced", previous);
    }
    program = xasprintf("%.*s", (int)(suffix - previous), previous);
    trial = program_beside(program, "trial");
    if (!files_exist(trial)) {
        return 0;
    }
    r = program_go_back(program, err);
    return r < 0 ? r : 1;
}

static void on_trial_over(void *arg)
{
    struct upgrade *upgrade = arg;
    scoped(error_done) struct error err = ERROR_INIT;

    if (program_go_back(upgrade->options.program, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "the host has not been met, ignoring");
        program_confirm(upgrade->options.program);
        return;
    }
    log_warn("the host has not been met in time, going back to the program before this one");
    upgrade->options.replaced(upgrade->options.arg);
}

void upgrade_confirm(struct upgrade *upgrade)
{
    if (loop_timer_active(upgrade->trial)) {
        loop_timer_stop(upgrade->trial);
        program_confirm(upgrade->options.program);
        log_info("the host is there, this program stays");
    }
}

struct upgrade *upgrade_new(const struct upgrade_options *options)
{
    struct upgrade *upgrade = xnew(struct upgrade);

    upgrade->options = *options;
    upgrade->trial = loop_timer_new(options->loop, on_trial_over, upgrade);
    if (options->on_trial) {
        loop_timer_start(upgrade->trial, options->trial_ms);
    }
    return upgrade;
}

void upgrade_free(struct upgrade *upgrade)
{
    if (!upgrade) {
        return;
    }
    if (upgrade->upload) {
        if (upgrade->upload->stream) {
            mux_stream_reset(upgrade->upload->stream, MUX_RESET_CANCEL);
        }
        upload_free(upgrade->upload);
    }
    loop_timer_free(upgrade->trial);
    free(upgrade);
}
