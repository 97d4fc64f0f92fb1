/* SPDX-License-Identifier: Apache-2.0 */
/* A file of one rule, with what its templates need, goes through the steps of every file. */
#include "config/forward.h"

#include <string.h>
#include "base/alloc.h"
#include "config/decode.h"
#include "config/defaults.h"
#include "config/expand.h"
#include "config/load.h"
#include "config/normalize.h"
#include "config/validate.h"

static jv file_of(jv rule, const struct config *config)
{
    const struct config_user *user = &config->user;
    jv images = JV_ARRAY(JV_OBJECT(jv_string("location"), jv_string("/unused")));
    jv owner = JV_OBJECT(jv_string("name"), jv_string(user->name), jv_string("home"),
                         jv_string(user->home), jv_string("uid"), jv_number(user->uid));

    return JV_OBJECT(jv_string("images"), images, jv_string("user"), owner,
                     jv_string("portForwards"), JV_ARRAY(rule));
}

/* What a file may have and only be warned of is no good in a request. */
static int result(const struct config_report *report, struct error *err)
{
    int r = config_report_result(report, err);

    if (r == 0 && report->warnings.len > 0) {
        scoped(free) char *text = strv_join(&report->warnings, "\n");
        const char *ignoring = ", ignoring";

        if (str_ends(text, ignoring)) {
            text[strlen(text) - strlen(ignoring)] = '\0';
        }
        r = error_set(err, EINVAL, "%s", text);
    }
    return r;
}

static int decode(jv tree, const struct config *config, struct config_port_forward *ret,
                  struct error *err)
{
    scoped(config_free) struct config *loaded = xnew(struct config);

    config_decode(&schema_root, tree, config->arch, loaded);
    if (loaded->port_forward_count != 1) {
        return error_set(err, EINVAL, "a rule must be a map");
    }
    *ret = config_forward_copy(&loaded->port_forwards[0]);
    return 0;
}

int config_forward_parse(jv rule, const char *lima_home, const struct config *config,
                         struct config_port_forward *ret, struct error *err)
{
    scoped(config_report_done) struct config_report report = CONFIG_REPORT_INIT;
    const struct config_source source = {.name = "rule", .own = true};
    const struct config_context context = {
        .lima_home = lima_home,
        .instance = config->instance,
        .dir = config->dir,
        .sources = &source,
        .source_count = 1,
        .report = &report,
    };
    scoped(value_done) jv tree = file_of(rule, config);
    int r;

    tree = config_normalize(&schema_root, value_steal(&tree), &source, &report);
    r = result(&report, err);
    if (r < 0) {
        return r;
    }
    tree = config_fill(value_steal(&tree), &context);
    tree = config_expand(value_steal(&tree), &context);
    config_validate(tree, &context);
    r = result(&report, err);
    return r < 0 ? r : decode(tree, config, ret, err);
}

struct config_port_forward config_forward_copy(const struct config_port_forward *rule)
{
    struct config_port_forward copy = *rule;

    copy.guest_socket = xstrdup(rule->guest_socket);
    copy.host_socket = xstrdup(rule->host_socket);
    return copy;
}

void config_forward_done(struct config_port_forward *rule)
{
    free(steal(rule->guest_socket));
    free(steal(rule->host_socket));
}
