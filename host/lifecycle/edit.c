/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/edit.h"

#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "config/edit.h"
#include "config/load.h"
#include "instance/instance.h"
#include "instance/layout.h"
#include "instance/store.h"
#include "lifecycle/check.h"
#include "util/file.h"
#include "util/units.h"
#include "util/yaml.h"

static int check_text(const struct instance *inst, const char *lima_home, const char *text,
                      struct error *err)
{
    struct config_load_options load = {
        .lima_home = lima_home,
        .instance = inst->name,
        .created_by = instance_is_old(inst->dir) ? inst->version : NULL,
        .warn = true,
    };
    scoped(config_free) struct config *config = NULL;
    int r = config_load_text(LAYOUT_CONFIG, text, &load, &config, err);

    if (r < 0) {
        return r;
    }
    if (inst->config && config->disk < inst->config->disk) {
        scoped(free) char *before = size_format(inst->config->disk);
        scoped(free) char *after = size_format(config->disk);

        return error_set(err, EINVAL,
                         "field `disk`: shrinking the disk (%s --> %s) is not supported", before,
                         after);
    }
    return lifecycle_check_driver(config, err);
}

int lifecycle_edit_check(const char *lima_home, const char *name, const struct strv *expressions,
                         char **ret_text, struct error *err)
{
    scoped(instance_free) struct instance *inst = NULL;
    scoped(buf_done) struct buf text = BUF_INIT;
    scoped(free) char *path = NULL;
    scoped(free) char *edited = NULL;
    int r = instance_open(lima_home, name, &inst, err);

    if (r < 0) {
        return r;
    }
    path = instance_path(inst, LAYOUT_CONFIG);
    r = file_read(path, YAML_MAX_BYTES, &text, err);
    if (r < 0) {
        return r;
    }
    r = config_edit(buf_str(&text), expressions, &edited, err);
    if (r < 0) {
        return r;
    }
    r = check_text(inst, lima_home, edited, err);
    if (r < 0) {
        return error_wrap(err, r, "instance `%s` with the changes asked for", name);
    }
    *ret_text = steal(edited);
    return 0;
}

int lifecycle_edit_save(const char *lima_home, const char *name, const char *text,
                        struct error *err)
{
    scoped(free) char *path = path_join(lima_home, name, LAYOUT_CONFIG);

    return file_write_text(path, text, 0644, err);
}
