/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The input is a YAML text. What must hold: a tree that was loaded is within its limits, reads the
 * same after it was written out, and each edit of the text gives the tree that was asked for; the
 * place of the edit comes from a checksum of the input.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "fuzz.h"
#include "util/value.h"
#include "util/yaml.h"

/* Trees beyond this are only loaded: writing and comparing them takes too long for a fuzzer. */
#define EDIT_BYTES 4096

struct random {
    uint32_t state;
};

static uint32_t next(struct random *random)
{
    random->state = random->state * 1664525u + 1013904223u;
    return random->state >> 8;
}

static void check_same(const char *text, size_t len, jv want)
{
    scoped(value_done) jv got = jv_invalid();
    int r = yaml_load("again", text, len, &got, NULL, NULL);

    CHECK(r == 0 || r == -E2BIG);
    CHECK(r < 0 || jv_equal(jv_copy(got), jv_copy(want)));
}

static void check_dump(jv tree)
{
    scoped(buf_done) struct buf out = BUF_INIT;

    yaml_dump(jv_copy(tree), &out);
    check_same(out.data, out.len, tree);
}

/* Every node of the tree has a node of positions of the same shape. */
static void check_lines(jv tree, const struct value_lines *lines)
{
    CHECK(lines && value_lines_pos(lines).line > 0);
    if (jv_get_kind(tree) == JV_KIND_OBJECT) {
        jv_object_foreach(tree, key, value)
        {
            check_lines(value, value_lines_child(lines, jv_string_value(key)));
            jv_free(key);
            jv_free(value);
        }
    } else if (jv_get_kind(tree) == JV_KIND_ARRAY) {
        jv_array_foreach(tree, i, item)
        {
            check_lines(item, value_lines_item(lines, (size_t)i));
            jv_free(item);
        }
    } else {
        scoped(free) char *text = value_text(tree, lines);

        CHECK((jv_get_kind(tree) == JV_KIND_NULL) == !text);
    }
}

/* A path into the tree, sometimes to a key or item that is not there. */
static jv pick_path(jv tree, struct random *random)
{
    scoped(value_done) jv at = jv_copy(tree);
    jv path = jv_array();

    while (next(random) % 4) {
        jv step;

        if (jv_get_kind(at) == JV_KIND_OBJECT) {
            scoped(value_done) jv keys = jv_keys(jv_copy(at));
            int len = jv_array_length(jv_copy(keys));

            step = len && next(random) % 8
                       ? jv_array_get(jv_copy(keys), (int)(next(random) % (uint32_t)len))
                       : jv_string("new key");
        } else if (jv_get_kind(at) == JV_KIND_ARRAY) {
            step = jv_number(next(random) % (uint32_t)(jv_array_length(jv_copy(at)) + 1));
        } else {
            break;
        }
        path = jv_array_append(path, jv_copy(step));
        at = jv_get(at, step);
    }
    return path;
}

static jv pick_value(struct random *random)
{
    static const char *const values[] = {
        "1",
        "\"text\"",
        "\"a: b # c\"",
        "null",
        "[]",
        "{}",
        "[1, {\"a\": []}]",
        "{\"k\": \"v\", \"l\": [2]}",
        "\"two\\nlines\"",
        "\"#!/bin/sh\\necho\\n\", ",
        "\" x\\n\\n\"",
        "true",
    };
    jv value = jv_parse(values[next(random) % ARRAY_LEN(values)]);

    if (jv_is_valid(value)) {
        return value;
    }
    jv_free(value);
    return jv_string("");
}

static void check_edits(const char *text, jv tree, struct random *random)
{
    for (int i = 0; i < 4; i++) {
        scoped(value_done) jv path = pick_path(tree, random);
        scoped(value_done) jv value = next(random) % 4 ? pick_value(random) : jv_invalid();
        scoped(free) char *name = value_path_format(jv_copy(path));
        scoped(free) char *edited = NULL;
        scoped(value_done) jv want =
            jv_is_valid(value)
                ? jv_setpath(jv_copy(tree), jv_copy(path), jv_copy(value))
                : jv_delpaths(jv_copy(tree), jv_array_append(jv_array(), jv_copy(path)));
        int r = yaml_edit(text, name, jv_copy(value), &edited, NULL);

        CHECK(r == 0 || !jv_is_valid(want) || r == -E2BIG);
        if (r == 0) {
            check_same(edited, strlen(edited), want);
        }
        if (jv_get_kind(tree) == JV_KIND_ARRAY) {
            scoped(free) char *longer = NULL;

            CHECK(yaml_insert(text, ".",
                              next(random) % (uint32_t)(jv_array_length(jv_copy(tree)) + 1),
                              pick_value(random), &longer, NULL) != -EINVAL);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    scoped(value_lines_free) struct value_lines *lines = NULL;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(value_done) jv tree = jv_invalid();
    struct random random = {0};
    int r = yaml_load("input", (const char *)data, len, &tree, &lines, &err);

    CHECK(r == 0 || r == -EINVAL || r == -E2BIG);
    if (r < 0) {
        CHECK(strstr(error_text(&err), "input:"));
        return 0;
    }
    for (size_t i = 0; i < len; i++) {
        random.state = (random.state ^ data[i]) * 16777619u;
    }
    if (jv_get_kind(tree) != JV_KIND_NULL) {
        check_lines(tree, lines);
    }
    if (len > EDIT_BYTES) {
        return 0;
    }
    check_dump(tree);
    if (!memchr(data, 0, len)) {
        scoped(free) char *text = xstrndup((const char *)data, len);

        check_edits(text, tree, &random);
    }
    return 0;
}
