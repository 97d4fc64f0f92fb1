/* SPDX-License-Identifier: Apache-2.0 */
/* How two templates become one, as trees. Pure. */
#pragma once

#include "util/value.h"

/* @top with what it lacks of @base. Consumes both. */
jv template_merge(jv top, jv base);

/*
 * Combines entries of the lists additionalDisks, mounts and networks that mean the same thing: the
 * later one fills what the earlier one lacks and goes away; one called "*" fills all before it.
 * Consumes @tree.
 */
jv template_combine(jv tree);
