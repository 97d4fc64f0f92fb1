/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/output.h"

#include "base/alloc.h"
#include "util/term.h"
#include "util/yaml.h"

#define INDENT 4

static void put_json(jv value, int flags, struct buf *out)
{
    jv text = jv_dump_string(value, flags);

    buf_puts(out, jv_string_value(text));
    buf_putc(out, '\n');
    jv_free(text);
}

void cmd_output_put(jv value, enum cmd_output form, struct buf *out)
{
    bool tty = term_stdout_is_tty();

    if (form == CMD_OUTPUT_YAML) {
        buf_puts(out, "---\n");
        yaml_dump(value, out);
    } else if (form == CMD_OUTPUT_JSON || tty) {
        put_json(value,
                 JV_PRINT_PRETTY | JV_PRINT_INDENT_FLAGS(INDENT) | (tty ? JV_PRINT_COLOR : 0), out);
    } else {
        scoped(free) char *text = value_to_json(value, false);

        buf_printf(out, "%s\n", text);
    }
}

int cmd_output_query(jv value, const char *query, enum cmd_output form, struct buf *out,
                     struct error *err)
{
    jv results;
    int r;

    if (!query) {
        cmd_output_put(value, form, out);
        return 0;
    }
    r = value_query(value, query, &results, err);
    if (r < 0) {
        return r;
    }
    jv_array_foreach(results, i, item)
    {
        if (jv_get_kind(item) == JV_KIND_STRING) {
            buf_printf(out, "%s\n", jv_string_value(item));
            jv_free(item);
        } else {
            cmd_output_put(item, form, out);
        }
    }
    jv_free(results);
    return 0;
}
