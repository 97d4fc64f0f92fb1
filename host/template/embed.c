/* SPDX-License-Identifier: Apache-2.0 */
#include "template/embed.h"

#include <string.h>
#include "base/alloc.h"
#include "template/combine.h"
#include "util/file.h"
#include "util/path.h"
#include "util/yaml.h"

#define MAX_DEPTH 32

struct embed {
    const char *lima_home;
    struct strv *warnings;
    struct strv open; /* templates that are being embedded, outermost first */
    struct strv done; /* bases that were merged somewhere */
    struct error *err;
};

/* "X" or {url: X}; *ret is the absolute locator. Borrows @reference. */
static int resolve(const struct embed *e, const char *source, jv reference, const char *what,
                   char **ret)
{
    scoped(value_done) jv url = jv_copy(reference);

    if (jv_get_kind(reference) == JV_KIND_OBJECT) {
        scoped(value_done) jv digest = jv_object_get(jv_copy(reference), jv_string("digest"));

        jv_free(url);
        url = jv_object_get(jv_copy(reference), jv_string("url"));
        if (jv_get_kind(digest) == JV_KIND_STRING && *jv_string_value(digest)) {
            return error_set(e->err, EINVAL,
                             "template '%s': the digest of a %s cannot be checked yet", source,
                             what);
        }
    }
    if (jv_get_kind(url) != JV_KIND_STRING) {
        return error_set(e->err, EINVAL, "template '%s': a %s has to be a text or {url: TEXT}",
                         source, what);
    }
    return template_resolve(source, jv_string_value(url), ret, e->err);
}

/* ---- script files ---- */

/* The key that takes the content of a provision entry's file. */
static const char *target_key(jv entry)
{
    static const struct {
        const char *mode, *key;
    } targets[] = {{"data", "content"}, {"yq", "expression"}};
    scoped(value_done) jv mode = jv_object_get(jv_copy(entry), jv_string("mode"));

    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        if (jv_get_kind(mode) == JV_KIND_STRING &&
            strcmp(jv_string_value(mode), targets[i].mode) == 0) {
            return targets[i].key;
        }
    }
    return "script";
}

static bool is_text(jv value)
{
    return jv_get_kind(value) == JV_KIND_STRING && *jv_string_value(value);
}

/* Puts the content of `file` where it belongs. Consumes @entry. */
static int inline_entry(struct embed *e, const char *source, jv entry, jv *ret)
{
    scoped(value_done) jv owned = entry;
    scoped(value_done) jv file = jv_object_get(jv_copy(entry), jv_string("file"));
    const char *key = target_key(entry);
    scoped(value_done) jv text = jv_object_get(jv_copy(entry), jv_string(key));
    scoped(template_done) struct template found = TEMPLATE_INIT;
    scoped(free) char *locator = NULL;
    int r;

    if ((!is_text(file) && jv_get_kind(file) != JV_KIND_OBJECT) || is_text(text)) {
        *ret = value_steal(&owned);
        return 0;
    }
    r = resolve(e, source, file, "script file", &locator);
    if (r == 0) {
        r = template_locate(e->lima_home, locator, &found, e->err);
    }
    if (r < 0) {
        return r;
    }
    owned = jv_object_set(value_steal(&owned), jv_string(key), jv_string(found.text));
    *ret = jv_object_delete(value_steal(&owned), jv_string("file"));
    return 0;
}

static int inline_list(struct embed *e, const char *source, const char *name, jv *tree)
{
    scoped(value_done) jv list = jv_object_get(jv_copy(*tree), jv_string(name));
    scoped(value_done) jv out = jv_array();

    if (jv_get_kind(list) != JV_KIND_ARRAY) {
        return 0;
    }
    jv_array_foreach(list, i, entry)
    {
        if (jv_get_kind(entry) == JV_KIND_OBJECT) {
            int r = inline_entry(e, source, entry, &entry);

            if (r < 0) {
                return r;
            }
        }
        out = jv_array_append(out, entry);
    }
    *tree = jv_object_set(*tree, jv_string(name), value_steal(&out));
    return 0;
}

/* ---- bases ---- */

static int embed_tree(struct embed *e, const char *source, const char *text, bool is_root, jv *ret);

static int merge_base(struct embed *e, const char *source, jv reference, jv *tree)
{
    scoped(template_done) struct template found = TEMPLATE_INIT;
    scoped(free) char *locator = NULL;
    jv base;
    int r = resolve(e, source, reference, "base", &locator);

    if (r == 0) {
        r = template_locate(e->lima_home, locator, &found, e->err);
    }
    if (r < 0) {
        return r;
    }
    strv_extend(e->warnings, &found.warnings);
    if (strv_contains(&e->open, found.source)) {
        return error_set(e->err, ELOOP, "template '%s' is a base of itself", found.source);
    }
    if (strv_contains(&e->done, found.source)) {
        return 0;
    }
    r = embed_tree(e, found.source, found.text, false, &base);
    if (r < 0) {
        return error_wrap(e->err, r, "base '%s'", found.source);
    }
    strv_add(&e->done, found.source);
    *tree = template_merge(*tree, base);
    return 0;
}

/* The bases in their order; a single one may stand without a list. */
static jv list_of_bases(const struct embed *e, jv tree, bool is_root)
{
    jv base = jv_object_get(jv_copy(tree), jv_string("base"));
    scoped(free) char *config = path_join(e->lima_home, "_config/base.yaml");
    jv list = jv_array();

    if (is_root && file_exists(config)) {
        list = jv_array_append(list, jv_string(config));
    }
    if (jv_get_kind(base) == JV_KIND_ARRAY) {
        return jv_array_concat(list, base);
    }
    if (jv_is_valid(base) && jv_get_kind(base) != JV_KIND_NULL) {
        return jv_array_append(list, base);
    }
    jv_free(base);
    return list;
}

static int load(struct embed *e, const char *source, const char *text, jv *ret)
{
    jv tree;
    int r = yaml_load(source, text, strlen(text), &tree, NULL, e->err);

    if (r < 0) {
        return r;
    }
    if (jv_get_kind(tree) == JV_KIND_NULL) {
        jv_free(tree);
        tree = jv_object();
    }
    if (jv_get_kind(tree) != JV_KIND_OBJECT) {
        jv_free(tree);
        return error_set(e->err, EINVAL, "template '%s' is not a map", source);
    }
    *ret = tree;
    return 0;
}

static int embed_tree(struct embed *e, const char *source, const char *text, bool is_root, jv *ret)
{
    scoped(value_done) jv tree = jv_invalid();
    scoped(value_done) jv bases = jv_invalid();
    size_t depth = e->open.len;
    int r = load(e, source, text, &tree);

    if (depth >= MAX_DEPTH) {
        return error_set(e->err, ELOOP, "more than %d bases of bases", MAX_DEPTH);
    }
    if (r == 0) {
        r = inline_list(e, source, "provision", &tree);
    }
    if (r == 0) {
        r = inline_list(e, source, "probes", &tree);
    }
    if (r < 0) {
        return r;
    }
    bases = list_of_bases(e, tree, is_root);
    tree = jv_object_delete(value_steal(&tree), jv_string("base"));
    strv_add(&e->open, source);
    jv_array_foreach(bases, i, reference)
    {
        if (r == 0) {
            r = merge_base(e, source, reference, &tree);
        }
        jv_free(reference);
    }
    free(e->open.items[depth]);
    e->open.items[depth] = NULL;
    e->open.len = depth;
    if (r == 0) {
        *ret = value_steal(&tree);
    }
    return r;
}

int template_embed(const char *lima_home, struct template *template, struct error *err)
{
    struct embed e = {.lima_home = lima_home, .warnings = &template->warnings, .err = err};
    scoped(value_done) jv tree = jv_invalid();
    char *text;
    int r = embed_tree(&e, template->source, template->text, true, &tree);

    if (r == 0) {
        tree = template_combine(value_steal(&tree));
    }
    strv_done(&e.open);
    strv_done(&e.done);
    if (r == 0 && jv_object_length(jv_copy(tree)) > 0) {
        r = yaml_update(template->text, tree, &text, err);
        if (r == 0) {
            free(template->text);
            template->text = text;
        }
    }
    return r;
}
