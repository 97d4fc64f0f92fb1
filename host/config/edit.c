/* SPDX-License-Identifier: Apache-2.0 */
#include "config/edit.h"

#include <string.h>
#include "base/alloc.h"
#include "util/value.h"
#include "util/yaml.h"

/* The tree that an expression makes of @tree (consumed). */
static int apply(jv tree, const char *expression, jv *ret, struct error *err)
{
    scoped(value_done) jv results = jv_invalid();
    jv result;
    int r = value_query(tree, expression, &results, err);
    int count;

    if (r < 0) {
        if (err && !strstr(error_text(err), "have been disabled")) {
            error_hint(err,
                       "expressions are jq's: add to a list with '+= [...]', put double quotes "
                       "around texts and around keys with a '-'");
        }
        return r;
    }
    count = jv_array_length(jv_copy(results));
    if (count != 1) {
        return error_set(err, EINVAL, "expression '%s' gives %d results instead of one", expression,
                         count);
    }
    result = jv_array_get(jv_copy(results), 0);
    if (jv_get_kind(result) != JV_KIND_OBJECT) {
        error_set(err, EINVAL, "expression '%s' gives a %s instead of the whole configuration",
                  expression, jv_kind_name(jv_get_kind(result)));
        jv_free(result);
        return error_hint(err, "assign to a key, for example '.cpus = 4'");
    }
    *ret = result;
    return 0;
}

int config_edit(const char *text, const struct strv *expressions, char **ret_text,
                struct error *err)
{
    scoped(value_done) jv old = jv_invalid();
    scoped(value_done) jv new = jv_invalid();
    int r = yaml_load("lima.yaml", text, strlen(text), &old, NULL, err);

    if (r < 0) {
        return r;
    }
    new = jv_copy(old);
    for (size_t i = 0; i < expressions->len; i++) {
        r = apply(value_steal(&new), expressions->items[i], &new, err);
        if (r < 0) {
            return r;
        }
    }
    return yaml_update(text, new, ret_text, err);
}
