/* SPDX-License-Identifier: Apache-2.0 */
/* limactl ports INSTANCE | add INSTANCE SPEC... | remove INSTANCE SPEC... */
#include "lifecycle/ports.h"

#include <ctype.h>
#include <stdio.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "cmd/output.h"
#include "util/table.h"
#include "util/tmpl.h"

/* --- show --- */

/* The members of an entry (see agent/ports.h): all that a template may name. */
static const char *const members[] = {
    "guestAddr", "hostAddr", "protocol",  "state",   "reason",   "origin",
    "rule",      "static",   "temporary", "reverse", "remapped", "connections",
};

/* Borrowed from @port; "" if it has none. */
static const char *text_of(jv port, const char *key)
{
    scoped(value_done) jv value = jv_object_get(jv_copy(port), jv_string(key));

    return jv_get_kind(value) == JV_KIND_STRING ? jv_string_value(value) : "";
}

static void print_table(jv ports)
{
    static const char *const headers[] = {"GUEST", "HOST", "PROTO", "STATE", "REASON", NULL};
    scoped(table_free) struct table *table = table_new(headers);

    jv_array_foreach(ports, i, port)
    {
        table_row(table,
                  (const char *const[]){text_of(port, "guestAddr"), text_of(port, "hostAddr"),
                                        text_of(port, "protocol"), text_of(port, "state"),
                                        text_of(port, "reason"), NULL});
        jv_free(port);
    }
    table_print(table, stdout);
}

/* With Go's names and every member; consumes @port. */
static jv go_port(jv port)
{
    jv go = jv_object();

    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        scoped(free) char *name = xstrdup(members[i]);
        jv value = jv_object_get(jv_copy(port), jv_string(members[i]));

        *name = (char)toupper((unsigned char)*name);
        if (!jv_is_valid(value)) {
            bool flag = i >= 7 && i <= 10;

            jv_free(value);
            value = flag ? jv_false() : jv_string("");
        }
        go = jv_object_set(go, jv_string(name), value);
    }
    jv_free(port);
    return go;
}

static int put_template(jv port, const char *template, struct buf *out, struct error *err)
{
    scoped(free) char *text = NULL;
    int r = tmpl_expand(template, go_port(port), true, &text, err);

    if (r == 0) {
        buf_printf(out, "%s\n", text);
    }
    return r;
}

static int print_each(jv ports, const char *format, struct error *err)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    int r = 0;

    jv_array_foreach(ports, i, port)
    {
        if (r < 0) {
            jv_free(port);
        } else if (str_eq(format, "json")) {
            cmd_output_put(port, CMD_OUTPUT_JSON_LINES, &out);
        } else if (str_eq(format, "yaml")) {
            cmd_output_put(port, CMD_OUTPUT_YAML, &out);
        } else {
            r = put_template(port, format, &out, err);
        }
    }
    if (r == 0) {
        fwrite(buf_str(&out), 1, out.len, stdout);
    }
    return r;
}

static int run_show(const struct cmd_context *ctx, struct error *err)
{
    const char *format = cmd_flags_text(ctx->flags, "format");
    scoped(value_done) jv ports = jv_invalid();
    int r;

    if (cmd_flags_bool(ctx->flags, "json")) {
        if (cmd_flags_given(ctx->flags, "format")) {
            return error_set(err, EINVAL, "option --json conflicts with option --format");
        }
        format = "json";
    }
    r = lifecycle_ports_list(ctx->lima_home, ctx->args->items[0], &ports, err);
    if (r < 0) {
        return r;
    }
    if (str_eq(format, "table")) {
        print_table(ports);
        return 0;
    }
    return print_each(ports, format, err);
}

/* --- change --- */

/* What became of the rules that were added, where it is not what was asked for. */
static void warn_added(jv ports)
{
    if (!jv_is_valid(ports)) {
        return;
    }
    jv_array_foreach(ports, i, port)
    {
        scoped(value_done) jv remapped = jv_object_get(jv_copy(port), jv_string("remapped"));
        bool works = str_eq(text_of(port, "state"), "forwarding");

        if (str_eq(text_of(port, "rule"), "added") &&
            (!works || jv_get_kind(remapped) == JV_KIND_TRUE)) {
            log_warn("%s of the guest, %s on the host: %s (%s); ignoring",
                     text_of(port, "guestAddr"), text_of(port, "hostAddr"), text_of(port, "state"),
                     text_of(port, "reason"));
        }
        jv_free(port);
    }
}

static struct strv specs_of(const struct cmd_context *ctx)
{
    struct strv specs = STRV_INIT;

    for (size_t i = 1; i < ctx->args->len; i++) {
        strv_add(&specs, ctx->args->items[i]);
    }
    return specs;
}

static int run_add(const struct cmd_context *ctx, struct error *err)
{
    scoped(strv_done) struct strv specs = specs_of(ctx);
    scoped(value_done) jv ports = jv_invalid();
    scoped(value_done) jv extra =
        JV_OBJECT(jv_string("onConflict"), jv_string(cmd_flags_text(ctx->flags, "on-conflict")));
    struct lifecycle_ports_options options = {
        .lima_home = ctx->lima_home,
        .name = ctx->args->items[0],
        .specs = &specs,
        .temporary = cmd_flags_bool(ctx->flags, "temporary"),
    };
    int r;

    if (cmd_flags_bool(ctx->flags, "reverse")) {
        extra = jv_object_set(extra, jv_string("reverse"), jv_true());
    } else {
        extra = jv_object_set(extra, jv_string("proto"), jv_string("tcp"));
    }
    if (cmd_flags_bool(ctx->flags, "static")) {
        extra = jv_object_set(extra, jv_string("static"), jv_true());
    }
    options.extra = extra;
    r = lifecycle_ports_add(&options, &ports, err);
    if (r == 0) {
        warn_added(ports);
    }
    return r;
}

static int run_remove(const struct cmd_context *ctx, struct error *err)
{
    scoped(strv_done) struct strv specs = specs_of(ctx);
    scoped(value_done) jv extra = jv_object();
    struct lifecycle_ports_options options = {
        .lima_home = ctx->lima_home,
        .name = ctx->args->items[0],
        .specs = &specs,
        .temporary = cmd_flags_bool(ctx->flags, "temporary"),
    };

    if (cmd_flags_bool(ctx->flags, "reverse")) {
        extra = jv_object_set(extra, jv_string("reverse"), jv_true());
    }
    options.extra = extra;
    return lifecycle_ports_remove(&options, err);
}

#define SPEC_HELP                                                                                  \
    "A SPEC is [HOSTIP:]HOSTPORT:[GUESTIP:]GUESTPORT[/udp], or PORT for the same port on both\n"   \
    "sides; FIRST-LAST may stand for a port, [ADDRESS] for an IPv6 address, and the path of a\n"   \
    "socket for address and port: /HOST.SOCK:/GUEST.SOCK."

static const struct cmd_flag add_flags[] = {
    {"on-conflict", 0, CMD_FLAG_STRING, "fail",
     "What to do when the host's address is taken: fail, skip (and retry), or remap to another "
     "port"},
    {"reverse", 0, CMD_FLAG_BOOL, NULL, "From a socket of the guest to one of the host"},
    {"static", 0, CMD_FLAG_BOOL, "true",
     "Listen at once; with --static=false only while something listens in the guest"},
    {"temporary", 0, CMD_FLAG_BOOL, NULL, "Only until the instance stops; leave lima.yaml alone"},
    {0},
};

static const struct cmd ports_add_cmd = {
    .name = "add",
    .use = "add INSTANCE SPEC...",
    .brief = "Forward more ports",
    .help = "Forward more ports, of a running instance at once, and with every later "
            "start.\n\n" SPEC_HELP,
    .example = "  limactl ports add default 8080:80\n"
               "  limactl ports add default 0.0.0.0:5353:53/udp 9000-9009 --temporary\n",
    .flags = add_flags,
    .min_args = 2,
    .max_args = -1,
    .run = run_add,
};

static const struct cmd_flag remove_flags[] = {
    {"reverse", 0, CMD_FLAG_BOOL, NULL, "A forward from a socket of the guest to one of the host"},
    {"temporary", 0, CMD_FLAG_BOOL, NULL, "Only until the instance stops; leave lima.yaml alone"},
    {0},
};

static const char *const remove_aliases[] = {"rm", "delete", NULL};

static const struct cmd ports_remove_cmd = {
    .name = "remove",
    .aliases = remove_aliases,
    .use = "remove INSTANCE SPEC...",
    .brief = "Forward some ports no longer",
    .help =
        "Remove forwards that have a rule of their own, of a running instance at once, and "
        "from its\nlima.yaml. A SPEC without a protocol is that of a rule with any.\n\n" SPEC_HELP,
    .example = "  limactl ports remove default 8080:80\n",
    .flags = remove_flags,
    .min_args = 2,
    .max_args = -1,
    .run = run_remove,
};

static const struct cmd_flag show_flags[] = {
    {"format", 'f', CMD_FLAG_STRING, "table",
     "Output format, one of: json, yaml, table, or a Go template"},
    {"json", 0, CMD_FLAG_BOOL, NULL, "Same as --format=json"},
    {0},
};

static const char *const aliases[] = {"port", NULL};
static const char *const suggest_for[] = {"forward", "port-forward", "publish", NULL};
static const struct cmd *const subcommands[] = {&ports_add_cmd, &ports_remove_cmd, NULL};

const struct cmd cmd_ports = {
    .name = "ports",
    .aliases = aliases,
    .suggest_for = suggest_for,
    .group = CMD_GROUP_ADVANCED,
    .use = "ports INSTANCE",
    .brief = "Show and change the port forwards of an instance",
    .help = "Show what listens in a running instance and where on the host it is reached, or why "
            "not.",
    .example = "  limactl ports default\n"
               "  limactl ports default --format '{{.GuestAddr}} {{.HostAddr}} {{.State}}'\n"
               "  limactl ports add default 8080:80\n"
               "  limactl ports remove default 8080:80\n",
    .flags = show_flags,
    .min_args = 1,
    .max_args = 1,
    .run = run_show,
    .subcommands = subcommands,
};
