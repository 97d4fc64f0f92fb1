/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From what a user calls a template to its text: "template:NAME", a file, "file:///...", http(s)
 * URL, "-" for stdin, or the location of an image, for which a template is made up.
 * cli.md 4.1, 4.3, 4.6. Bases are inlined by embed.h.
 */
#pragma once

#include "base/error.h"
#include "util/strv.h"

#define TEMPLATE_MAX_BYTES (4u << 20)

struct template
{
    char *text;
    char *name;   /* of an instance made from it; "" if the locator gives none that is allowed */
    char *source; /* what it is called in messages: the resolved locator or path */
    struct strv warnings; /* what the user should be told; grows */
};

#define TEMPLATE_INIT ((struct template){0})

void template_done(struct template *template);
SCOPED_VAL(struct template, template_done)

/*
 * Reads @locator into @ret, which is TEMPLATE_INIT. Errors: ENOENT (the message names the places
 * searched), EFBIG, EINVAL, and network ones.
 */
int template_locate(const char *lima_home, const char *locator, struct template *ret,
                    struct error *err);

/*
 * The locator that @relative means in the template @source (as in struct template): URLs,
 * "template:..." and absolute paths stay, "~/" is expanded, others are beside @source. Caller
 * frees. Errors: EINVAL (empty, "../", relative from stdin).
 */
int template_resolve(const char *source, const char *relative, char **ret, struct error *err);

/*
 * Names of all templates in the search path ($LIMA_TEMPLATES_PATH, or _templates and the installed
 * ones), byte order, each once. Errors: I/O.
 */
int template_names(const char *lima_home, struct strv *ret, struct error *err);
/* File of template @name in the search path. Caller frees. Errors: ENOENT, EINVAL (".." in it). */
int template_find(const char *lima_home, const char *name, char **ret_path, struct error *err);
