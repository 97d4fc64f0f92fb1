/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/boot.h"

#include <assert.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "util/loop.h"

#define CONSOLE_EVERY_MS 1000 /* at most one progress event from the console in this time */
#define CONSOLE_LINE_MAX 120
#define ERRORS_MAX       64          /* scripts that a guest can make us remember */
#define ERRORS_BYTES     (96u << 10) /* of them: an event line with all, escaped, can be read back */
#define PROGRESS_MAX     2000        /* stages and scripts that a guest can make us tell */

/* Where in a terminal's escape sequence (ECMA-48) the console stands. */
enum escape {
    ESCAPE_NONE,
    ESCAPE_BEGUN,    /* behind ESC */
    ESCAPE_SEQUENCE, /* behind ESC [ */
};

struct boot {
    const struct boot_events *events;
    void *arg;
    enum boot_state state;
    struct strv errors;
    size_t error_bytes;
    bool errors_cut;
    unsigned told;   /* progress events that the guest caused */
    struct buf line; /* of the console, so far */
    enum escape escape;
    int64_t console_said_ms;
};

/* What a user reads for each stage the guest reports. */
static const char *const stage_texts[] = {
    [PEER_STAGE_UNKNOWN] = NULL,
    [PEER_STAGE_AGENT] = "guest agent is up",
    [PEER_STAGE_CLOUD_INIT] = "user and network are set up",
    [PEER_STAGE_SSH] = "ssh is ready",
    [PEER_STAGE_PROVISION] = "provisioning",
    [PEER_STAGE_PROBES] = "readiness probes",
    [PEER_STAGE_READY] = NULL,
    [PEER_STAGE_FAILED] = NULL,
};
static_assert(ARRAY_LEN(stage_texts) == PEER_STAGE_FAILED + 1, "a text for each stage");

struct boot *boot_new(const struct boot_events *events, void *arg)
{
    struct boot *boot = xnew(struct boot);

    boot->events = events;
    boot->arg = arg;
    boot->line = BUF_INIT_CAP(CONSOLE_LINE_MAX);
    return boot;
}

void boot_free(struct boot *boot)
{
    if (boot) {
        strv_done(&boot->errors);
        buf_done(&boot->line);
        free(boot);
    }
}

enum boot_state boot_state(const struct boot *boot)
{
    return boot->state;
}

const struct strv *boot_errors(const struct boot *boot)
{
    return &boot->errors;
}

static void become_ready(struct boot *boot)
{
    if (boot->state != BOOT_STATE_FAILED && boot->state != BOOT_STATE_READY) {
        boot->state = BOOT_STATE_READY;
        boot->events->ready(&boot->errors, boot->arg);
    }
}

void boot_fail(struct boot *boot, const char *cause)
{
    if (boot->state == BOOT_STATE_READY || boot->state == BOOT_STATE_FAILED) {
        return;
    }
    boot->state = BOOT_STATE_FAILED;
    strv_add(&boot->errors, cause);
    boot->events->failed(&boot->errors, boot->arg);
}

void boot_started(struct boot *boot)
{
    if (boot->state == BOOT_STATE_LAUNCHING) {
        boot->state = BOOT_STATE_BOOTING;
        boot->events->progress("booting", NULL, boot->arg);
    }
}

/* True while @c belongs to an escape sequence, which is not for showing. */
static bool skip_escape(struct boot *boot, char c)
{
    if (c == '\033') {
        boot->escape = ESCAPE_BEGUN;
        return true;
    }
    if (boot->escape == ESCAPE_NONE) {
        return false;
    }
    if (boot->escape == ESCAPE_BEGUN && c == '[') {
        boot->escape = ESCAPE_SEQUENCE;
    } else if (boot->escape == ESCAPE_BEGUN || (c >= '@' && c <= '~')) {
        boot->escape = ESCAPE_NONE;
    }
    return true;
}

/* Collects printable characters; true at the end of a line that has any. */
static bool console_feed(struct boot *boot, char c)
{
    if (skip_escape(boot, c)) {
        return false;
    }
    if (c == '\n' || c == '\r') {
        return boot->line.len > 0;
    }
    if (c >= ' ' && c <= '~') {
        (void)buf_putc(&boot->line, c); /* what is beyond the width is not shown */
    }
    return false;
}

void boot_console(struct boot *boot, const char *text, size_t len)
{
    if (boot->state != BOOT_STATE_BOOTING) {
        return;
    }
    for (size_t i = 0; i < len; i++) {
        int64_t now;

        if (!console_feed(boot, text[i])) {
            continue;
        }
        now = loop_now_ms();
        if (now - boot->console_said_ms >= CONSOLE_EVERY_MS) {
            boot->console_said_ms = now;
            boot->events->progress("booting", boot->line.data, boot->arg);
        }
        buf_truncate(&boot->line, 0);
    }
}

static void tell(struct boot *boot, const char *stage, const char *detail)
{
    if (boot->told < PROGRESS_MAX) {
        boot->told++;
        boot->events->progress(stage, detail, boot->arg);
    }
}

static void remember(struct boot *boot, char *take_error)
{
    size_t len = strlen(take_error);

    if (boot->errors.len >= ERRORS_MAX || boot->error_bytes + len > ERRORS_BYTES) {
        if (!boot->errors_cut) {
            boot->errors_cut = true;
            strv_add(&boot->errors, "there are more failures than are listed here");
        }
        free(take_error);
        return;
    }
    boot->error_bytes += len;
    strv_take(&boot->errors, take_error);
}

void boot_stage(struct boot *boot, enum peer_stage stage, const char *detail)
{
    if (stage == PEER_STAGE_FAILED) {
        scoped(free) char *cause = xasprintf("the guest could not finish its boot: %s", detail);

        boot_fail(boot, cause);
        return;
    }
    if (boot->state == BOOT_STATE_BOOTING || boot->state == BOOT_STATE_LAUNCHING) {
        boot->state = BOOT_STATE_GUEST;
    }
    if (boot->state != BOOT_STATE_GUEST) {
        return;
    }
    if (stage == PEER_STAGE_READY) {
        become_ready(boot);
    } else if (stage_texts[stage]) {
        tell(boot, stage_texts[stage], *detail ? detail : NULL);
    }
}

void boot_script(struct boot *boot, const struct peer_script *script)
{
    if (boot->state != BOOT_STATE_GUEST) {
        return;
    }
    if (script->running) {
        tell(boot, "running", script->name);
    } else if (script->exit_status != 0) {
        remember(boot, xasprintf("'%s' failed with exit status %d%s%s%s%s", script->name,
                                 script->exit_status, *script->hint ? "; hint: " : "", script->hint,
                                 *script->tail ? "; its last lines:\n" : "", script->tail));
    }
}

void boot_ssh_answers(struct boot *boot)
{
    become_ready(boot);
}
