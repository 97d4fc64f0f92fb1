/* SPDX-License-Identifier: Apache-2.0 */
/* limactl image build|list|delete: the images that are made on this machine. */
#include <stdio.h>
#include <time.h>
#include "base/alloc.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "image/build.h"
#include "util/table.h"
#include "util/units.h"

static const struct cmd_flag build_flags[] = {
    {.name = "mirror",
     .type = CMD_FLAG_STRING,
     .help =
         "`URL` of the package archive (default: the one that apt uses here, else mmdebstrap's)"},
    {.name = "security-mirror",
     .type = CMD_FLAG_STRING,
     .help = "`URL` of the archive of security updates"},
    {.name = "package",
     .type = CMD_FLAG_LIST,
     .help = "More `NAMES` of the distribution's packages for the image"},
    {.name = "no-cache",
     .type = CMD_FLAG_BOOL,
     .help = "Download all packages again, and keep none for the next build"},
    {0},
};

static const struct cmd_flag list_flags[] = {
    {.name = "quiet", .shorthand = 'q', .type = CMD_FLAG_BOOL, .help = "Only show names"},
    {0},
};

static int run_build(const struct cmd_context *ctx, struct error *err)
{
    const struct image_build_options options = {
        .mirror = cmd_flags_text(ctx->flags, "mirror"),
        .security = cmd_flags_text(ctx->flags, "security-mirror"),
        .packages = cmd_flags_list(ctx->flags, "package"),
        .no_cache = cmd_flags_bool(ctx->flags, "no-cache"),
    };
    int r = 0;

    for (size_t i = 0; r == 0 && i < ctx->args->len; i++) {
        r = image_build(ctx->args->items[i], ctx->lima_home, &options, err);
    }
    return r;
}

static void add_row(struct table *table, const char *name, const char *size, time_t built)
{
    char when[sizeof("2000-01-01 00:00")] = "";
    struct tm tm;

    if (built && localtime_r(&built, &tm)) {
        strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &tm);
    }
    table_row(table, (const char *const[]){name, size, when, NULL});
}

static int run_list(const struct cmd_context *ctx, struct error *err)
{
    static const char *const headers[] = {"NAME", "SIZE", "BUILT", NULL};
    scoped(image_list_done) struct image_list list = {0};
    scoped(table_free) struct table *table = table_new(headers);
    int r = image_list_load(ctx->lima_home, &list, err);

    if (r < 0) {
        return r;
    }
    for (size_t i = 0; i < list.len; i++) {
        scoped(free) char *size = size_format(list.items[i].bytes);

        if (cmd_flags_bool(ctx->flags, "quiet")) {
            puts(list.items[i].name);
        }
        add_row(table, list.items[i].name, size, list.items[i].built);
    }
    if (list.len == 0) {
        log_warn("no image has been built. Run `limactl image build NAME` to build one.");
    } else if (!cmd_flags_bool(ctx->flags, "quiet")) {
        table_print(table, stdout);
    }
    return 0;
}

static int run_delete(const struct cmd_context *ctx, struct error *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < ctx->args->len; i++) {
        r = image_delete(ctx->args->items[i], ctx->lima_home, err);
        if (r == 0) {
            log_info("deleted image '%s'", ctx->args->items[i]);
        }
    }
    return r;
}

static const struct cmd image_build_cmd = {
    .name = "build",
    .use = "build NAME...",
    .brief = "Build an image from a distribution's packages",
    .help = "Builds a bootable image from signed packages, with mmdebstrap. Names: debian-12, "
            "debian-13.\nIn a template, `location: image:NAME` uses it.\n"
            "Needs root, or a user namespace with a range of ids (/etc/subuid).",
    .example = "  limactl image build debian-12\n"
               "  limactl image build debian-12 --package git,make,gcc",
    .flags = build_flags,
    .min_args = 1,
    .max_args = -1,
    .run = run_build,
};

static const char *const list_aliases[] = {"ls", NULL};

static const struct cmd image_list_cmd = {
    .name = "list",
    .aliases = list_aliases,
    .use = "list",
    .brief = "List the images built here",
    .flags = list_flags,
    .run = run_list,
};

static const char *const delete_aliases[] = {"remove", "rm", NULL};

static const struct cmd image_delete_cmd = {
    .name = "delete",
    .aliases = delete_aliases,
    .use = "delete NAME...",
    .brief = "Delete images built here; instances made from them stay",
    .min_args = 1,
    .max_args = -1,
    .run = run_delete,
};

static const struct cmd *const subcommands[] = {
    &image_build_cmd,
    &image_list_cmd,
    &image_delete_cmd,
    NULL,
};

const struct cmd cmd_image = {
    .name = "image",
    .group = CMD_GROUP_ADVANCED,
    .use = "image",
    .brief = "Build and manage images on this machine",
    .subcommands = subcommands,
};
