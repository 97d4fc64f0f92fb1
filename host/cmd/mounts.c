/* SPDX-License-Identifier: Apache-2.0 */
/* limactl mounts [list] INSTANCE | add INSTANCE HOST[:GUEST] | remove INSTANCE GUEST */
#include "lifecycle/mounts.h"

#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "cmd/cmd.h"
#include "cmd/output.h"
#include "util/path.h"
#include "util/table.h"

/* Borrowed from @mount; "" if it has none. */
static const char *text_of(jv mount, const char *key)
{
    scoped(value_done) jv value = jv_object_get(jv_copy(mount), jv_string(key));

    return jv_get_kind(value) == JV_KIND_STRING ? jv_string_value(value) : "";
}

static bool flag_of(jv mount, const char *key)
{
    scoped(value_done) jv value = jv_object_get(jv_copy(mount), jv_string(key));

    return jv_get_kind(value) == JV_KIND_TRUE;
}

static void print_table(jv mounts)
{
    static const char *const headers[] = {"HOST", "GUEST", "TYPE", "MODE", "STATE", "REASON", NULL};
    scoped(table_free) struct table *table = table_new(headers);

    jv_array_foreach(mounts, i, mount)
    {
        table_row(table, (const char *const[]){
                             text_of(mount, "location"), text_of(mount, "mountPoint"),
                             text_of(mount, "type"), flag_of(mount, "writable") ? "rw" : "ro",
                             text_of(mount, "state"), text_of(mount, "reason"), NULL});
        jv_free(mount);
    }
    table_print(table, stdout);
}

static int run_list(const struct cmd_context *ctx, struct error *err)
{
    scoped(value_done) jv mounts = jv_invalid();
    scoped(buf_done) struct buf out = BUF_INIT;
    int r = lifecycle_mounts_list(ctx->lima_home, ctx->args->items[0], &mounts, err);

    if (r < 0) {
        return r;
    }
    if (!cmd_flags_bool(ctx->flags, "json")) {
        print_table(mounts);
        return 0;
    }
    jv_array_foreach(mounts, i, mount)
    {
        cmd_output_put(mount, CMD_OUTPUT_JSON_LINES, &out);
    }
    fwrite(buf_str(&out), 1, out.len, stdout);
    return 0;
}

/* "HOST[:GUEST]": the guest's path is absolute, so the last ":/" is between them. */
static int parse_spec(const char *spec, jv *ret, struct error *err)
{
    const char *split = NULL;
    scoped(free) char *host = NULL;
    scoped(free) char *location = NULL;
    int r;

    for (const char *at = strstr(spec, ":/"); at; at = strstr(at + 1, ":/")) {
        split = at;
    }
    host = split ? xstrndup(spec, (size_t)(split - spec)) : xstrdup(spec);
    if (!*host) {
        return error_set(err, EINVAL, "'%s' names no folder of the host", spec);
    }
    r = path_expand(host, &location, err);
    if (r < 0) {
        return r;
    }
    *ret = JV_OBJECT(jv_string("location"), jv_string(location));
    if (split) {
        *ret = jv_object_set(*ret, jv_string("mountPoint"), jv_string(split + 1));
    }
    return 0;
}

static int run_add(const struct cmd_context *ctx, struct error *err)
{
    const char *type = cmd_flags_text(ctx->flags, "type");
    const struct lifecycle_mounts_options options = {
        .lima_home = ctx->lima_home,
        .name = ctx->args->items[0],
        .temporary = cmd_flags_bool(ctx->flags, "temporary"),
    };
    jv mount;
    int r = parse_spec(ctx->args->items[1], &mount, err);

    if (r < 0) {
        return r;
    }
    if (cmd_flags_bool(ctx->flags, "writable")) {
        mount = jv_object_set(mount, jv_string("writable"), jv_true());
    }
    if (type && *type) {
        mount = jv_object_set(mount, jv_string("type"), jv_string(type));
    }
    return lifecycle_mounts_add(&options, mount, err);
}

static int run_remove(const struct cmd_context *ctx, struct error *err)
{
    const struct lifecycle_mounts_options options = {
        .lima_home = ctx->lima_home,
        .name = ctx->args->items[0],
        .temporary = cmd_flags_bool(ctx->flags, "temporary"),
        .force = cmd_flags_bool(ctx->flags, "force"),
    };

    return lifecycle_mounts_remove(&options, ctx->args->items[1], err);
}

static const struct cmd_flag list_flags[] = {
    {"json", 0, CMD_FLAG_BOOL, NULL, "One JSON object a mount"},
    {0},
};

static const struct cmd_flag add_flags[] = {
    {"writable", 'w', CMD_FLAG_BOOL, NULL, "Let the guest write"},
    {"type", 0, CMD_FLAG_STRING, NULL,
     "How it is mounted: agent, reverse-sshfs, virtiofs, or 9p (from the next start on)"},
    {"temporary", 0, CMD_FLAG_BOOL, NULL, "Only until the instance stops; leave lima.yaml alone"},
    {0},
};

static const struct cmd_flag remove_flags[] = {
    {"force", 'f', CMD_FLAG_BOOL, NULL, "Also when programs of the guest use it"},
    {"temporary", 0, CMD_FLAG_BOOL, NULL, "Only until the instance stops; leave lima.yaml alone"},
    {0},
};

static const char *const list_aliases[] = {"ls", NULL};
static const char *const remove_aliases[] = {"rm", "delete", NULL};

static const struct cmd mounts_list_cmd = {
    .name = "list",
    .aliases = list_aliases,
    .use = "list INSTANCE",
    .brief = "Show the mounts",
    .help = "Show which folders of the host the guest sees, and where and how.",
    .example = "  limactl mounts list default\n",
    .flags = list_flags,
    .min_args = 1,
    .max_args = 1,
    .run = run_list,
};

static const struct cmd mounts_add_cmd = {
    .name = "add",
    .use = "add INSTANCE HOST[:GUEST]",
    .brief = "Mount another folder of the host",
    .help = "Mount another folder of the host, in a running instance at once, and with every later "
            "start.\nGUEST is the same path if it is not given.",
    .example = "  limactl mounts add default ~/src --writable\n"
               "  limactl mounts add default /data:/mnt/data --temporary\n",
    .flags = add_flags,
    .min_args = 2,
    .max_args = 2,
    .run = run_add,
};

static const struct cmd mounts_remove_cmd = {
    .name = "remove",
    .aliases = remove_aliases,
    .use = "remove INSTANCE GUEST",
    .brief = "Mount a folder no longer",
    .help = "Unmount what is mounted at the path GUEST, in a running instance at once, and for "
            "every later start.",
    .example = "  limactl mounts remove default /mnt/data\n",
    .flags = remove_flags,
    .min_args = 2,
    .max_args = 2,
    .run = run_remove,
};

static const char *const aliases[] = {"mount", NULL};
static const char *const suggest_for[] = {"share", "volume", NULL};
static const struct cmd *const subcommands[] = {&mounts_list_cmd, &mounts_add_cmd,
                                                &mounts_remove_cmd, NULL};

const struct cmd cmd_mounts = {
    .name = "mounts",
    .aliases = aliases,
    .suggest_for = suggest_for,
    .group = CMD_GROUP_ADVANCED,
    .use = "mounts INSTANCE",
    .brief = "Show and change the mounts of an instance",
    .help = "Show which folders of the host the guest sees, and where and how.",
    .example = "  limactl mounts default\n"
               "  limactl mounts add default ~/src --writable\n"
               "  limactl mounts remove default ~/src\n",
    .flags = list_flags,
    .min_args = 1,
    .max_args = 1,
    .run = run_list,
    .subcommands = subcommands,
};
