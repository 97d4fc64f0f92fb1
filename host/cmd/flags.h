/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command line flags, GNU style: --name value, --name=value, -n value, -nvalue, bundled shorthands,
 * flags and positional arguments in any order, "--" ends the flags. Flags are tables; a set takes
 * any number of them and holds what was given. Values are checked against their type while parsing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "util/strv.h"

enum cmd_flag_type {
    CMD_FLAG_BOOL, /* --x, --x=false; never takes the next word */
    CMD_FLAG_STRING,
    CMD_FLAG_INT,  /* decimal, 0x, 0o or 0b */
    CMD_FLAG_PORT, /* 0..65535 */
    CMD_FLAG_FLOAT,
    CMD_FLAG_DURATION, /* 10m0s */
    CMD_FLAG_LIST,     /* repeated or separated by commas */
    CMD_FLAG_ARRAY,    /* repeated, each taken whole */
};

struct cmd_flag {
    const char *name;
    char shorthand; /* 0: none */
    enum cmd_flag_type type;
    const char *value; /* default, NULL: none */
    const char *help;  /* a word in backquotes names the value */
    bool hidden;
};

struct cmd_flags;

struct cmd_flags *cmd_flags_new(void);
void cmd_flags_free(struct cmd_flags *flags);
SCOPED_PTR(struct cmd_flags, cmd_flags_free)

/*
 * Adds a table that ends with a NULL name; it is copied, its strings are not. Sections appear so in
 * the help; a table with the section of the one before joins it.
 */
void cmd_flags_add(struct cmd_flags *flags, const char *section, const struct cmd_flag *table);

enum cmd_flags_mode {
    CMD_FLAGS_INTERLEAVED, /* flags and arguments in any order */
    CMD_FLAGS_STOP_AT_ARG, /* the first argument and all behind it are taken as they are */
    CMD_FLAGS_BEFORE_ARG,  /* reading stops in front of the first argument */
};

/*
 * Reads @words from @first on; positional arguments are appended to @ret_args.
 * Returns the index of the first word that was not read.
 * Errors: EINVAL ("unknown flag: --x", "flag needs an argument: --x", "invalid argument ...").
 */
int cmd_flags_parse(struct cmd_flags *flags, const struct strv *words, size_t first,
                    enum cmd_flags_mode mode, struct strv *ret_args, struct error *err);

/* Asking for a flag that no table has is a programmer's error. */
bool cmd_flags_has(const struct cmd_flags *flags, const char *name);
bool cmd_flags_given(const struct cmd_flags *flags, const char *name);
bool cmd_flags_bool(const struct cmd_flags *flags, const char *name);
/* The last value given, else the default, else NULL. Borrowed. */
const char *cmd_flags_text(const struct cmd_flags *flags, const char *name);
int64_t cmd_flags_int(const struct cmd_flags *flags, const char *name);
int64_t cmd_flags_duration_ms(const struct cmd_flags *flags, const char *name);
/* All values in the order given; of a list also split. Borrowed. */
const struct strv *cmd_flags_list(const struct cmd_flags *flags, const char *name);

/* Appends the help of every section but the hidden flags. */
struct buf;
void cmd_flags_help(const struct cmd_flags *flags, struct buf *out);
