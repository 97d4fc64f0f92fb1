/* SPDX-License-Identifier: Apache-2.0 */
/* Parse trees of tmpl.h; for tmpl.c alone. */
#pragma once

#include <stdbool.h>
#include "base/error.h"
#include "base/macros.h"
#include "util/value.h"

enum tmpl_kind {
    /* statements */
    TMPL_TEXT,  /* text */
    TMPL_PRINT, /* args[0] */
    TMPL_SET,   /* text = variable, args[0]; declare or assign */
    TMPL_IF,    /* args[0], body, other */
    TMPL_WITH,
    TMPL_RANGE, /* variable for the value in text, for the key in text2; each may be NULL */
    /* expressions */
    TMPL_PIPE,     /* args: commands; each gets the result of the one before as last argument */
    TMPL_CALL,     /* text = function, args */
    TMPL_VALUE,    /* a single operand as command: args[0] */
    TMPL_LITERAL,  /* value */
    TMPL_DOT,      /* "." */
    TMPL_VARIABLE, /* text, "" for "$" */
    TMPL_FIELD,    /* args[0], text = name */
};

struct tmpl_node {
    enum tmpl_kind kind;
    int line, column;
    bool declares;
    char *text;
    char *text2;
    jv value;
    struct tmpl_node **args;
    size_t arg_count, arg_cap;
    struct tmpl_list *body;
    struct tmpl_list *other;
};

struct tmpl_list {
    struct tmpl_node **items;
    size_t len, cap;
};

int tmpl_parse(const char *text, struct tmpl_list **ret, struct error *err);
void tmpl_list_free(struct tmpl_list *list);
SCOPED_PTR(struct tmpl_list, tmpl_list_free)
void tmpl_node_free(struct tmpl_node *node);
SCOPED_PTR(struct tmpl_node, tmpl_node_free)
