/* SPDX-License-Identifier: Apache-2.0 */
/* Normal trees (see schema.h) into structs. */
#pragma once

#include "config/schema.h"
#include "util/value.h"

/*
 * Fills the struct at @base (zeroed) from @tree (borrowed), which has been filled and validated; a
 * member without a value stays zero, a text becomes "". @arch picks from what is given by
 * architecture.
 */
void config_decode(const struct schema_object *object, jv tree, const char *arch, void *base);
/* Frees what the struct at @base owns by its rows. */
void config_decode_done(const struct schema_object *object, void *base);
