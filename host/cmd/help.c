/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "cmd/run.h"

static const char root_help[] = "Lima: Linux virtual machines";

static const char root_example[] = "  Start the default instance:\n"
                                   "  $ limactl start\n"
                                   "\n"
                                   "  Open a shell:\n"
                                   "  $ lima\n"
                                   "\n"
                                   "  Run a program in the guest:\n"
                                   "  $ lima uname -a\n"
                                   "\n"
                                   "  Stop the default instance:\n"
                                   "  $ limactl stop\n";

static const struct {
    enum cmd_group group;
    const char *title;
} groups[] = {
    {CMD_GROUP_BASIC, "Basic Commands"},
    {CMD_GROUP_ADVANCED, "Advanced Commands"},
};

char *cmd_use_line(const struct cmd *parent, const struct cmd *cmd)
{
    const char *end = cmd->subcommands && !cmd->run ? " [command]"
                      : strstr(cmd->use, "[flags]") ? ""
                                                    : " [flags]";

    return xasprintf("limactl %s%s%s%s", parent ? parent->name : "", parent ? " " : "", cmd->use,
                     end);
}

/* Of the column of names: the longest command and some air. */
#define NAME_WIDTH ((int)sizeof("guest-install") + 1)

static void put_list(struct buf *out, const char *title, const struct cmd *const *table,
                     enum cmd_group group)
{
    bool any = false;

    for (; *table; table++) {
        if ((*table)->group != group) {
            continue;
        }
        if (!any) {
            buf_printf(out, "\n%s:\n", title);
            any = true;
        }
        buf_printf(out, "  %-*s%s\n", NAME_WIDTH, (*table)->name, (*table)->brief);
    }
}

static void put_aliases(struct buf *out, const struct cmd *cmd)
{
    if (!cmd->aliases) {
        return;
    }
    buf_printf(out, "\nAliases:\n  %s", cmd->name);
    for (const char *const *a = cmd->aliases; *a; a++) {
        buf_printf(out, ", %s", *a);
    }
    buf_putc(out, '\n');
}

static void put_root(struct buf *out)
{
    buf_printf(out, "%s\n\nUsage:\n  limactl [command]\n\nExamples:\n%s", root_help, root_example);
    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        put_list(out, groups[i].title, cmd_table, groups[i].group);
    }
    buf_printf(out, "\nAdditional Commands:\n  %-*s%s\n", NAME_WIDTH, "help",
               "Help about any command");
}

static void put_command(struct buf *out, const struct cmd *parent, const struct cmd *cmd)
{
    scoped(free) char *use = cmd_use_line(parent, cmd);

    buf_printf(out, "%s\n", cmd->help ? cmd->help : cmd->brief);
    buf_printf(out, "\nUsage:\n  %s\n", use);
    put_aliases(out, cmd);
    if (cmd->example) {
        buf_printf(out, "\nExamples:\n%s", cmd->example);
        if (!str_ends(cmd->example, "\n")) {
            buf_putc(out, '\n');
        }
    }
    if (cmd->subcommands) {
        put_list(out, "Available Commands", cmd->subcommands, CMD_GROUP_BASIC);
        put_list(out, "Advanced Commands", cmd->subcommands, CMD_GROUP_ADVANCED);
    }
}

char *cmd_help(const struct cmd *parent, const struct cmd *cmd)
{
    scoped(cmd_flags_free) struct cmd_flags *flags = cmd_flags_of(cmd);
    struct buf out = BUF_INIT;

    if (cmd) {
        put_command(&out, parent, cmd);
    } else {
        put_root(&out);
    }
    cmd_flags_help(flags, &out);
    if (!cmd) {
        buf_puts(&out,
                 "\nUse \"limactl [command] --help\" for more information about a command.\n");
    } else if (cmd->subcommands) {
        buf_printf(&out,
                   "\nUse \"limactl %s [command] --help\" for more information about a command.\n",
                   cmd->name);
    }
    return buf_steal(&out);
}
