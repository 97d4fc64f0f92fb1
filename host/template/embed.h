/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Templates made of several: the `base` templates of one are merged into it, and script files are
 * put in place of their names, so that what is stored depends on nothing else. config.md 5.1.
 */
#pragma once

#include "base/error.h"
#include "template/locate.h"

/*
 * Merges all bases of @template, and first of all $LIMA_HOME/_config/base.yaml if it exists, and
 * inlines provision[].file and probes[].file. Comments and layout of the template's own text stay;
 * a text without bases and files stays as it is. A base that is reached twice counts once. Errors:
 * EINVAL (not YAML, loops, digests), ELOOP (a base of itself), and those of template_locate().
 */
int template_embed(const char *lima_home, struct template *template, struct error *err);
