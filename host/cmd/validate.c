/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include "base/alloc.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/output.h"
#include "config/load.h"
#include "lifecycle/check.h"
#include "template/embed.h"
#include "template/locate.h"
#include "util/yaml.h"

/* With several templates each document is framed. */
static void print_filled(const struct config *config, bool framed)
{
    scoped(buf_done) struct buf out = BUF_INIT;

    buf_puts(&out, framed ? "---\n" : "");
    yaml_dump(config_dump(config), &out);
    buf_puts(&out, framed ? "...\n" : "");
    fputs(buf_str(&out), stdout);
}

static int validate(const struct cmd_context *ctx, const char *locator, struct error *err)
{
    scoped(template_done) struct template template = TEMPLATE_INIT;
    scoped(config_free) struct config *config = NULL;
    struct config_load_options options = {.lima_home = ctx->lima_home, .warn = true};
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
    options.instance = *str_or_empty(template.name) ? template.name : "validate";
    r = config_load_text(template.source, template.text, &options, &config, err);
    if (r == 0) {
        r = lifecycle_check_driver(config, err);
    }
    if (r < 0) {
        return error_wrap(err, r, "failed to validate `%s`", locator);
    }
    log_info("`%s`: OK", locator);
    if (cmd_flags_bool(ctx->flags, "fill")) {
        print_filled(config, ctx->args->len > 1);
    }
    return 0;
}

static int run(const struct cmd_context *ctx, struct error *err)
{
    for (size_t i = 0; i < ctx->args->len; i++) {
        int r = validate(ctx, ctx->args->items[i], err);

        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static const struct cmd_flag flags[] = {
    {"fill", 0, CMD_FLAG_BOOL, NULL, "Print the configuration with all defaults filled in"},
    {0},
};

const struct cmd cmd_validate = {
    .name = "validate",
    .group = CMD_GROUP_ADVANCED,
    .use = "validate TEMPLATE [TEMPLATE, ...]",
    .brief = "Validate YAML templates",
    .help = "Check templates by all rules; errors say file, line and column.",
    .flags = flags,
    .min_args = 1,
    .max_args = -1,
    .run = run,
};
