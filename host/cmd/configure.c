/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/configure.h"

#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "config/flags.h"
#include "instance/layout.h"
#include "util/yaml.h"

static const enum cmd_flag_type flag_types[] = {
    [CONFIG_FLAG_BOOL] = CMD_FLAG_BOOL,   [CONFIG_FLAG_STRING] = CMD_FLAG_STRING,
    [CONFIG_FLAG_INT] = CMD_FLAG_INT,     [CONFIG_FLAG_PORT] = CMD_FLAG_PORT,
    [CONFIG_FLAG_FLOAT] = CMD_FLAG_FLOAT, [CONFIG_FLAG_LIST] = CMD_FLAG_LIST,
    [CONFIG_FLAG_ARRAY] = CMD_FLAG_ARRAY,
};

void cmd_config_add(struct cmd_flags *flags, const char *section, enum cmd_config_flags which)
{
    for (const struct config_flag *f = config_flags; which != CMD_CONFIG_NONE && f->name; f++) {
        struct cmd_flag one[] = {
            {.name = f->name, .type = flag_types[f->type], .help = f->help},
            {0},
        };

        if (!f->create_only || which == CMD_CONFIG_CREATE) {
            cmd_flags_add(flags, section, one);
        }
    }
}

static size_t collect_given(const struct cmd_flags *flags, struct config_flag_given **ret)
{
    struct config_flag_given *given = NULL;
    size_t len = 0, cap = 0;

    for (const struct config_flag *f = config_flags; f->name; f++) {
        if (cmd_flags_has(flags, f->name) && cmd_flags_list(flags, f->name)->len > 0) {
            array_reserve(given, cap, len + 1);
            given[len++] = (struct config_flag_given){f->name, cmd_flags_list(flags, f->name)};
        }
    }
    *ret = given;
    return len;
}

bool cmd_config_given(const struct cmd_flags *flags)
{
    scoped(free) struct config_flag_given *given = NULL;

    return collect_given(flags, &given) > 0;
}

int cmd_config_expressions(const struct cmd_flags *flags, const char *text, bool is_new,
                           struct strv *ret, struct error *err)
{
    scoped(free) struct config_flag_given *given = NULL;
    size_t count = collect_given(flags, &given);
    struct config_flag_options options = {.is_new = is_new};
    scoped(strv_done) struct strv warnings = STRV_INIT;
    scoped(value_done) jv tree = jv_invalid();
    int r;

    if (count == 0) {
        return 0;
    }
    r = yaml_load(LAYOUT_CONFIG, text, strlen(text), &tree, NULL, err);
    if (r < 0) {
        return r;
    }
    options.template = tree;
    r = config_flags_expressions(given, count, &options, ret, &warnings, err);
    for (size_t i = 0; r == 0 && i < warnings.len; i++) {
        log_warn("%s", warnings.items[i]);
    }
    return r;
}
