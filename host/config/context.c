/* SPDX-License-Identifier: Apache-2.0 */
#include "config/context.h"

#include "base/alloc.h"

char *config_context_place(const struct config_context *context, const char *path)
{
    scoped(free) char *dotted = xasprintf(".%s", path);
    const char *name = "";

    for (size_t i = 0; i < context->source_count; i++) {
        const struct config_source *source = &context->sources[i];
        const struct value_lines *at = value_lines_at(source->lines, dotted);

        if (at) {
            return config_report_place(source->name, value_lines_pos(at));
        }
        if (source->own) {
            name = source->name;
        }
    }
    return xstrdup(name);
}

char *config_hostname(const char *instance)
{
    char *name = xasprintf("lima-%s", instance);

    for (char *p = name; *p; p++) {
        if (*p == '.' || *p == '_') {
            *p = '-';
        }
    }
    return name;
}
