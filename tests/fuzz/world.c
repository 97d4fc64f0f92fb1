/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "fuzz.h"
#include "util/file.h"
#include "util/path.h"

#define FILE_MAX (4u << 20)

static size_t count_entries(const char *path)
{
    DIR *dir = opendir(path);
    size_t count = 0;

    CHECK(dir);
    while (readdir(dir)) {
        count++;
    }
    closedir(dir);
    return count;
}

/* Not for files of the fuzzer itself, which are small. */
static void limit_files(void)
{
    const struct rlimit limit = {FILE_MAX, FILE_MAX};

    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
}

static void make_link(const char *folder, const char *name, const char *target)
{
    scoped(free) char *path = path_join(folder, name);

    CHECK(symlink(target, path) == 0);
}

void world_begin(struct world *ret, const char *name, bool writable)
{
    scoped(free) char *canary = NULL, *absolute = NULL;

    log_set_level(LOG_LEVEL_FATAL);
    limit_files();
    ret->writable = writable;
    ret->top = xasprintf("/tmp/fuzz-%s-XXXXXX", name);
    CHECK(mkdtemp(ret->top));
    ret->shared = path_join(ret->top, "shared");
    ret->file = path_join(ret->shared, "a");
    canary = path_join(ret->top, "canary");
    CHECK(mkdir(ret->shared, 0700) == 0);
    CHECK(file_write_text(ret->file, "text", 0600, NULL) == 0);
    CHECK(file_write_text(canary, WORLD_SECRET, 0600, NULL) == 0);
    make_link(ret->shared, "l", "a");
    make_link(ret->shared, "u", "../canary");
    make_link(ret->shared, "v", canary);
    CHECK(tree_open(ret->shared, writable, &ret->tree, NULL) == 0);
}

void world_end(struct world *world)
{
    scoped(free) char *canary = path_join(world->top, "canary");
    scoped(buf_done) struct buf text = BUF_INIT;

    tree_free(world->tree);
    CHECK(file_read(canary, 64, &text, NULL) == 0);
    CHECK(strcmp(buf_str(&text), WORLD_SECRET) == 0);
    CHECK(count_entries(world->top) == 4);
    CHECK(world->writable || count_entries(world->shared) == 6);
    CHECK(file_remove_tree(world->top, NULL) == 0);
    free(world->shared);
    free(world->file);
    free(world->top);
}
