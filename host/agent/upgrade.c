/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/upgrade.h"

#include <errno.h>
#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "peer/upgrade.h"
#include "util/digest.h"
#include "util/file.h"
#include "util/strv.h"
#include "util/units.h"

enum state {
    IDLE,
    SENDING,
    WAITING,
};

struct upgrade {
    struct peer *peer;
    const char *program;
    enum state state;
    bool tried;                    /* by itself */
    char *version;                 /* of the guest's agent; NULL: no session */
    char *expected;                /* WAITING: of the one that is to come, "" unknown */
    struct peer_upgrade *call;     /* SENDING */
    struct api_exchange *exchange; /* NULL: nobody waits */
    struct loop_timer *timer;
};

bool upgrade_is_older(const char *theirs, const char *ours)
{
    return version_ok(theirs) && version_ok(ours) && version_compare(theirs, ours) < 0;
}

/* ---- ends ---- */

static void become_idle(struct upgrade *upgrade)
{
    loop_timer_set(upgrade->timer, -1);
    peer_upgrade_cancel(steal(upgrade->call));
    free(steal(upgrade->expected));
    upgrade->state = IDLE;
}

static void fail(struct upgrade *upgrade, const struct error *err)
{
    become_idle(upgrade);
    log_error_of(LOG_LEVEL_WARN, err, "the guest agent stays what it is, ignoring");
    if (upgrade->exchange) {
        api_refuse(steal(upgrade->exchange), err);
    }
}

static void succeed(struct upgrade *upgrade, bool upgraded, const char *version)
{
    become_idle(upgrade);
    if (upgraded) {
        log_info("the guest goes on with version %s of its agent", version);
    }
    if (upgrade->exchange) {
        api_answer(steal(upgrade->exchange), JV_OBJECT(jv_string("upgraded"), jv_bool(upgraded),
                                                       jv_string("version"), jv_string(version)));
    }
}

static void on_time(void *arg)
{
    struct upgrade *upgrade = arg;
    scoped(error_done) struct error err = ERROR_INIT;

    if (upgrade->state == SENDING) {
        error_set(&err, ETIMEDOUT, "the guest does not take the program");
    } else {
        error_set(&err, ETIMEDOUT, "the guest does not come back with the new agent");
        error_hint(&err, "it goes back to the one before by itself; see its journal");
    }
    fail(upgrade, &err);
}

static void on_guest_done(int r, const char *text, const char *version, void *arg)
{
    struct upgrade *upgrade = arg;
    scoped(error_done) struct error err = ERROR_INIT;

    upgrade->call = NULL;
    if (r == 0) {
        upgrade->state = WAITING;
        upgrade->expected = xstrdup(version);
        loop_timer_set(upgrade->timer, UPGRADE_WAIT_MS);
    } else if (r == -EALREADY) {
        scoped(free) char *same = xstrdup(str_or_empty(upgrade->version));

        succeed(upgrade, false, same);
    } else {
        error_set(&err, -r, "the guest says: %s", text && *text ? text : strerror(-r));
        fail(upgrade, &err);
    }
}

/* ---- beginnings ---- */

static int send_program(struct upgrade *upgrade, const char *path, struct error *err)
{
    scoped(buf_done) struct buf program = BUF_INIT;
    struct peer_upgrade_source source = {.version = ""};
    int r = file_read(path, UPGRADE_PROGRAM_MAX, &program, err);

    if (r < 0) {
        return error_wrap(err, r, "the guest agent for the guest");
    }
    if (program.len < 4 || memcmp(program.data, "\177ELF", 4) != 0) {
        return error_set(err, EINVAL, "'%s' is no program", path);
    }
    source.size = program.len;
    digest_sha256(program.data, program.len, source.sha256, sizeof(source.sha256));
    upgrade->call = peer_upgrade_send(upgrade->peer, &source, &program, on_guest_done, upgrade);
    return 0;
}

/* @path NULL: back to the one before. */
static int begin(struct upgrade *upgrade, const char *path, struct error *err)
{
    int r = 0;

    if (upgrade->state != IDLE) {
        return error_set(err, EEXIST, "the guest agent is being replaced already");
    }
    if (!peer_is_up(upgrade->peer)) {
        return error_set(err, ENOTCONN, "the guest agent does not speak");
    }
    if (!peer_has(upgrade->peer, "upgrade")) {
        error_set(err, EOPNOTSUPP, "the guest's agent %s cannot be upgraded while it runs",
                  str_or_empty(upgrade->version));
        return error_hint(err, "stop and start the instance"), -EOPNOTSUPP;
    }
    if (path) {
        r = send_program(upgrade, path, err);
    } else {
        upgrade->call = peer_upgrade_rollback(upgrade->peer, on_guest_done, upgrade);
    }
    if (r < 0) {
        return r;
    }
    if (!upgrade->call) {
        return error_set(err, EAGAIN, "the guest agent has too much to do");
    }
    upgrade->state = SENDING;
    upgrade->tried = true;
    loop_timer_set(upgrade->timer, UPGRADE_SEND_MS);
    return 0;
}

void upgrade_if_older(struct upgrade *upgrade)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (upgrade->tried || upgrade->state != IDLE || !upgrade->version ||
        !upgrade_is_older(upgrade->version, LIMA_AGENT_VERSION) ||
        !peer_has(upgrade->peer, "upgrade")) {
        return;
    }
    log_info("the guest's agent %s is older than ours, %s: upgrading it", upgrade->version,
             LIMA_AGENT_VERSION);
    upgrade->tried = true;
    if (begin(upgrade, upgrade->program, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "the guest agent stays what it is, ignoring");
    }
}

/* What the body asks for: *ret_path NULL for a rollback. Borrowed from @body and @upgrade. */
static int parse_request(const struct upgrade *upgrade, jv rollback, jv program,
                         const char **ret_path, struct error *err)
{
    bool back = jv_get_kind(rollback) == JV_KIND_TRUE;

    if (jv_is_valid(rollback) && !back && jv_get_kind(rollback) != JV_KIND_FALSE) {
        return error_set(err, EINVAL, "\"rollback\" is true or false");
    }
    if (jv_is_valid(program) &&
        (back || jv_get_kind(program) != JV_KIND_STRING || *jv_string_value(program) != '/')) {
        return error_set(err, EINVAL, "\"program\" is an absolute path, and not for a rollback");
    }
    *ret_path = back ? NULL : jv_is_valid(program) ? jv_string_value(program) : upgrade->program;
    return 0;
}

void upgrade_request(struct upgrade *upgrade, struct api_exchange *take_exchange, jv body)
{
    scoped(value_done) jv rollback = jv_object_get(jv_copy(body), jv_string("rollback"));
    scoped(value_done) jv program = jv_object_get(body, jv_string("program"));
    scoped(error_done) struct error err = ERROR_INIT;
    const char *path = NULL;
    int r = parse_request(upgrade, rollback, program, &path, &err);

    if (r == 0) {
        r = begin(upgrade, path, &err);
    }
    if (r < 0) {
        api_refuse(take_exchange, &err);
        return;
    }
    upgrade->exchange = take_exchange;
}

/* ---- sessions ---- */

void upgrade_connected(struct upgrade *upgrade, const char *version)
{
    scoped(error_done) struct error err = ERROR_INIT;

    free(upgrade->version);
    upgrade->version = xstrdup(version);
    if (upgrade->state != WAITING) {
        return;
    }
    if (*upgrade->expected && !str_eq(upgrade->expected, version)) {
        error_set(&err, EIO, "version %s did not come up, the guest went back to %s",
                  upgrade->expected, version);
        fail(upgrade, &err);
    } else {
        succeed(upgrade, true, version);
    }
}

void upgrade_disconnected(struct upgrade *upgrade)
{
    free(steal(upgrade->version));
}

/* ---- life ---- */

struct upgrade *upgrade_new(struct loop *loop, struct peer *peer, const char *program)
{
    struct upgrade *upgrade = xnew(struct upgrade);

    upgrade->peer = peer;
    upgrade->program = program;
    upgrade->timer = loop_timer_new(loop, on_time, upgrade);
    return upgrade;
}

void upgrade_free(struct upgrade *upgrade)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (!upgrade) {
        return;
    }
    become_idle(upgrade);
    if (upgrade->exchange) {
        error_set(&err, ENOTCONN, "the host agent ends");
        api_refuse(steal(upgrade->exchange), &err);
    }
    loop_timer_free(upgrade->timer);
    free(upgrade->version);
    free(upgrade);
}
