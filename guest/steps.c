/* SPDX-License-Identifier: Apache-2.0 */
#include "steps.h"

#include <assert.h>
#include <stdarg.h>
#include "base/alloc.h"
#include "base/log.h"

struct steps {
    struct children *children;
    steps_done_fn *done;
    void *arg;
    char *words[STEPS_MAX][STEPS_ARGS_MAX + 1];
    size_t count;
    size_t next;
    unsigned failed;
    struct child *child;
};

static const char *const root_env[] = {
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C",
    NULL,
};

struct steps *steps_new(struct children *children, steps_done_fn *done, void *arg)
{
    struct steps *steps = xnew(struct steps);

    steps->children = children;
    steps->done = done;
    steps->arg = arg;
    return steps;
}

void steps_add(struct steps *steps, const char *word, ...)
{
    va_list ap;

    assert(steps->count < STEPS_MAX);
    va_start(ap, word);
    for (size_t i = 0; word; i++) {
        assert(i < STEPS_ARGS_MAX);
        steps->words[steps->count][i] = xstrdup(word);
        word = va_arg(ap, const char *);
    }
    va_end(ap);
    steps->count++;
}

void steps_free(struct steps *steps)
{
    if (!steps) {
        return;
    }
    if (steps->child) {
        child_kill(steps->child, SIGTERM);
        child_forget(steps->child);
    }
    for (size_t i = 0; i < STEPS_MAX; i++) {
        for (size_t k = 0; k < STEPS_ARGS_MAX; k++) {
            free(steps->words[i][k]);
        }
    }
    free(steps);
}

static void on_step_exited(int status, void *arg)
{
    struct steps *steps = arg;

    steps->child = NULL;
    if (status) {
        log_warn("'%s %s' exited with status %d, ignoring", steps->words[steps->next - 1][0],
                 steps->words[steps->next - 1][1] ? steps->words[steps->next - 1][1] : "", status);
        steps->failed++;
    }
    steps_start(steps);
}

static void finish(struct steps *steps)
{
    steps_done_fn *done = steps->done;
    unsigned failed = steps->failed;
    void *arg = steps->arg;

    steps_free(steps);
    done(failed, arg);
}

void steps_start(struct steps *steps)
{
    while (steps->next < steps->count) {
        scoped(error_done) struct error err = ERROR_INIT;
        struct child_options options = {.argv = (const char *const *)steps->words[steps->next++],
                                        .envp = root_env,
                                        .dir = "/",
                                        .exited = on_step_exited,
                                        .arg = steps};

        if (child_start(steps->children, &options, &steps->child, &err) == 0) {
            return;
        }
        log_error_of(LOG_LEVEL_WARN, &err, "a command of the boot, ignoring");
        steps->failed++;
    }
    finish(steps);
}
