/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The new text of lima.yaml is made and checked first, then the host agent is asked, and when it
 * has agreed to everything the file is replaced: neither can be left without the other by an error
 * that could be foreseen.
 */
#include "lifecycle/ports.h"

#include <string.h>
#include "api/client.h"
#include "base/alloc.h"
#include "base/log.h"
#include "config/forward.h"
#include "forward/rule.h"
#include "forward/spec.h"
#include "instance/instance.h"
#include "instance/layout.h"
#include "instance/store.h"
#include "lifecycle/edit.h"
#include "lifecycle/lock.h"
#include "util/file.h"
#include "util/yaml.h"

#define RESOURCE   "/v1/ports"
#define TIMEOUT_MS 10000

/* A spec and what it comes to. */
struct wish {
    const char *spec;              /* borrowed */
    jv rule;                       /* as it would stand in the file */
    struct config_port_forward of; /* filled */
    bool live;                     /* the host agent has done it */
};

struct change {
    const struct lifecycle_ports_options *options;
    struct instance *inst;
    int lock;
    struct wish *wishes; /* one a spec */
    jv file;             /* portForwards of lima.yaml, an array */
};

static void change_done(struct change *c)
{
    for (size_t i = 0; c->wishes && i < c->options->specs->len; i++) {
        jv_free(c->wishes[i].rule);
        config_forward_done(&c->wishes[i].of);
    }
    free(c->wishes);
    jv_free(c->file);
    instance_free(c->inst);
    fd_close(c->lock);
}
SCOPED_VAL(struct change, change_done)

static bool runs(const struct change *c)
{
    return c->inst->status == INSTANCE_STATUS_RUNNING;
}

static int not_running(const struct instance *inst, struct error *err)
{
    error_set(err, ESRCH, "instance `%s` is not running, it is `%s`", inst->name,
              instance_status_name(inst->status));
    return error_hint(err, "run `limactl start %s`", inst->name);
}

/* @method with {"rule", "temporary"}; @rule is consumed. */
static int ask(const struct change *c, const char *method, jv rule, jv *ret, struct error *err)
{
    scoped(free) char *path = instance_path(c->inst, LAYOUT_HA_SOCK);
    jv body = JV_OBJECT(jv_string("rule"), rule);
    jv answer;
    int r;

    if (str_eq(method, "POST") && c->options->temporary) {
        body = jv_object_set(body, jv_string("temporary"), jv_true());
    }
    r = api_call(path, method, RESOURCE, body, TIMEOUT_MS, &answer, err);
    if (r == 0) {
        *ret = jv_object_get(answer, jv_string("ports"));
    }
    return r;
}

int lifecycle_ports_list(const char *lima_home, const char *name, jv *ret, struct error *err)
{
    scoped(instance_free) struct instance *inst = NULL;
    scoped(free) char *path = NULL;
    jv answer;
    int r = instance_open(lima_home, name, &inst, err);

    if (r < 0) {
        return r;
    }
    if (inst->status != INSTANCE_STATUS_RUNNING) {
        return not_running(inst, err);
    }
    path = instance_path(inst, LAYOUT_HA_SOCK);
    r = api_get(path, RESOURCE, TIMEOUT_MS, &answer, err);
    if (r == 0) {
        *ret = jv_object_get(answer, jv_string("ports"));
    }
    return r;
}

/* --- the beginning of a change --- */

static int make_wish(struct change *c, size_t i, struct error *err)
{
    struct wish *wish = &c->wishes[i];
    int r;

    wish->spec = c->options->specs->items[i];
    r = forward_spec_parse(wish->spec, &wish->rule, err);
    if (r < 0) {
        return r;
    }
    jv_object_foreach(c->options->extra, key, value)
    {
        if (!jv_object_has(jv_copy(wish->rule), jv_copy(key))) {
            wish->rule = jv_object_set(wish->rule, key, value);
        } else {
            jv_free(key);
            jv_free(value);
        }
    }
    r = config_forward_parse(jv_copy(wish->rule), c->options->lima_home, c->inst->config, &wish->of,
                             err);
    return r < 0 ? error_wrap(err, r, "'%s'", wish->spec) : 0;
}

static int read_file(struct change *c, struct error *err)
{
    scoped(free) char *path = instance_path(c->inst, LAYOUT_CONFIG);
    scoped(buf_done) struct buf text = BUF_INIT;
    jv tree;
    int r = file_read(path, YAML_MAX_BYTES, &text, err);

    if (r == 0) {
        r = yaml_load(LAYOUT_CONFIG, buf_str(&text), text.len, &tree, NULL, err);
    }
    if (r < 0) {
        return r;
    }
    if (jv_get_kind(tree) == JV_KIND_OBJECT) {
        jv list = jv_object_get(tree, jv_string("portForwards"));

        if (jv_get_kind(list) == JV_KIND_ARRAY) {
            jv_free(c->file);
            c->file = list;
        } else {
            jv_free(list);
        }
    } else {
        jv_free(tree);
    }
    return 0;
}

static int begin(struct change *c, struct error *err)
{
    const struct lifecycle_ports_options *options = c->options;
    scoped(free) char *dir = instance_dir(options->lima_home, options->name);
    int r = lifecycle_lock(dir, options->name, &c->lock, err);

    if (r == 0) {
        r = instance_open(options->lima_home, options->name, &c->inst, err);
    }
    if (r < 0) {
        return r;
    }
    if (!c->inst->config) {
        scoped(free) char *text = strv_join(&c->inst->errors, "\n");

        return error_set(err, EINVAL, "instance `%s`: %s", options->name, text);
    }
    if (options->temporary && !runs(c)) {
        return not_running(c->inst, err);
    }
    c->wishes = xnew_n(struct wish, options->specs->len);
    for (size_t i = 0; i < options->specs->len; i++) {
        c->wishes[i].rule = jv_invalid();
    }
    for (size_t i = 0; i < options->specs->len; i++) {
        r = make_wish(c, i, err);
        if (r < 0) {
            return r;
        }
    }
    return read_file(c, err);
}

/* Index in the file of a rule that leads from and to the same, or -1. */
static int find_in_file(const struct change *c, const struct config_port_forward *rule)
{
    int found = -1;

    jv_array_foreach(c->file, i, item)
    {
        scoped(config_forward_done) struct config_port_forward other = {0};

        if (found < 0 &&
            config_forward_parse(jv_copy(item), c->options->lima_home, c->inst->config, &other,
                                 NULL) == 0 &&
            forward_rule_same(&other, rule)) {
            found = i;
        }
        jv_free(item);
    }
    return found;
}

static int save(const struct change *c, const char *text, struct error *err)
{
    return text ? lifecycle_edit_save(c->options->lima_home, c->options->name, text, err) : 0;
}

/* --- add --- */

/* The file's new text, or NULL if nothing changes in it. */
static int text_with(const struct change *c, char **ret_text, struct error *err)
{
    scoped(strv_done) struct strv expressions = STRV_INIT;

    *ret_text = NULL;
    for (size_t i = c->options->specs->len; i-- > 0 && !c->options->temporary;) {
        scoped(free) char *json = NULL;

        if (find_in_file(c, &c->wishes[i].of) < 0) {
            json = value_to_json(jv_copy(c->wishes[i].rule), false);
            strv_addf(&expressions, ".portForwards = [%s] + .portForwards", json);
        } else if (!runs(c)) {
            return error_set(err, EEXIST, "'%s': " LAYOUT_CONFIG " has such a rule already",
                             c->wishes[i].spec);
        }
    }
    if (expressions.len == 0) {
        return 0;
    }
    return lifecycle_edit_check(c->options->lima_home, c->options->name, &expressions, ret_text,
                                err);
}

/* Takes back what the agent has done for a change that comes to nothing. */
static void undo_add(struct change *c)
{
    for (size_t i = 0; i < c->options->specs->len; i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        jv ports;

        if (!c->wishes[i].live) {
            continue;
        }
        if (ask(c, "DELETE", jv_copy(c->wishes[i].rule), &ports, &err) == 0) {
            jv_free(ports);
        } else {
            log_error_of(LOG_LEVEL_WARN, &err, "'%s' stays for now, ignoring", c->wishes[i].spec);
        }
    }
}

static int add_live(struct change *c, jv *ret, struct error *err)
{
    for (size_t i = 0; i < c->options->specs->len; i++) {
        jv ports;
        int r = ask(c, "POST", jv_copy(c->wishes[i].rule), &ports, err);

        if (r < 0) {
            return error_wrap(err, r, "'%s'", c->wishes[i].spec);
        }
        c->wishes[i].live = true;
        jv_free(*ret);
        *ret = ports;
    }
    return 0;
}

int lifecycle_ports_add(const struct lifecycle_ports_options *options, jv *ret, struct error *err)
{
    scoped(change_done) struct change c = {.options = options, .lock = -1, .file = jv_array()};
    scoped(value_done) jv ports = jv_invalid();
    scoped(free) char *text = NULL;
    int r = begin(&c, err);

    if (r == 0) {
        r = text_with(&c, &text, err);
    }
    if (r < 0) {
        return r;
    }
    r = runs(&c) ? add_live(&c, &ports, err) : 0;
    if (r == 0) {
        r = save(&c, text, err);
    }
    if (r < 0) {
        undo_add(&c);
        return r;
    }
    *ret = value_steal(&ports);
    return 0;
}

/* --- remove --- */

/* The file's new text, or NULL; marks in @in_file which wishes it had. */
static int text_without(const struct change *c, bool *in_file, char **ret_text, struct error *err)
{
    scoped(strv_done) struct strv expressions = STRV_INIT;
    scoped(strv_done) struct strv indexes = STRV_INIT;
    scoped(free) char *list = NULL;

    for (size_t i = 0; i < c->options->specs->len && !c->options->temporary; i++) {
        int index = find_in_file(c, &c->wishes[i].of);

        in_file[i] = index >= 0;
        if (in_file[i]) {
            strv_addf(&indexes, ".portForwards[%d]", index);
        }
    }
    *ret_text = NULL;
    if (indexes.len == 0) {
        return 0;
    }
    list = strv_join(&indexes, ", ");
    strv_addf(&expressions, "del(%s) | if .portForwards == [] then del(.portForwards) else . end",
              list);
    return lifecycle_edit_check(c->options->lima_home, c->options->name, &expressions, ret_text,
                                err);
}

static int no_such(const struct change *c, const struct wish *wish, struct error *err)
{
    error_set(err, ENOENT, "'%s': instance `%s` has no such rule", wish->spec, c->inst->name);
    return error_hint(err,
                      "`limactl ports %s` shows the rules; what a built-in one forwards ends with "
                      "a rule that has `ignore: true`",
                      c->inst->name);
}

/* A rule of the layers around lima.yaml comes back. */
static void warn_layers(const struct change *c, const struct wish *wish)
{
    for (size_t i = 0; i < c->inst->config->port_forward_count; i++) {
        if (forward_rule_same(&c->inst->config->port_forwards[i], &wish->of)) {
            log_warn("'%s' stands in _config/default.yaml or override.yaml, so the next start has "
                     "it again; ignoring",
                     wish->spec);
            return;
        }
    }
}

static int remove_one(const struct change *c, const struct wish *wish, bool in_file,
                      struct error *err)
{
    scoped(error_done) struct error why = ERROR_INIT;
    jv ports;
    int r = -ESRCH;

    if (runs(c)) {
        r = ask(c, "DELETE", jv_copy(wish->rule), &ports, &why);
    }
    if (r == 0) {
        jv_free(ports);
        if (!in_file && !c->options->temporary) {
            warn_layers(c, wish);
        }
        return 0;
    }
    if (r != -ESRCH) {
        error_move(err, &why);
        return error_wrap(err, r, "'%s'", wish->spec);
    }
    return in_file ? 0 : no_such(c, wish, err);
}

int lifecycle_ports_remove(const struct lifecycle_ports_options *options, struct error *err)
{
    scoped(change_done) struct change c = {.options = options, .lock = -1, .file = jv_array()};
    scoped(free) bool *in_file = xnew_n(bool, options->specs->len);
    scoped(free) char *text = NULL;
    int r = begin(&c, err);

    if (r == 0) {
        r = text_without(&c, in_file, &text, err);
    }
    for (size_t i = 0; r == 0 && i < options->specs->len; i++) {
        r = remove_one(&c, &c.wishes[i], in_file[i], err);
    }
    return r < 0 ? r : save(&c, text, err);
}
