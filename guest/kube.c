/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   ABSENT   no kubeconfig, or no kubectl: their folders are watched
 *   FOLLOWS  kubectl runs; when it ends, with a reason or without (servers end a watch now and
 * then): WAITS    until it is started again, at once or ever later
 *
 * A change of the kubeconfig leads from anywhere to where it belongs. A stream that begins names
 * all services again, but not when it has done so: what it has not named SETTLE_MS later is gone.
 */
#include "kube.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "kubewatch.h"
#include "pathwatch.h"

#define LOOK_MS     50
#define SETTLE_MS   1000
#define RETRY_MS    1000
#define RETRY_MAX_S 60
#define FOLDERS_MAX 32
#define PATH_USUAL                                                                                 \
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/var/lib/rancher/rke2/bin"
#define REQUEST "/api/v1/services?watch=1"

static const char *const usual_configs[] = {
    "/etc/rancher/k3s/k3s.yaml",    "/etc/rancher/rke2/rke2.yaml", "/etc/kubernetes/admin.conf",
    "/root/.kube/config.localhost", "/root/.kube/config",          NULL,
};

/* What makes a file another one. */
struct identity {
    dev_t device;
    ino_t inode;
    struct timespec changed;
};

struct kube {
    struct kube_options options;
    char *config_folders[FOLDERS_MAX + 1];
    char *program_folders[FOLDERS_MAX + 1];
    struct pathwatch *config_watch;
    struct pathwatch *program_watch; /* only while kubectl is missing */
    const char *config;              /* in use, one of options.configs; NULL: ABSENT */
    struct identity identity;
    struct child *child; /* NULL: does not run */
    bool heard;          /* it has told of a service */
    struct loop_timer *retry_timer;
    struct loop_timer *settle_timer;
    struct loop_timer *look_timer; /* at the files, behind notices */
    unsigned retry_ms;
    struct buf line; /* that is not complete */
    bool skipping;   /* one that is too long */
    char words[128]; /* the last thing that it said in words */
    struct kubewatch *watch;
    struct portset current;
};

static void gather(struct kube *kube)
{
    scoped(portset_done) struct portset now = {0};

    kubewatch_ports(kube->watch, &now);
    if (!portset_equal(&kube->current, &now)) {
        portset_copy(&kube->current, &now);
        kube->options.changed(kube->options.arg);
    }
}

static void stop(struct kube *kube)
{
    if (kube->child) {
        child_kill(kube->child, SIGTERM);
        child_forget(kube->child);
        kube->child = NULL;
    }
    loop_timer_stop(kube->retry_timer);
    loop_timer_stop(kube->settle_timer);
}

/* ---- what kubectl says ---- */

static void retry_later(struct kube *kube)
{
    loop_timer_start(kube->retry_timer, kube->retry_ms);
    kube->retry_ms = MIN(2 * kube->retry_ms, RETRY_MAX_S * 1000);
}

static void take_line(struct kube *kube, const char *line)
{
    int r = kubewatch_line(kube->watch, line);

    if (r == -EBADMSG) {
        snprintf(kube->words, sizeof(kube->words), "%s", line);
    } else if (r < 0) {
        child_kill(kube->child, SIGTERM); /* it would wait for an end that may not come */
    } else if (!kube->heard) {
        kube->heard = true;
        kube->retry_ms = RETRY_MS;
        loop_timer_start(kube->settle_timer, SETTLE_MS);
    }
}

static void on_kubectl_output(const void *data, size_t len, void *arg)
{
    struct kube *kube = arg;
    const char *at = data;

    while (len) {
        const char *end = memchr(at, '\n', len);
        size_t part = end ? (size_t)(end - at) : len;

        if (buf_put(&kube->line, at, part) < 0) {
            kube->skipping = true;
        }
        if (end && kube->skipping) {
            log_warn("a service of more than %u bytes, ignoring", KUBEWATCH_LINE_MAX);
        } else if (end && kube->line.len) {
            take_line(kube, kube->line.data);
        }
        if (end) {
            buf_truncate(&kube->line, 0);
            kube->skipping = false;
            part++;
        }
        at += part;
        len -= part;
    }
    gather(kube);
}

static void on_kubectl_exited(int status, void *arg)
{
    struct kube *kube = arg;

    kube->child = NULL;
    loop_timer_stop(kube->settle_timer);
    retry_later(kube);
    if (kube->heard) {
        log_debug("kubectl ended with status %d, retrying", status);
        return;
    }
    log_info("services of the cluster of '%s': %s, retrying", kube->config, kube->words);
    kubewatch_clear(kube->watch); /* there is nobody who would serve them */
    gather(kube);
}

static void on_settled(void *arg)
{
    struct kube *kube = arg;

    kubewatch_settle(kube->watch);
    gather(kube);
}

/* ---- whether it runs ---- */

/* Of a list like PATH. NULL: nowhere. Caller frees. */
static char *find_program(const char *path, const char *name)
{
    while (*path) {
        size_t len = strcspn(path, ":");
        scoped(free) char *candidate = xasprintf("%.*s/%s", (int)len, path, name);

        if (access(candidate, X_OK) == 0) {
            return steal(candidate);
        }
        path += len + (path[len] == ':');
    }
    return NULL;
}

static const char *find_config(const struct kube *kube, struct identity *ret)
{
    struct stat st;

    for (size_t i = 0; kube->options.configs[i]; i++) {
        if (stat(kube->options.configs[i], &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
            *ret = (struct identity){st.st_dev, st.st_ino, st.st_mtim};
            return kube->options.configs[i];
        }
    }
    return NULL;
}

static void start(struct kube *kube, const char *program)
{
    const char *const argv[] = {program, "--kubeconfig", kube->config, "get",
                                "--raw", REQUEST,        NULL};
    static const char *const envp[] = {"PATH=" PATH_USUAL, "HOME=/root", "LC_ALL=C", NULL};
    const struct child_options options = {.argv = argv,
                                          .envp = envp,
                                          .dir = "/",
                                          .quiet = true,
                                          .output = on_kubectl_output,
                                          .exited = on_kubectl_exited,
                                          .arg = kube};
    scoped(error_done) struct error err = ERROR_INIT;

    kube->heard = kube->skipping = false;
    buf_truncate(&kube->line, 0);
    snprintf(kube->words, sizeof(kube->words), "no answer");
    kubewatch_begin(kube->watch);
    if (child_start(kube->options.children, &options, &kube->child, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "following the services of a cluster, retrying");
        retry_later(kube);
    }
}

static void on_folder_changed(void *arg)
{
    struct kube *kube = arg;

    /* All that a writer does in one go is one change. */
    loop_timer_start(kube->look_timer, LOOK_MS);
}

static void watch_programs(struct kube *kube, bool on)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (!on) {
        pathwatch_close(kube->program_watch);
        kube->program_watch = NULL;
    } else if (!kube->program_watch &&
               pathwatch_open(kube->options.loop, (const char *const *)kube->program_folders,
                              on_folder_changed, kube, &kube->program_watch, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "waiting for kubectl, ignoring");
    }
}

static void run(struct kube *kube)
{
    scoped(free) char *program = find_program(kube->options.path, "kubectl");

    watch_programs(kube, !program);
    if (program) {
        start(kube, program);
    }
}

static void on_retry_due(void *arg)
{
    run(arg);
}

static void on_look_due(void *arg)
{
    struct kube *kube = arg;
    struct identity identity = {0};
    const char *config = find_config(kube, &identity);
    bool same = config == kube->config &&
                (!config || memcmp(&identity, &kube->identity, sizeof(identity)) == 0);

    if (same && !kube->program_watch) {
        return;
    }
    stop(kube);
    kube->config = config;
    kube->identity = identity;
    kube->retry_ms = RETRY_MS;
    if (config) {
        run(kube);
        return;
    }
    watch_programs(kube, false);
    kubewatch_clear(kube->watch);
    gather(kube);
}

/* ---- life ---- */

/* @path's first @len bytes as one more folder, unless it is there already or there is no room. */
static void add_folder(char **folders, const char *path, size_t len)
{
    size_t i = 0;

    while (folders[i] && (strlen(folders[i]) != len || memcmp(folders[i], path, len) != 0)) {
        i++;
    }
    if (!folders[i] && i < FOLDERS_MAX) {
        folders[i] = xstrndup(path, len);
    }
}

/* A file may come with some of the folders above it. */
static void add_parents(char **folders, const char *path)
{
    for (size_t len = strlen(path); len > 0; len--) {
        if (path[len] == '/') {
            add_folder(folders, path, len);
        }
    }
}

static void list_folders(struct kube *kube)
{
    for (size_t i = 0; kube->options.configs[i]; i++) {
        add_parents(kube->config_folders, kube->options.configs[i]);
    }
    for (const char *path = kube->options.path; *path;) {
        size_t len = strcspn(path, ":");

        add_folder(kube->program_folders, path, len);
        path += len + (path[len] == ':');
    }
}

int kube_open(const struct kube_options *options, struct kube **ret, struct error *err)
{
    struct kube *kube = xnew(struct kube);
    int r;

    *kube = (struct kube){.options = *options,
                          .retry_ms = RETRY_MS,
                          .line = BUF_INIT_CAP(KUBEWATCH_LINE_MAX),
                          .watch = kubewatch_new()};
    kube->options.configs = options->configs ? options->configs : usual_configs;
    kube->options.path = options->path ? options->path : PATH_USUAL;
    kube->retry_timer = loop_timer_new(options->loop, on_retry_due, kube);
    kube->settle_timer = loop_timer_new(options->loop, on_settled, kube);
    kube->look_timer = loop_timer_new(options->loop, on_look_due, kube);
    list_folders(kube);
    r = pathwatch_open(options->loop, (const char *const *)kube->config_folders, on_folder_changed,
                       kube, &kube->config_watch, err);
    if (r < 0) {
        kube_close(kube);
        return error_wrap(err, r, "waiting for a kubeconfig");
    }
    loop_timer_start(kube->look_timer, 0);
    *ret = kube;
    return 0;
}

void kube_close(struct kube *kube)
{
    if (!kube) {
        return;
    }
    stop(kube);
    pathwatch_close(kube->config_watch);
    pathwatch_close(kube->program_watch);
    loop_timer_free(kube->retry_timer);
    loop_timer_free(kube->settle_timer);
    loop_timer_free(kube->look_timer);
    for (size_t i = 0; i < FOLDERS_MAX; i++) {
        free(kube->config_folders[i]);
        free(kube->program_folders[i]);
    }
    buf_done(&kube->line);
    kubewatch_free(kube->watch);
    portset_done(&kube->current);
    free(kube);
}

const struct portset *kube_current(const struct kube *kube)
{
    return &kube->current;
}
