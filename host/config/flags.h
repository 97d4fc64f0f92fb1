/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration flags that create, start, edit, restart and clone share (--cpus, --mount, --set
 * ...) as one table, and their translation to expressions for config_edit(). The command line
 * registers its flags from the table, hands back those that were given, and applies what it gets.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "util/strv.h"
#include "util/value.h"

enum config_flag_type {
    CONFIG_FLAG_BOOL, /* "true" or "false" */
    CONFIG_FLAG_STRING,
    CONFIG_FLAG_INT,
    CONFIG_FLAG_PORT, /* 0..65535 */
    CONFIG_FLAG_FLOAT,
    CONFIG_FLAG_LIST,  /* repeated or separated by commas; values arrive split */
    CONFIG_FLAG_ARRAY, /* repeated, each taken whole */
};

struct config_flag {
    const char *name; /* NULL ends the table */
    enum config_flag_type type;
    const char *help; /* a word in backquotes names the value */
    bool new_only;    /* acts on new instances only: elsewhere skipped with a warning */
    bool create_only; /* offered by create and start only */
};

/* Ends with a NULL name. In the order in which the expressions are applied. */
extern const struct config_flag config_flags[];

/* One flag that was given, with all its values in order. */
struct config_flag_given {
    const char *name;
    const struct strv *values;
};

struct config_flag_options {
    bool is_new; /* the instance does not exist yet */
    jv template; /* the tree of the text that will be edited, borrowed; --param and the variants
                    look */
};

/*
 * Appends the expressions of @given (any order, no duplicates, each name from the table, at least
 * one value) to @ret_expressions, and what the user should be told (experimental, skipped, side
 * effects) to
 * @ret_warnings.
 * Errors: EINVAL, "error while processing flag `NAME`: ...".
 */
int config_flags_expressions(const struct config_flag_given *given, size_t count,
                             const struct config_flag_options *options,
                             struct strv *ret_expressions, struct strv *ret_warnings,
                             struct error *err);
