/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command is one const entry: how it is called, what its help says, its flags, and the function
 * that runs it. cmd/commands.c lists them; cmd/run.c parses and dispatches.
 */
#pragma once

#include "base/error.h"
#include "cmd/flags.h"

enum cmd_group {
    CMD_GROUP_BASIC,
    CMD_GROUP_ADVANCED,
    CMD_GROUP_HIDDEN,
};

/* Which of the configuration flags (config/flags.h) a command takes besides its own. */
enum cmd_config_flags {
    CMD_CONFIG_NONE,
    CMD_CONFIG_EDIT,
    CMD_CONFIG_CREATE,
};

/* What a command gets. All borrowed. */
struct cmd_context {
    const struct cmd *cmd;
    const struct cmd_flags *flags;
    const struct strv *args; /* positional arguments */
    const char *lima_home;   /* absolute; may not exist yet */
    bool tty;                /* menus and questions are allowed */
};

struct cmd {
    const char *name;
    const char *const *aliases;     /* NULL-terminated, or NULL */
    const char *const *suggest_for; /* words that probably meant this one */
    enum cmd_group group;
    const char *use;              /* "start [NAME|FILE.yaml|URL]" */
    const char *brief;            /* one line */
    const char *help;             /* more, or NULL */
    const char *example;          /* indented lines, or NULL */
    const struct cmd_flag *flags; /* ends with a NULL name; or NULL */
    enum cmd_config_flags config_flags;
    const struct cmd_flag *more_flags; /* shown after @flags, before the configuration's; or NULL */
    const char *more_section;          /* heading of both; NULL: with the others */
    int min_args;
    int max_args; /* -1: any number */
    enum cmd_flags_mode mode;
    bool warns_root; /* it makes or starts a machine */
    /* NULL-terminated. With @run too, any other word than theirs is an argument of the command. */
    const struct cmd *const *subcommands;

    /*
     * Returns the exit status (0, or that of a child which spoke for itself), or -errno with @err:
     * that is printed as a fatal message and the status is 1.
     */
    int (*run)(const struct cmd_context *ctx, struct error *err);
};

/* All top-level commands, NULL-terminated. */
extern const struct cmd *const cmd_table[];

extern const struct cmd cmd_create;
extern const struct cmd cmd_delete;
extern const struct cmd cmd_guest_install;
extern const struct cmd cmd_hostagent;
extern const struct cmd cmd_image;
extern const struct cmd cmd_info;
extern const struct cmd cmd_list;
extern const struct cmd cmd_mounts;
extern const struct cmd cmd_ports;
extern const struct cmd cmd_restart;
extern const struct cmd cmd_shell;
extern const struct cmd cmd_start;
extern const struct cmd cmd_stop;
extern const struct cmd cmd_validate;
