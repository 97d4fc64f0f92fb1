/* SPDX-License-Identifier: Apache-2.0 */
/* The difference of two trees as edits of the text that the first one was read from. */
#include <string.h>
#include "base/alloc.h"
#include "util/yaml.h"

struct writer {
    char *text;
    struct error *err;
};

/* Replaces the text by @take_text, which an edit that returned @r made of it. */
static int advance(struct writer *w, int r, char *take_text)
{
    if (r == 0) {
        free(w->text);
        w->text = take_text;
    }
    return r;
}

/* An invalid @value deletes. Borrows @path. */
static int write_value(struct writer *w, jv path, jv value)
{
    scoped(free) char *name = value_path_format(jv_copy(path));
    char *text = NULL;
    int r = yaml_edit(w->text, name, value, &text, w->err);

    return advance(w, r, text);
}

static int write_item(struct writer *w, jv path, int index, jv value)
{
    scoped(free) char *name = value_path_format(jv_copy(path));
    char *text = NULL;
    int r = yaml_insert(w->text, name, (size_t)index, value, &text, w->err);

    return advance(w, r, text);
}

static jv below(jv path, jv step)
{
    return jv_array_append(jv_copy(path), step);
}

static int write_difference(struct writer *w, jv path, jv old, jv new);

static int remove_keys(struct writer *w, jv path, jv old, jv new)
{
    int r = 0;

    jv_object_keys_foreach(old, key)
    {
        if (r == 0 && !jv_object_has(jv_copy(new), jv_copy(key))) {
            scoped(value_done) jv at = below(path, jv_copy(key));

            r = write_value(w, at, jv_invalid());
        }
        jv_free(key);
    }
    return r;
}

/* Changed and new keys, then removed ones: a map never becomes empty on the way. */
static int write_map(struct writer *w, jv path, jv old, jv new)
{
    int r = 0;

    jv_object_foreach(new, key, value)
    {
        scoped(value_done) jv at = below(path, jv_copy(key));

        if (r == 0 && jv_object_has(jv_copy(old), jv_copy(key))) {
            scoped(value_done) jv before = jv_object_get(jv_copy(old), jv_copy(key));

            r = write_difference(w, at, before, value);
        } else if (r == 0) {
            r = write_value(w, at, jv_copy(value));
        }
        jv_free(key);
        jv_free(value);
    }
    return r == 0 ? remove_keys(w, path, old, new) : r;
}

static bool equal_items(jv a, int i, jv b, int j)
{
    return jv_equal(jv_array_get(jv_copy(a), i), jv_array_get(jv_copy(b), j));
}

/* True when @small is @big with some items left out; @ret_kept tells for each of @big. */
static bool is_subsequence(jv small, jv big, bool *ret_kept)
{
    int small_len = jv_array_length(jv_copy(small)), big_len = jv_array_length(jv_copy(big));
    int i = 0;

    for (int j = 0; j < big_len; j++) {
        ret_kept[j] = i < small_len && equal_items(small, i, big, j);
        i += ret_kept[j];
    }
    return i == small_len;
}

static int remove_items(struct writer *w, jv path, int len, const bool *kept)
{
    int r = 0;

    for (int i = len - 1; r == 0 && i >= 0; i--) {
        if (!kept[i]) {
            scoped(value_done) jv at = below(path, jv_number(i));

            r = write_value(w, at, jv_invalid());
        }
    }
    return r;
}

static int add_items(struct writer *w, jv path, jv new, const bool *kept)
{
    int len = jv_array_length(jv_copy(new));
    int r = 0;

    for (int i = 0; r == 0 && i < len; i++) {
        if (!kept[i]) {
            r = write_item(w, path, i, jv_array_get(jv_copy(new), i));
        }
    }
    return r;
}

/* Item by item, then what one list has more than the other. */
static int write_items(struct writer *w, jv path, jv old, jv new)
{
    int old_len = jv_array_length(jv_copy(old)), new_len = jv_array_length(jv_copy(new));
    int r = 0;

    for (int i = 0; r == 0 && i < MAX(old_len, new_len); i++) {
        /* surplus items of the old list go from the end, so that no index moves */
        int at = i < new_len ? i : old_len - 1 - (i - new_len);
        scoped(value_done) jv step = below(path, jv_number(at));
        scoped(value_done) jv before = jv_array_get(jv_copy(old), at);

        if (i >= new_len) {
            r = write_value(w, step, jv_invalid());
        } else if (i < old_len) {
            scoped(value_done) jv after = jv_array_get(jv_copy(new), i);

            r = write_difference(w, step, before, after);
        } else {
            r = write_item(w, path, i, jv_array_get(jv_copy(new), i));
        }
    }
    return r;
}

static int write_list(struct writer *w, jv path, jv old, jv new)
{
    int old_len = jv_array_length(jv_copy(old)), new_len = jv_array_length(jv_copy(new));
    scoped(free) bool *kept = xcalloc((size_t)MAX(old_len, new_len) + 1, sizeof(bool));

    if (!new_len) {
        return write_value(w, path, jv_copy(new));
    }
    if (is_subsequence(new, old, kept)) {
        return remove_items(w, path, old_len, kept);
    }
    if (is_subsequence(old, new, kept)) {
        return add_items(w, path, new, kept);
    }
    return write_items(w, path, old, new);
}

/* All borrowed. */
static int write_difference(struct writer *w, jv path, jv old, jv new)
{
    jv_kind kind = jv_get_kind(new);

    if (jv_equal(jv_copy(old), jv_copy(new))) {
        return 0;
    }
    if (kind == jv_get_kind(old) && kind == JV_KIND_OBJECT) {
        return write_map(w, path, old, new);
    }
    if (kind == jv_get_kind(old) && kind == JV_KIND_ARRAY) {
        return write_list(w, path, old, new);
    }
    return write_value(w, path, jv_copy(new));
}

int yaml_update(const char *text, jv tree, char **ret_text, struct error *err)
{
    scoped(value_done) jv old = jv_invalid();
    scoped(value_done) jv root = jv_array();
    struct writer w = {.err = err};
    int r = yaml_load("lima.yaml", text, strlen(text), &old, NULL, err);

    if (r < 0) {
        return r;
    }
    w.text = xstrdup(text);
    r = write_difference(&w, root, old, tree);
    if (r < 0) {
        free(w.text);
        return error_wrap(err, r, "writing the changed configuration");
    }
    *ret_text = w.text;
    return 0;
}
