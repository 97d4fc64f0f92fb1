/* SPDX-License-Identifier: Apache-2.0 */
#include "info.h"

#include <string.h>
#include <sys/utsname.h>
#include "base/alloc.h"
#include "files.h"
#include "loop.h"
#include "wire.h"

#define OS_RELEASE_MAX 16384

/* Beside the names of services. */
static const char *const features[] = {"events.stage", "events.ports", "events.script"};

bool info_os_release(const char *text, const char *key, char *out, size_t size)
{
    size_t key_len = strlen(key);
    size_t n = 0;
    char quote = '\0';

    while (*text && !(strncmp(text, key, key_len) == 0 && text[key_len] == '=')) {
        text += strcspn(text, "\n");
        text += *text == '\n';
    }
    if (!*text) {
        return false;
    }
    text += key_len + 1;
    if (*text == '"' || *text == '\'') {
        quote = *text++;
    }
    for (; *text && *text != '\n' && *text != quote && n + 1 < size; text++) {
        if (*text == '\\' && quote != '\'' && text[1] && text[1] != '\n') {
            text++;
        }
        out[n++] = *text;
    }
    out[n] = '\0';
    return true;
}

static void fill_os(lima_guest_v1_Info *info)
{
    static const char *const paths[] = {"/etc/os-release", "/usr/lib/os-release"};

    for (size_t i = 0; i < ARRAY_LEN(paths) && !info->os[0]; i++) {
        scoped(free) char *text = files_read(paths[i], OS_RELEASE_MAX, NULL);
        char name[sizeof(info->os) * 2];

        if (text && info_os_release(text, "PRETTY_NAME", name, sizeof(name))) {
            wire_text(info->os, sizeof(info->os), name);
        }
    }
}

static void add_feature(lima_guest_v1_Info *info, const char *name)
{
    if (info->features_count < ARRAY_LEN(info->features)) {
        wire_text(info->features[info->features_count++], sizeof(info->features[0]), name);
    }
}

void info_fill(lima_guest_v1_Info *info, const struct rpc *rpc)
{
    scoped(free) char *boot_id = files_read("/proc/sys/kernel/random/boot_id", 64, NULL);
    struct utsname uts;

    info->protocol = INFO_PROTOCOL;
    wire_text(info->agent_version, sizeof(info->agent_version), LIMA_VERSION);
    if (boot_id) {
        boot_id[strcspn(boot_id, "\n")] = '\0';
        wire_text(info->boot_id, sizeof(info->boot_id), boot_id);
    }
    if (uname(&uts) == 0) {
        wire_text(info->hostname, sizeof(info->hostname), uts.nodename);
        wire_text(info->kernel, sizeof(info->kernel), uts.release);
        wire_text(info->arch, sizeof(info->arch), uts.machine);
    }
    fill_os(info);
    info->uptime_ms = loop_now_us() / 1000;
    for (size_t i = 0; i < ARRAY_LEN(features); i++) {
        add_feature(info, features[i]);
    }
    for (size_t i = 0; rpc_feature(rpc, i); i++) {
        add_feature(info, rpc_feature(rpc, i));
    }
}
