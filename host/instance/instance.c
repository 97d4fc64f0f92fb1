/* SPDX-License-Identifier: Apache-2.0 */
#include "instance/instance.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "api/client.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "instance/layout.h"
#include "instance/store.h"
#include "ssh/ssh.h"
#include "util/file.h"
#include "util/process.h"
#include "util/units.h"

#define MAX_CMDLINE (256u << 10)
#define MAX_VERSION 256

static const char *const status_names[] = {
    [INSTANCE_STATUS_UNKNOWN] = "",
    [INSTANCE_STATUS_STOPPED] = "Stopped",
    [INSTANCE_STATUS_RUNNING] = "Running",
    [INSTANCE_STATUS_BROKEN] = "Broken",
};

const char *instance_status_name(enum instance_status status)
{
    return status_names[status];
}

char *instance_hostname(const char *name)
{
    char *hostname = xasprintf("lima-%s", name);

    for (char *c = hostname; *c; c++) {
        if (*c == '.' || *c == '_') {
            *c = '-';
        }
    }
    return hostname;
}

char *instance_path(const struct instance *inst, const char *file)
{
    return path_join(inst->dir, file);
}

static struct instance *instance_new(const char *lima_home, const char *name)
{
    struct instance *inst = xnew(struct instance);

    inst->name = xstrdup(name);
    inst->hostname = instance_hostname(name);
    inst->dir = instance_dir(lima_home, name);
    inst->version = xstrdup("");
    inst->info = jv_invalid();
    inst->guest = jv_invalid();
    return inst;
}

void instance_free(struct instance *inst)
{
    if (!inst) {
        return;
    }
    free(inst->name);
    free(inst->hostname);
    free(inst->dir);
    free(inst->version);
    config_free(inst->config);
    strv_done(&inst->errors);
    jv_free(inst->info);
    jv_free(inst->guest);
    free(inst);
}

struct instance *instance_broken(const char *lima_home, const char *name, const char *reason)
{
    struct instance *inst = instance_new(lima_home, name);

    inst->status = INSTANCE_STATUS_BROKEN;
    strv_add(&inst->errors, reason);
    return inst;
}

/* --- processes --- */

/* True unless the command line of @pid shows that it is not a process of the instance in @dir. */
static bool belongs_to(pid_t pid, const char *dir)
{
    scoped(free) char *path = xasprintf("/proc/%d/cmdline", (int)pid);
    scoped(free) char *below = xasprintf("%s/", dir);
    scoped(buf_done) struct buf words = BUF_INIT;
    scoped(error_done) struct error err = ERROR_INIT;
    int r;

    if (access("/proc/self/cmdline", R_OK) < 0) {
        return true; /* no such view of processes here */
    }
    r = file_read(path, MAX_CMDLINE, &words, &err);
    if (r == -EACCES || r == -EPERM) {
        return true;
    }
    /* A process that has ended but was not waited for yet has an empty command line. */
    return r == 0 && memmem(buf_str(&words), words.len, below, strlen(below)) != NULL;
}

pid_t instance_read_pid(const char *dir, const char *file)
{
    scoped(free) char *path = path_join(dir, file);
    pid_t pid = process_read_pidfile(path);

    return pid > 0 && belongs_to(pid, dir) ? pid : 0;
}

char *instance_driver_pidfile(const struct instance *inst)
{
    return xasprintf("%s.pid", inst->config ? inst->config->vm_type : "qemu");
}

bool instance_is_old(const char *dir)
{
    static const char *const traces[] = {LAYOUT_HA_STDOUT, LAYOUT_HA_STDERR, "vz-identifier",
                                         LAYOUT_IMAGE,     LAYOUT_DISK,      "basedisk",
                                         "diffdisk",       LAYOUT_CIDATA};

    for (size_t i = 0; i < ARRAY_LEN(traces); i++) {
        scoped(free) char *path = path_join(dir, traces[i]);

        if (file_exists(path)) {
            return true;
        }
    }
    return false;
}

/* --- status --- */

static void load_version(struct instance *inst)
{
    scoped(free) char *path = instance_path(inst, LAYOUT_VERSION);
    scoped(buf_done) struct buf text = BUF_INIT;

    /* A missing or unreadable file means "older than everything". */
    if (file_read(path, MAX_VERSION, &text, NULL) == 0) {
        free(inst->version);
        inst->version = str_trim(buf_str(&text));
    }
}

static int load_config(struct instance *inst, const char *lima_home, struct error *err)
{
    struct config_load_options options = {
        .lima_home = lima_home,
        .instance = inst->name,
        .created_by = instance_is_old(inst->dir) ? inst->version : NULL,
    };
    scoped(free) char *path = instance_path(inst, LAYOUT_CONFIG);
    scoped(error_done) struct error why = ERROR_INIT;

    if (!file_exists(path)) {
        return error_set(err, ENOENT, "instance `%s` does not exist: no '%s'", inst->name, path);
    }
    if (config_load(path, &options, &inst->config, &why) < 0) {
        strv_add(&inst->errors, error_text(&why));
    }
    return 0;
}

/* What the host agent says of the instance. @info is consumed. */
static void take_info(struct instance *inst, jv info)
{
    jv port;

    if (jv_get_kind(info) != JV_KIND_OBJECT) {
        jv_free(info);
        return;
    }
    port = jv_object_get(jv_copy(info), jv_string("sshLocalPort"));
    if (jv_get_kind(port) == JV_KIND_NUMBER) {
        inst->ssh_port = (int)jv_number_value(port);
    }
    jv_free(port);
    jv_free(inst->info);
    inst->info = info;
}

static void find_pids(struct instance *inst)
{
    scoped(free) char *pidfile = instance_driver_pidfile(inst);

    inst->host_agent_pid = instance_read_pid(inst->dir, LAYOUT_HA_PID);
    inst->driver_pid = instance_read_pid(inst->dir, pidfile);
}

/* @answers: the host agent, if there is one, has answered. */
static void find_status(struct instance *inst, bool answers)
{
    if (inst->host_agent_pid && inst->driver_pid) {
        inst->status = answers ? INSTANCE_STATUS_RUNNING : INSTANCE_STATUS_BROKEN;
    } else if (inst->host_agent_pid) {
        inst->status = INSTANCE_STATUS_BROKEN;
        strv_add(&inst->errors, "host agent is running but driver is not");
    } else if (inst->driver_pid) {
        inst->status = INSTANCE_STATUS_BROKEN;
        strv_addf(&inst->errors,
                  "driver is running (pid %d) but host agent is not; `limactl start %s` takes it "
                  "over",
                  (int)inst->driver_pid, inst->name);
    } else {
        inst->status = INSTANCE_STATUS_STOPPED;
    }
}

static void find_port(struct instance *inst)
{
    if (inst->ssh_port == 0 && inst->config) {
        inst->ssh_port = inst->config->ssh.local_port;
    }
    if (inst->ssh_port == 0) {
        inst->ssh_port = ssh_config_port(inst->dir);
    }
}

/* All but what the host agent has to say. */
static int load(const char *lima_home, const char *name, struct instance **ret, struct error *err)
{
    scoped(instance_free) struct instance *inst = NULL;
    scoped(free) char *protected_path = NULL;
    int r;

    if (!instance_name_ok(name)) {
        return error_set(err, EINVAL, "`%s` is not a valid instance name", name);
    }
    inst = instance_new(lima_home, name);
    protected_path = instance_path(inst, LAYOUT_PROTECTED);
    load_version(inst);
    r = load_config(inst, lima_home, err);
    if (r < 0) {
        return r;
    }
    inst->is_protected = file_exists(protected_path);
    find_pids(inst);
    *ret = steal(inst);
    return 0;
}

/* @question: what its host agent was asked; NULL: there is none. */
static void conclude(struct instance *inst, struct api_question *question)
{
    bool answers = question && question->r == 0;

    if (answers) {
        take_info(inst, question->answer);
    } else if (question) {
        strv_addf(&inst->errors, "failed to connect to '%s': %s", question->path,
                  error_text(&question->err));
        error_done(&question->err);
    }
    find_status(inst, answers);
    if (!inst->config) {
        inst->status = INSTANCE_STATUS_UNKNOWN;
    }
    find_port(inst);
}

static struct api_question question_for(const struct instance *inst, const char *resource)
{
    return (struct api_question){.path = instance_path(inst, LAYOUT_HA_SOCK), .resource = resource};
}

/* Asks the host agents of all that have one, and derives everybody's status. */
static void ask_agents(struct instance_opened *opened, size_t count)
{
    scoped(free) struct api_question *questions = xnew_n(struct api_question, count + 1);
    size_t asked = 0, next = 0;

    for (size_t i = 0; i < count; i++) {
        if (opened[i].inst && opened[i].inst->host_agent_pid) {
            questions[asked++] = question_for(opened[i].inst, "/v1/info");
        }
    }
    api_get_all(questions, asked, INSTANCE_ANSWER_MS);
    for (size_t i = 0; i < count; i++) {
        if (opened[i].inst) {
            bool has_agent = opened[i].inst->host_agent_pid;

            conclude(opened[i].inst, has_agent ? &questions[next++] : NULL);
        }
    }
    for (size_t i = 0; i < asked; i++) {
        free((char *)questions[i].path);
    }
}

static bool may_have_guest(const struct instance_opened *opened)
{
    return opened->inst && opened->inst->status == INSTANCE_STATUS_RUNNING;
}

static void ask_guests(struct instance_opened *opened, size_t count)
{
    scoped(free) struct api_question *questions = xnew_n(struct api_question, count + 1);
    size_t asked = 0, next = 0;

    for (size_t i = 0; i < count; i++) {
        if (may_have_guest(&opened[i])) {
            questions[asked++] = question_for(opened[i].inst, "/v1/guest");
        }
    }
    api_get_all(questions, asked, INSTANCE_GUEST_MS);
    for (size_t i = 0; i < count; i++) {
        struct api_question *question = &questions[next];

        if (!may_have_guest(&opened[i])) {
            continue;
        }
        next++;
        if (question->r == 0) {
            jv_free(opened[i].inst->guest);
            opened[i].inst->guest = question->answer;
        }
        error_done(&question->err); /* a guest that does not speak, or not yet */
        free((char *)question->path);
    }
}

void instance_open_all(const char *lima_home, const struct strv *names, bool with_guest,
                       struct instance_opened *ret)
{
    for (size_t i = 0; i < names->len; i++) {
        ret[i] = (struct instance_opened){0};
        ret[i].r = load(lima_home, names->items[i], &ret[i].inst, &ret[i].err);
    }
    ask_agents(ret, names->len);
    if (with_guest) {
        ask_guests(ret, names->len);
    }
}

int instance_open(const char *lima_home, const char *name, struct instance **ret, struct error *err)
{
    struct instance_opened opened = {0};
    int r = load(lima_home, name, &opened.inst, err);

    if (r == 0) {
        ask_agents(&opened, 1);
        *ret = opened.inst;
    }
    return r;
}
