/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of normal trees (see schema.h) into one. */
#pragma once

#include "config/schema.h"
#include "util/value.h"

/*
 * @high over @low, both consumed: scalars of @high win, maps unite, lists of @high come before
 * those of
 * @low. Three layers are two merges.
 */
jv config_merge(const struct schema_object *object, jv high, jv low);
