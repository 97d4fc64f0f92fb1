/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads JSON that other programs of the guest leave behind, without building anything: a callback
 * gets each scalar with its path.
 */
#pragma once

#include <stddef.h>

#define JSON_DEPTH_MAX 16
#define JSON_PATH_MAX  256
#define JSON_VALUE_MAX 512 /* longer texts are cut */

/*
 * @path joins keys by '.', and array elements are all "[]": "v1.init.errors[]". @value is the text
 * of a string (escapes undone, \u ones as '?'), or the literal: "null", "true", "12.5". It is NULL
 * where an element of an array begins that is an object, before its members come.
 */
typedef void json_fn(const char *path, const char *value, void *arg);

/* 0, or -EBADMSG when @text is no JSON or nests too deep; callbacks may have come before. */
int json_scan(const char *text, json_fn *fn, void *arg);
