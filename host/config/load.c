/* SPDX-License-Identifier: Apache-2.0 */
#include "config/load.h"

#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "config/decode.h"
#include "config/defaults.h"
#include "config/expand.h"
#include "config/merge.h"
#include "config/mounts.h"
#include "config/normalize.h"
#include "config/validate.h"
#include "util/file.h"
#include "util/path.h"
#include "util/yaml.h"

/* One file: its tree as read, and normal. */
struct layer {
    char *name;
    jv raw;
    jv tree;
    struct value_lines *lines;
};

#define LAYER_INIT ((struct layer){.raw = jv_null(), .tree = jv_object()})

static void layer_done(struct layer *layer)
{
    free(layer->name);
    jv_free(layer->raw);
    jv_free(layer->tree);
    value_lines_free(layer->lines);
}

static struct config_source layer_source(const struct layer *layer, bool own)
{
    return (struct config_source){.name = layer->name, .lines = layer->lines, .own = own};
}

/* A syntax error is returned; everything else goes to the report. */
static int layer_parse(struct layer *layer, const char *name, const char *text, size_t len,
                       bool own, struct config_report *report, struct error *err)
{
    struct config_source source;
    jv raw;
    int r;

    layer->name = xstrdup(name);
    r = yaml_load(name, text, len, &raw, &layer->lines, err);
    if (r < 0) {
        return r;
    }
    jv_free(layer->raw);
    layer->raw = raw;
    source = layer_source(layer, own);
    jv_free(layer->tree);
    layer->tree = config_normalize(&schema_root, jv_copy(raw), &source, report);
    return 0;
}

/* _config/@file of the Lima home, if it is there. */
static int layer_read(struct layer *layer, const char *lima_home, const char *file,
                      struct config_report *report, struct error *err)
{
    scoped(free) char *path = path_join(lima_home, "_config", file);
    scoped(buf_done) struct buf text = BUF_INIT;
    int r;

    if (!file_exists(path)) {
        return 0;
    }
    r = file_read(path, CONFIG_MAX_BYTES, &text, err);
    if (r < 0) {
        return error_wrap(err, r, "reading '%s'", path);
    }
    return layer_parse(layer, path, buf_str(&text), text.len, false, report, err);
}

/* Entries of modes that are not honoured have been validated and warned of; drop them. */
static jv drop_later_provision(jv tree)
{
    jv list = jv_object_get(jv_copy(tree), jv_string("provision"));
    jv kept = jv_array();

    if (jv_get_kind(list) == JV_KIND_ARRAY) {
        jv_array_foreach(list, i, item)
        {
            scoped(value_done) jv mode = jv_object_get(jv_copy(item), jv_string("mode"));
            int index = schema_name_index(schema_provision_modes, jv_string_value(mode));

            if (index <= CONFIG_PROVISION_BOOT) {
                kept = jv_array_append(kept, item);
            } else {
                jv_free(item);
            }
        }
    }
    jv_free(list);
    return jv_object_set(tree, jv_string("provision"), kept);
}

static struct config *decode(jv tree, const struct config_context *context)
{
    struct config *config = xnew(struct config);
    scoped(value_done) jv arch = jv_object_get(jv_copy(tree), jv_string("arch"));

    config->instance = xstrdup(context->instance);
    config->dir = xstrdup(context->dir);
    config_decode(&schema_root, tree, jv_string_value(arch), config);
    return config;
}

static void hand_warnings(const struct config_report *report,
                          const struct config_load_options *options)
{
    if (options->warnings) {
        strv_extend(options->warnings, &report->warnings);
        return;
    }
    for (size_t i = 0; options->warn && i < report->warnings.len; i++) {
        log_warn("%s", report->warnings.items[i]);
    }
}

/* The layers, highest first. */
enum {
    LAYER_ABOVE,
    LAYER_OWN,
    LAYER_BELOW,
    LAYER_COUNT,
};

struct layers {
    struct layer items[LAYER_COUNT];
};

static void layers_done(struct layers *layers)
{
    for (size_t i = 0; i < LAYER_COUNT; i++) {
        layer_done(&layers->items[i]);
    }
}
SCOPED_VAL(struct layers, layers_done)

/* @list with those of @layer (borrowed) behind. */
static jv add_mounts(jv list, jv layer)
{
    jv own = jv_get_kind(layer) == JV_KIND_OBJECT
                 ? jv_object_get(jv_copy(layer), jv_string("mounts"))
                 : jv_invalid();

    if (jv_get_kind(own) != JV_KIND_ARRAY) {
        jv_free(own);
        return list;
    }
    return jv_array_concat(list, own);
}

/* They depend on what is expanded, so they are filled last. Plain mode has none. */
static jv combine_mounts(jv tree, const struct config_context *context)
{
    jv list = jv_object_get(jv_copy(tree), jv_string("mounts"));
    scoped(value_done) jv plain = jv_object_get(jv_copy(tree), jv_string("plain"));

    if (jv_get_kind(plain) == JV_KIND_TRUE) {
        jv_free(list);
        list = jv_array();
    }
    list = config_mounts_combine(list, context);
    return jv_array_length(jv_copy(list)) > 0
               ? jv_object_set(tree, jv_string("mounts"), list)
               : (jv_free(list), jv_object_delete(tree, jv_string("mounts")));
}

/* From checked layers to the struct. */
static int build(const struct layers *layers, struct config_context *context, struct config **ret,
                 struct error *err)
{
    struct config_source sources[LAYER_COUNT];
    scoped(value_done) jv tree = jv_object();
    jv mounts = jv_array();
    int r;

    for (int i = LAYER_COUNT - 1; i >= 0; i--) {
        jv layer = jv_copy(layers->items[i].tree);

        sources[i] = layer_source(&layers->items[i], i == LAYER_OWN);
        mounts = add_mounts(mounts, layer);
        layer = jv_object_delete(layer, jv_string("mounts"));
        tree = config_merge(&schema_root, layer, tree);
    }
    context->sources = sources;
    context->source_count = LAYER_COUNT;

    config_validate_params(layers->items[LAYER_OWN].raw, &sources[LAYER_OWN], context);
    tree = config_fill(tree, context);
    tree = config_expand(jv_object_set(tree, jv_string("mounts"), mounts), context);
    tree = combine_mounts(tree, context);
    config_validate(tree, context);
    r = config_report_result(context->report, err);
    if (r < 0) {
        return r;
    }
    tree = drop_later_provision(tree);
    *ret = decode(tree, context);
    return 0;
}

static int load(const char *name, const char *text, size_t len,
                const struct config_load_options *options, struct config_report *report,
                struct config **ret, struct error *err)
{
    scoped(layers_done) struct layers layers = {{LAYER_INIT, LAYER_INIT, LAYER_INIT}};
    scoped(free) char *dir = path_join(options->lima_home, options->instance);
    struct config_context context = {
        .lima_home = options->lima_home,
        .instance = options->instance,
        .dir = dir,
        .created_by = options->created_by,
        .report = report,
    };
    int r;

    r = layer_parse(&layers.items[LAYER_OWN], name, text, len, true, report, err);
    if (r >= 0 && !options->alone) {
        r = layer_read(&layers.items[LAYER_BELOW], options->lima_home, "default.yaml", report, err);
    }
    if (r >= 0 && !options->alone) {
        r = layer_read(&layers.items[LAYER_ABOVE], options->lima_home, "override.yaml", report,
                       err);
    }
    return r < 0 ? r : build(&layers, &context, ret, err);
}

static int load_and_warn(const char *name, const char *text, size_t len,
                         const struct config_load_options *options, struct config **ret,
                         struct error *err)
{
    scoped(config_report_done) struct config_report report = CONFIG_REPORT_INIT;
    int r = load(name, text, len, options, &report, ret, err);

    hand_warnings(&report, options);
    return r;
}

int config_load_text(const char *name, const char *text, const struct config_load_options *options,
                     struct config **ret, struct error *err)
{
    return load_and_warn(name, text, strlen(text), options, ret, err);
}

int config_load(const char *path, const struct config_load_options *options, struct config **ret,
                struct error *err)
{
    scoped(buf_done) struct buf text = BUF_INIT;
    int r = file_read(path, CONFIG_MAX_BYTES, &text, err);

    if (r < 0) {
        return error_wrap(err, r, "reading '%s'", path);
    }
    return load_and_warn(path, buf_str(&text), text.len, options, ret, err);
}

void config_free(struct config *config)
{
    if (!config) {
        return;
    }
    config_decode_done(&schema_root, config);
    free(config->instance);
    free(config->dir);
    free(config);
}
