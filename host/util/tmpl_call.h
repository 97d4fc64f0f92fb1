/* SPDX-License-Identifier: Apache-2.0 */
/* Values and functions of tmpl.h; for tmpl.c and tmpl_parse.c alone. */
#pragma once

#include <stdbool.h>
#include "base/buf.h"
#include "util/value.h"

/* A field that is not there is an invalid jv: false, and "<no value>" when printed. Borrows. */
bool tmpl_is_true(jv value);
/* As Go prints it with %v. Consumes @value. */
void tmpl_print(struct buf *out, jv value);

/* True when @name is a function. */
bool tmpl_is_function(const char *name);
/* Calls function @name, which exists; borrows the arguments. Errors: EINVAL. */
int tmpl_call(const char *name, const jv *args, size_t count, jv *ret, struct error *err);
