/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of config/ share: an own LIMA_HOME, texts as layers, loading in one call. */
#pragma once

#include "test.h"

#include <stdlib.h>
#include <unistd.h>
#include "base/buf.h"
#include "config/load.h"
#include "util/file.h"
#include "util/path.h"

#define IMAGE "images: [{location: /img}]\n" /* what the shortest valid file needs */

struct fixture {
    char *home;
    struct strv warnings; /* of the last load */
};

static inline int fixture_setup(void **state)
{
    struct fixture *fixture = xnew(struct fixture);
    char *home = xstrdup("/tmp/test-config-XXXXXX");

    assert_non_null(mkdtemp(home));
    fixture->home = home;
    *state = fixture;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;

    file_remove_tree(fixture->home, NULL);
    strv_done(&fixture->warnings);
    free(fixture->home);
    free(fixture);
    return 0;
}

/* Writes _config/@name; NULL removes it. */
static inline void fixture_layer(struct fixture *fixture, const char *name, const char *text)
{
    scoped(free) char *dir = path_join(fixture->home, "_config");
    scoped(free) char *path = path_join(dir, name);
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(file_mkdirs(dir, 0700, &err), &err);
    if (text) {
        assert_works(file_write_text(path, text, 0600, &err), &err);
    } else {
        assert_works(file_remove(path, &err), &err);
    }
}

/* Loads @text as "lima.yaml" of the instance "box". */
static inline int fixture_load_as(struct fixture *fixture, const char *text, const char *created_by,
                                  struct config **ret, struct error *err)
{
    const struct config_load_options options = {
        .lima_home = fixture->home,
        .instance = "box",
        .created_by = created_by,
        .warnings = &fixture->warnings,
    };

    strv_done(&fixture->warnings);
    fixture->warnings = STRV_INIT;
    return config_load_text("lima.yaml", text, &options, ret, err);
}

static inline int fixture_load(struct fixture *fixture, const char *text, struct config **ret,
                               struct error *err)
{
    return fixture_load_as(fixture, text, NULL, ret, err);
}

/* A text that has to load without errors. */
static inline struct config *fixture_config(struct fixture *fixture, const char *text)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct config *config = NULL;

    assert_works(fixture_load(fixture, text, &config, &err), &err);
    return config;
}

static inline bool fixture_warned(const struct fixture *fixture, const char *part)
{
    for (size_t i = 0; i < fixture->warnings.len; i++) {
        if (strstr(fixture->warnings.items[i], part)) {
            return true;
        }
    }
    return false;
}

/* A file of the source tree; caller frees. */
static inline char *fixture_source(const char *folder, const char *name)
{
    const char *root = getenv("SOURCE_ROOT");
    scoped(free) char *path = path_join(root ? root : ".", folder, name);
    scoped(buf_done) struct buf text = BUF_INIT;
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(file_read(path, 1 << 20, &text, &err), &err);
    return buf_steal(&text);
}

static inline char *fixture_golden(const char *name)
{
    return fixture_source("tests/unit/golden", name);
}
