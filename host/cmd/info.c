/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "cmd/cmd.h"
#include "cmd/output.h"
#include "config/load.h"
#include "driver/driver.h"
#include "instance/instance.h"
#include "instance/layout.h"
#include "instance/store.h"
#include "template/locate.h"
#include "util/file.h"
#include "util/sys.h"
#include "util/version.h"

static int get_templates(const struct cmd_context *ctx, jv *ret, struct error *err)
{
    scoped(strv_done) struct strv names = STRV_INIT;
    jv list;
    int r = template_names(ctx->lima_home, &names, err);

    if (r < 0) {
        return r;
    }
    list = jv_array();
    for (size_t i = 0; i < names.len; i++) {
        scoped(free) char *path = NULL;

        if (template_find(ctx->lima_home, names.items[i], &path, NULL) == 0) {
            list = jv_array_append(list, JV_OBJECT(jv_string("name"), jv_string(names.items[i]),
                                                   jv_string("location"), jv_string(path)));
        }
    }
    *ret = list;
    return 0;
}

/* With its defaults filled in; null when it cannot be loaded. */
static int get_default(const struct cmd_context *ctx, jv *ret, struct error *err)
{
    scoped(template_done) struct template template = TEMPLATE_INIT;
    scoped(config_free) struct config *config = NULL;
    struct config_load_options options = {.lima_home = ctx->lima_home, .instance = "default"};
    int r = template_locate(ctx->lima_home, "template:default", &template, err);

    if (r == 0) {
        r = config_load_text(template.source, template.text, &options, &config, err);
    }
    if (r == 0) {
        *ret = config_dump(config);
    }
    return r;
}

static jv get_drivers(void)
{
    const struct driver_ops *ops;
    jv drivers = jv_object();

    if (driver_find("qemu", &ops, NULL) == 0) {
        drivers = jv_object_set(drivers, jv_string(ops->name),
                                JV_OBJECT(jv_string("location"), jv_string("internal")));
    }
    return drivers;
}

static jv get_agents(void)
{
    static const char *const archs[] = {"x86_64",  "aarch64", "armv7l",
                                        "ppc64le", "riscv64", "s390x"};
    jv agents = jv_object();

    for (size_t i = 0; i < ARRAY_LEN(archs); i++) {
        scoped(free) char *name = xasprintf("lima-guestagent.Linux-%s", archs[i]);
        scoped(free) char *path = path_share(name);

        if (file_exists(path)) {
            agents = jv_object_set(agents, jv_string(archs[i]),
                                   JV_OBJECT(jv_string("location"), jv_string(path)));
        }
    }
    return agents;
}

/* What the agents of the running guests say. An instance that cannot be opened is none. */
static int get_guests(const struct cmd_context *ctx, jv *ret, struct error *err)
{
    scoped(strv_done) struct strv names = STRV_INIT;
    scoped(free) struct instance_opened *opened = NULL;
    jv guests = jv_object();
    int r = instance_names(ctx->lima_home, &names, err);

    if (r < 0) {
        jv_free(guests);
        return r;
    }
    opened = xnew_n(struct instance_opened, names.len + 1);
    instance_open_all(ctx->lima_home, &names, true, opened);
    for (size_t i = 0; i < names.len; i++) {
        if (opened[i].inst && jv_is_valid(opened[i].inst->guest)) {
            guests =
                jv_object_set(guests, jv_string(names.items[i]), jv_copy(opened[i].inst->guest));
        }
        instance_free(opened[i].inst);
        error_done(&opened[i].err);
    }
    *ret = guests;
    return 0;
}

static void set(jv *info, const char *key, jv value)
{
    *info = jv_object_set(*info, jv_string(key), value);
}

static int get_info(const struct cmd_context *ctx, jv *ret, struct error *err)
{
    scoped(free) char *identity = path_join(ctx->lima_home, LAYOUT_CONFIG_DIR, "user");
    scoped(free) char *share = path_share("");
    scoped(value_done) jv templates = jv_invalid();
    scoped(value_done) jv def = jv_invalid();
    scoped(value_done) jv guests = jv_invalid();
    jv drivers = get_drivers();
    jv info = jv_object();
    int r = get_templates(ctx, &templates, err);

    if (r == 0) {
        r = get_default(ctx, &def, err);
    }
    if (r == 0) {
        r = get_guests(ctx, &guests, err);
    }
    if (r < 0) {
        jv_free(drivers);
        jv_free(info);
        return r;
    }
    set(&info, "version", jv_string(LIMA_VERSION));
    set(&info, "templates", jv_copy(templates));
    set(&info, "defaultTemplate", jv_copy(def));
    set(&info, "limaHome", jv_string(ctx->lima_home));
    set(&info, "vmTypes", jv_keys(jv_copy(drivers)));
    set(&info, "vmTypesEx", drivers);
    set(&info, "guestAgents", get_agents());
    set(&info, "hostOS", jv_string("linux"));
    set(&info, "hostArch", jv_string(sys_arch()));
    set(&info, "identityFile", jv_string(identity));
    set(&info, "sharePaths", JV_ARRAY(jv_string(share)));
    set(&info, "guests", jv_copy(guests));
    *ret = info;
    return 0;
}

static int run(const struct cmd_context *ctx, struct error *err)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    jv info;
    int r = get_info(ctx, &info, err);

    if (r < 0) {
        return r;
    }
    r = cmd_output_query(info, cmd_flags_text(ctx->flags, "yq"), CMD_OUTPUT_JSON, &out, err);
    if (r == 0) {
        fputs(buf_str(&out), stdout);
    }
    return r;
}

static const struct cmd_flag flags[] = {
    {"yq", 0, CMD_FLAG_STRING, NULL, "Apply an `expression` to the output"},
    {0},
};

const struct cmd cmd_info = {
    .name = "info",
    .group = CMD_GROUP_ADVANCED,
    .use = "info",
    .brief = "Show diagnostic information",
    .help = "Show what this installation has and where, as JSON, and under \"guests\" how each "
            "running\n"
            "guest does whose agent speaks.",
    .flags = flags,
    .run = run,
};
