/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/create.h"

#include <string.h>
#include <sys/stat.h>
#include "base/alloc.h"
#include "base/log.h"
#include "config/load.h"
#include "instance/layout.h"
#include "instance/store.h"
#include "lifecycle/check.h"
#include "util/file.h"
#include "util/version.h"

#define DIR_MODE     0700
#define CONFIG_MODE  0644
#define VERSION_MODE 0444

static int check(const struct lifecycle_create_options *options, struct error *err)
{
    struct config_load_options load = {
        .lima_home = options->lima_home, .instance = options->name, .warn = true};
    scoped(config_free) struct config *config = NULL;
    int r = instance_check_name(options->lima_home, options->name, err);

    if (r < 0) {
        return r;
    }
    if (instance_exists(options->lima_home, options->name)) {
        return error_set(err, EEXIST, "instance `%s` already exists", options->name);
    }
    r = config_load_text(options->source, options->text, &load, &config, err);
    return r < 0 ? r : lifecycle_check_driver(config, err);
}

static int write_files(const char *dir, const char *text, struct error *err)
{
    scoped(free) char *config_path = path_join(dir, LAYOUT_CONFIG);
    scoped(free) char *version_path = path_join(dir, LAYOUT_VERSION);
    int r = file_write_text(version_path, "v" LIMA_VERSION, VERSION_MODE, err);

    return r < 0 ? r : file_write_text(config_path, text, CONFIG_MODE, err);
}

int lifecycle_create(const struct lifecycle_create_options *options, struct error *err)
{
    scoped(free) char *dir = instance_dir(options->lima_home, options->name);
    scoped(error_done) struct error cleanup = ERROR_INIT;
    int r = check(options, err);

    if (r < 0) {
        return r;
    }
    r = file_mkdirs(options->lima_home, DIR_MODE, err);
    if (r < 0) {
        return r;
    }
    if (mkdir(dir, DIR_MODE) < 0) {
        return errno == EEXIST
                   ? error_set(err, EEXIST, "instance `%s` already exists", options->name)
                   : error_errno(err, errno, "creating '%s'", dir);
    }
    r = write_files(dir, options->text, err);
    if (r < 0 && file_remove_tree(dir, &cleanup) < 0) {
        log_error_of(LOG_LEVEL_WARN, &cleanup, "removing the folder of `%s` failed, ignoring",
                     options->name);
    }
    return r;
}
