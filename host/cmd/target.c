/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/target.h"

#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "cmd/configure.h"
#include "config/edit.h"
#include "driver/driver.h"
#include "instance/layout.h"
#include "instance/store.h"
#include "lifecycle/create.h"
#include "lifecycle/edit.h"
#include "template/embed.h"
#include "template/locate.h"
#include "util/file.h"
#include "util/path.h"
#include "util/units.h"
#include "util/yaml.h"

const struct cmd_flag cmd_create_flags[] = {
    {"list-drivers", 0, CMD_FLAG_BOOL, NULL, "List the available drivers and exit"},
    {"list-templates", 0, CMD_FLAG_BOOL, NULL, "List the available templates and exit"},
    {"name", 0, CMD_FLAG_STRING, NULL, "Override the instance `name`"},
    {0},
};

int cmd_target_lists(const struct cmd_context *ctx, struct error *err)
{
    scoped(strv_done) struct strv names = STRV_INIT;
    const struct driver_ops *ops;
    int r;

    if (cmd_flags_bool(ctx->flags, "list-templates")) {
        r = template_names(ctx->lima_home, &names, err);
        for (size_t i = 0; r == 0 && i < names.len; i++) {
            if (!strchr("_", *path_base(names.items[i])) && names.items[i][0] != '_') {
                puts(names.items[i]);
            }
        }
        return r < 0 ? r : 1;
    }
    if (cmd_flags_bool(ctx->flags, "list-drivers")) {
        r = driver_find("qemu", &ops, err);
        if (r == 0) {
            puts(ops->name);
        }
        return r < 0 ? r : 1;
    }
    return 0;
}

/* Template @locator with the flags applied becomes instance @name, or the one that the locator
 * suggests. */
static int create(const struct cmd_context *ctx, const char *locator, const char *name,
                  char **ret_name, struct error *err)
{
    scoped(template_done) struct template template = TEMPLATE_INIT;
    scoped(strv_done) struct strv expressions = STRV_INIT;
    scoped(free) char *text = NULL;
    struct lifecycle_create_options options;
    int r = template_locate(ctx->lima_home, locator, &template, err);

    if (r == 0) {
        r = template_embed(ctx->lima_home, &template, err);
    }
    for (size_t i = 0; i < template.warnings.len; i++) {
        log_warn("%s", template.warnings.items[i]);
    }
    if (r < 0) {
        return r;
    }
    name = name ? name : template.name;
    if (!*str_or_empty(name)) {
        error_set(err, EINVAL, "template '%s' suggests no name for the instance", locator);
        return error_hint(err, "give one with --name"), -EINVAL;
    }
    r = cmd_config_expressions(ctx->flags, template.text, true, &expressions, err);
    if (r == 0) {
        r = config_edit(template.text, &expressions, &text, err);
    }
    if (r < 0) {
        return r;
    }
    options = (struct lifecycle_create_options){
        .lima_home = ctx->lima_home, .name = name, .text = text, .source = template.source};
    r = lifecycle_create(&options, err);
    if (r == 0) {
        *ret_name = xstrdup(name);
    }
    return r;
}

static int check_stdin(const struct cmd_context *ctx, const char *name, struct error *err)
{
    if (!name) {
        return error_set(err, EINVAL,
                         "must pass instance name with --name when reading template "
                         "from stdin");
    }
    if (cmd_flags_given(ctx->flags, "tty") && ctx->tty) {
        return error_set(err, EINVAL, "cannot use --tty=true when reading template from stdin");
    }
    return 0;
}

/* No argument, or the name of an instance. */
static int target_name(const struct cmd_context *ctx, const char *arg, const char *name, bool reuse,
                       char **ret_name, bool *ret_exists, struct error *err)
{
    if (arg && name && !str_eq(arg, name)) {
        return error_set(err, EINVAL,
                         "instance name `%s` and CLI flag --name=`%s` cannot be specified together",
                         arg, name);
    }
    name = name ? name : arg ? arg : "default";
    if (instance_exists(ctx->lima_home, name)) {
        if (!reuse) {
            return error_set(err, EEXIST, "instance `%s` already exists", name);
        }
        *ret_exists = true;
        *ret_name = xstrdup(name);
        return 0;
    }
    if (arg && !str_eq(arg, "default")) {
        log_warn("This form is deprecated. Use `limactl %s --name=%s template:default` instead, "
                 "ignoring it this time",
                 reuse ? "start" : "create", arg);
    }
    return create(ctx, "template:default", name, ret_name, err);
}

int cmd_target(const struct cmd_context *ctx, bool reuse, char **ret_name, bool *ret_exists,
               struct error *err)
{
    const char *arg = ctx->args->len ? ctx->args->items[0] : NULL;
    const char *name = cmd_flags_text(ctx->flags, "name");
    int r;

    *ret_exists = false;
    if (name) {
        r = instance_check_name(ctx->lima_home, name, err);
        if (r < 0) {
            return r;
        }
    }
    if (!arg || instance_name_ok(arg)) {
        return target_name(ctx, arg, name, reuse, ret_name, ret_exists, err);
    }
    if (str_eq(arg, "-")) {
        r = check_stdin(ctx, name, err);
        if (r < 0) {
            return r;
        }
    }
    if (name && instance_exists(ctx->lima_home, name)) {
        return error_set(err, EEXIST, "instance `%s` already exists", name);
    }
    return create(ctx, arg, name, ret_name, err);
}

int cmd_target_check(const struct cmd_context *ctx, const char *name, char **ret_text,
                     struct error *err)
{
    scoped(free) char *path = path_join(ctx->lima_home, name, LAYOUT_CONFIG);
    scoped(buf_done) struct buf text = BUF_INIT;
    scoped(strv_done) struct strv expressions = STRV_INIT;
    int r;

    *ret_text = NULL;
    if (!cmd_config_given(ctx->flags)) {
        return 0;
    }
    r = file_read(path, YAML_MAX_BYTES, &text, err);
    if (r < 0) {
        return r;
    }
    r = cmd_config_expressions(ctx->flags, buf_str(&text), false, &expressions, err);
    if (r < 0 || expressions.len == 0) {
        return r;
    }
    return lifecycle_edit_check(ctx->lima_home, name, &expressions, ret_text, err);
}

int cmd_target_apply(const struct cmd_context *ctx, const char *name, struct error *err)
{
    scoped(free) char *text = NULL;
    int r = cmd_target_check(ctx, name, &text, err);

    return r < 0 || !text ? r : lifecycle_edit_save(ctx->lima_home, name, text, err);
}
