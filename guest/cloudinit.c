/* SPDX-License-Identifier: Apache-2.0 */
#include "cloudinit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "files.h"
#include "json.h"
#include "text.h"

#define DISABLED_FILE "/etc/cloud/cloud-init.disabled"
#define ENABLED_FILE  "/etc/cloud/cloud-init.enabled"
#define APPLIED_DIR   "/var/lib/lima"
#define APPLIED_FILE  APPLIED_DIR "/instance-id"
#define STATUS_FILE   "/run/cloud-init/status.json"
#define RESULT_FILE   "/run/cloud-init/result.json"
#define STATUS_MAX    65536

enum cloudinit_plan cloudinit_decide(const struct cloudinit_facts *facts)
{
    bool disabled = (facts->disabled_file && !facts->enabled_file) || facts->generator_disabled;

    if (!facts->installed || facts->command_line) {
        return CLOUDINIT_OFF;
    }
    if (!disabled) {
        return CLOUDINIT_SYSTEM;
    }
    return strcmp(facts->applied_id, facts->seed_id) == 0 ? CLOUDINIT_OFF : CLOUDINIT_RERUN;
}

bool cloudinit_cmdline_disables(const char *cmdline)
{
    static const char word[] = "cloud-init=";
    bool disables = false;

    /* The last one wins, as in cloud-init's generator. */
    for (const char *at = cmdline; (at = strstr(at, word)); at++) {
        const char *value = at + strlen(word);

        if (at == cmdline || at[-1] == ' ') {
            disables = strcspn(value, " \n") == strlen("disabled") &&
                       strncmp(value, "disabled", strlen("disabled")) == 0;
        }
    }
    return disables;
}

static bool list_is_empty(const char *user_data, const char *key)
{
    scoped(free) char *value = text_yaml_scalar(user_data, key);

    return value && strcmp(value, "[]") == 0;
}

bool cloudinit_only_init(const char *user_data)
{
    return list_is_empty(user_data, "cloud_config_modules") &&
           list_is_empty(user_data, "cloud_final_modules");
}

bool cloudinit_single_process(void)
{
    return files_exist("/usr/lib/systemd/system/cloud-init-main.service") ||
           files_exist("/lib/systemd/system/cloud-init-main.service");
}

/* The applied id: ours, or where that is missing what cloud-init itself last applied. */
static char *read_applied(void)
{
    char *text = files_read(APPLIED_FILE, 256, NULL);

    text = text ? text : files_read("/var/lib/cloud/data/instance-id", 256, NULL);
    text = text ? text : xstrdup("");
    text[strcspn(text, "\n")] = '\0';
    return text;
}

enum cloudinit_plan cloudinit_plan(const char *seed_id)
{
    scoped(free) char *applied = read_applied();
    scoped(free) char *cmdline = files_read("/proc/cmdline", 65536, NULL);
    struct cloudinit_facts facts = {
        .installed = files_exist("/usr/bin/cloud-init"),
        .disabled_file = files_exist(DISABLED_FILE),
        .enabled_file = files_exist(ENABLED_FILE),
        .generator_disabled = files_exist("/run/cloud-init/disabled"),
        .command_line = cmdline && cloudinit_cmdline_disables(cmdline),
        .applied_id = applied,
        .seed_id = seed_id,
    };

    return cloudinit_decide(&facts);
}

static void on_status_value(const char *path, const char *value, void *arg)
{
    struct cloudinit_status *status = arg;
    size_t len = strlen(path);

    if (!value) {
        return;
    }
    if (strcmp(path, "v1.init.finished") == 0) {
        status->init_finished = strcmp(value, "null") != 0;
    } else if (strcmp(path, "v1.modules-final.finished") == 0) {
        status->final_finished = strcmp(value, "null") != 0;
    } else if (len > 9 && strcmp(path + len - 9, ".errors[]") == 0 &&
               strncmp(path, "v1.", 3) == 0 && !status->error[0]) {
        snprintf(status->error, sizeof(status->error), "%s", value);
    }
}

int cloudinit_status_parse(const char *text, struct cloudinit_status *ret)
{
    struct cloudinit_status status = {0};
    int r = json_scan(text, on_status_value, &status);

    if (r == 0) {
        *ret = status;
    }
    return r;
}

void cloudinit_status(struct cloudinit_status *ret)
{
    scoped(free) char *text = files_read(STATUS_FILE, STATUS_MAX, NULL);

    *ret = (struct cloudinit_status){0};
    if (text && cloudinit_status_parse(text, ret) < 0) {
        *ret = (struct cloudinit_status){0}; /* its next change comes as an event */
    }
    ret->final_finished = ret->final_finished || files_exist(RESULT_FILE);
}

int cloudinit_retire(const char *seed_id, struct error *err)
{
    scoped(free) char *line = xasprintf("%s\n", seed_id);
    int r = files_mkdirs(APPLIED_DIR, 0755, err);

    r = r < 0 ? r : files_write(APPLIED_FILE, line, 0644, err);
    return r < 0 ? r
                 : files_write(DISABLED_FILE,
                               "# The first boot is done; lima-guestagent runs cloud-init again "
                               "when the seed changes.\n",
                               0644, err);
}

int cloudinit_revive(struct error *err)
{
    if (unlink(DISABLED_FILE) < 0 && errno != ENOENT) {
        return error_errno(err, errno, "removing '%s'", DISABLED_FILE);
    }
    return 0;
}
