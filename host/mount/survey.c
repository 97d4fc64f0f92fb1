/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/survey.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "mount/watch.h"

#define HASH       65536
#define STEP_NAMES 256
#define ROOM_LEFT  (TOUCHES_MAX / 2) /* for what happens while folders are looked through */
#define SLACK_NS   20000000 /* by which times of files lag: they are those of the last tick */
#define SECOND_NS  INT64_C(1000000000)
#define EVERYTHING INT64_MIN
#define NOTHING    INT64_MAX

struct folder {
    struct folder *parent, *first, *prev, *next; /* children, and beside it in its parent */
    struct folder *wd_next, *name_next;          /* in the tables */
    struct folder *due_prev, *due_next;          /* of those to be looked through */
    bool is_due;
    int64_t since_ns; /* of it: what has changed since is told */
    int wd;           /* -1: not watched */
    char name[];
};

struct survey {
    struct survey_options options;
    struct touches *touches;
    struct watch *watch;
    struct folder *root;
    struct folder *by_wd[HASH], *by_name[HASH];
    struct folder *due_first, *due_last;
    DIR *stream; /* of the folder that is being looked through */
    struct folder *at;
    size_t watched, told;
    bool full; /* no more can be watched */
    bool lost; /* changes were, during a read */
    bool torn; /* also of folders themselves: which are there is not known */
    int64_t lost_ns;
    int64_t read_ns; /* CLOCK_REALTIME of the last read */
    struct stat without;
};

static int64_t real_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * SECOND_NS + now.tv_nsec;
}

/* --- paths --- */

static void put_path(const struct folder *folder, struct buf *out)
{
    if (folder->parent) {
        put_path(folder->parent, out);
        if (out->len) {
            buf_puts(out, "/");
        }
        buf_puts(out, folder->name);
    }
}

/* Relative to the source. Caller frees. */
static char *path_of(const struct folder *folder, const char *name)
{
    scoped(buf_done) struct buf out = BUF_INIT;

    put_path(folder, &out);
    if (name) {
        if (out.len) {
            buf_puts(&out, "/");
        }
        buf_puts(&out, name);
    }
    return out.len ? buf_steal(&out) : xstrdup("");
}

static int look(const char *path, struct stat *ret, void *arg)
{
    const struct survey *survey = arg;
    const char *name = "";
    scoped(fd_close) int fd =
        *path ? tree_open_parent(survey->options.tree, path, false, &name)
              : tree_open_path(survey->options.tree, "", O_PATH | O_DIRECTORY, false);

    return fd < 0                                                            ? fd
           : fstatat(fd, name, ret, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) < 0 ? -errno
                                                                             : 0;
}

/* --- the table of folders --- */

static struct folder **wd_slot(struct survey *survey, int wd)
{
    struct folder **slot = &survey->by_wd[(unsigned)wd % HASH];

    while (*slot && (*slot)->wd != wd) {
        slot = &(*slot)->wd_next;
    }
    return slot;
}

static struct folder **name_slot(struct survey *survey, const struct folder *parent,
                                 const char *name)
{
    uint32_t hash = 2166136261u ^ (uint32_t)((uintptr_t)parent >> 4); /* FNV-1a */
    struct folder **slot;

    for (const char *p = name; *p; p++) {
        hash = (hash ^ (uint8_t)*p) * 16777619u;
    }
    slot = &survey->by_name[hash % HASH];
    while (*slot && ((*slot)->parent != parent || strcmp((*slot)->name, name) != 0)) {
        slot = &(*slot)->name_next;
    }
    return slot;
}

static void set_due(struct survey *survey, struct folder *folder, int64_t since_ns)
{
    if (folder->is_due) {
        folder->since_ns = MIN(folder->since_ns, since_ns);
        return;
    }
    folder->is_due = true;
    folder->since_ns = since_ns;
    folder->due_prev = survey->due_last;
    folder->due_next = NULL;
    *(survey->due_last ? &survey->due_last->due_next : &survey->due_first) = folder;
    survey->due_last = folder;
}

static void end_due(struct survey *survey, struct folder *folder)
{
    if (folder->is_due) {
        folder->is_due = false;
        *(folder->due_prev ? &folder->due_prev->due_next : &survey->due_first) = folder->due_next;
        *(folder->due_next ? &folder->due_next->due_prev : &survey->due_last) = folder->due_prev;
    }
}

static void end_look(struct survey *survey)
{
    if (survey->stream) {
        closedir(steal(survey->stream));
    }
    survey->at = NULL;
}

static struct folder *folder_new(struct survey *survey, struct folder *parent, const char *name)
{
    size_t size = strlen(name) + 1;
    struct folder *folder = xmalloc(sizeof(*folder) + size);

    *folder = (struct folder){.parent = parent, .wd = -1};
    memcpy(folder->name, name, size);
    if (parent) {
        struct folder **slot = name_slot(survey, parent, name);

        *slot = folder;
        folder->next = parent->first;
        if (folder->next) {
            folder->next->prev = folder;
        }
        parent->first = folder;
    }
    return folder;
}

static void unwatch(struct survey *survey, struct folder *folder)
{
    struct folder **slot;

    if (folder->wd >= 0) {
        slot = wd_slot(survey, folder->wd);
        *slot = folder->wd_next;
        watch_remove(survey->watch, folder->wd);
        folder->wd = -1;
        survey->watched--;
    }
}

/* A folder without children. */
static void folder_free(struct survey *survey, struct folder *folder)
{
    unwatch(survey, folder);
    end_due(survey, folder);
    if (survey->at == folder) {
        end_look(survey);
    }
    if (folder->parent) {
        *name_slot(survey, folder->parent, folder->name) = folder->name_next;
        *(folder->prev ? &folder->prev->next : &folder->parent->first) = folder->next;
        if (folder->next) {
            folder->next->prev = folder->prev;
        }
    }
    free(folder);
}

/* With all below it, from the bottom up; as deep as a path can be. */
static void drop(struct survey *survey, struct folder *top)
{
    struct folder *folder = top;

    while (folder) {
        struct folder *parent = folder == top ? NULL : folder->parent;

        if (folder->first) {
            folder = folder->first;
            continue;
        }
        folder_free(survey, folder);
        folder = parent;
    }
}

/* --- what is lost --- */

/* Begins anew at the top: what has changed since is told, and folders are told as at first. */
static void begin(struct survey *survey, int64_t since_ns)
{
    end_look(survey);
    survey->told = 0;
    set_due(survey, survey->root, since_ns);
}

static void lose(struct survey *survey, int64_t since_ns)
{
    survey->lost_ns = survey->lost ? MIN(survey->lost_ns, since_ns) : since_ns;
    survey->lost = true;
}

/* Each folder that waited to be looked through, with what was to be found there. */
static void recover(struct survey *survey)
{
    int64_t since_ns = touches_reset(survey->touches, survey->lost_ns);

    for (struct folder *folder = survey->due_first; folder; folder = folder->due_next) {
        if (folder->since_ns != EVERYTHING) {
            since_ns = MIN(since_ns, folder->since_ns);
        }
    }
    if (survey->at && survey->at->since_ns != EVERYTHING) {
        since_ns = MIN(since_ns, survey->at->since_ns);
    } else if (survey->at) {
        set_due(survey, survey->at, EVERYTHING);
    }
    if (survey->torn) {
        drop(survey, survey->root);
        survey->root = folder_new(survey, NULL, "");
    }
    survey->lost = survey->torn = false;
    log_info(
        "too much happens at once in '%s': its folders are looked through for what has changed",
        survey->options.source);
    begin(survey, since_ns - SLACK_NS);
}

static void put(struct survey *survey, const struct folder *folder, const char *name, unsigned what)
{
    scoped(free) char *path = path_of(folder, name);
    int64_t now_ns = real_ns();

    if (!touches_put(survey->touches, path, what, now_ns)) {
        lose(survey, now_ns);
    }
}

/* --- looking through folders --- */

static bool is_left_out(const struct survey *survey, int fd)
{
    struct stat st;

    return survey->options.without && fstat(fd, &st) == 0 && st.st_dev == survey->without.st_dev &&
           st.st_ino == survey->without.st_ino;
}

static void say_full(struct survey *survey)
{
    if (!survey->full) {
        survey->full = true;
        log_warn("'%s' has more folders than may be watched here: the upper %zu are "
                 "(fs.inotify.max_user_watches), watchers in the guest see nothing of the others, "
                 "ignoring",
                 survey->options.source, survey->watched);
    }
}

/* False: it cannot be, and nothing below it is to be. */
static bool watch_folder(struct survey *survey, struct folder *folder, int fd)
{
    struct folder **slot;
    int wd;

    if (folder->wd >= 0) {
        return true;
    }
    wd = watch_add(survey->watch, fd);
    if (wd < 0) {
        if (!folder->parent) {
            log_warn("'%s' cannot be watched: %s", survey->options.source, strerror(-wd));
        } else if (wd == -ENOSPC) {
            say_full(survey);
        }
        return false;
    }
    slot = wd_slot(survey, wd);
    if (*slot) { /* the same folder by another path (bind mounts): one is enough */
        return false;
    }
    folder->wd = wd;
    folder->wd_next = NULL;
    *slot = folder;
    survey->watched++;
    return true;
}

/* Watched first, then read: what comes in between is seen twice and merged. */
static bool begin_look(struct survey *survey, struct folder *folder)
{
    scoped(free) char *path = path_of(folder, NULL);
    scoped(fd_close) int fd =
        tree_open_path(survey->options.tree, path, O_PATH | O_DIRECTORY, false);
    bool appeared = folder->since_ns == EVERYTHING;
    int read_fd;

    if (fd < 0 || is_left_out(survey, fd) || !watch_folder(survey, folder, fd)) {
        return false;
    }
    if (!appeared && survey->told < survey->options.folders_told) {
        survey->told++;
        put(survey, folder, NULL, LIMA_TOUCH_FOLDER);
    }
    read_fd = tree_reopen(fd, O_RDONLY | O_DIRECTORY);
    survey->stream = read_fd < 0 ? NULL : fdopendir(read_fd);
    if (!survey->stream) {
        fd_close(read_fd);
        return false;
    }
    survey->at = folder;
    return true;
}

static int64_t ctime_ns(const struct stat *st)
{
    return st->st_ctim.tv_sec * SECOND_NS + st->st_ctim.tv_nsec;
}

static void find_folder(struct survey *survey, const char *name)
{
    struct folder *child = *name_slot(survey, survey->at, name);

    if (!survey->full || child) {
        child = child ? child : folder_new(survey, survey->at, name);
        set_due(survey, child, survey->at->since_ns);
    }
}

static void find(struct survey *survey, const struct dirent *entry)
{
    const struct folder *at = survey->at;
    bool is_dir = entry->d_type == DT_DIR;
    struct stat st;

    if (at->since_ns != NOTHING || entry->d_type == DT_UNKNOWN) {
        if (fstatat(dirfd(survey->stream), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            return; /* gone again, which is told */
        }
        is_dir = S_ISDIR(st.st_mode);
        if (at->since_ns != NOTHING && ctime_ns(&st) >= at->since_ns) {
            put(survey, at, entry->d_name,
                LIMA_TOUCH_TOUCH |
                    (is_dir && at->since_ns == EVERYTHING ? (unsigned)LIMA_TOUCH_FOLDER : 0));
        }
    }
    if (is_dir) {
        find_folder(survey, entry->d_name);
    }
}

/* False: all was read. */
static bool look_on(struct survey *survey)
{
    for (size_t i = 0; i < STEP_NAMES && !survey->lost; i++) {
        const struct dirent *entry = readdir(survey->stream);

        if (!entry) {
            end_look(survey);
            return false;
        }
        if (tree_is_name(entry->d_name)) {
            find(survey, entry);
        }
    }
    return true;
}

bool survey_step(struct survey *survey)
{
    if (touches_room(survey->touches) < ROOM_LEFT) {
        return false;
    }
    if (!survey->at && survey->due_first) {
        struct folder *folder = survey->due_first;

        end_due(survey, folder);
        (void)begin_look(survey, folder);
    }
    if (survey->at) {
        (void)look_on(survey);
    }
    if (survey->lost) {
        recover(survey);
    }
    return survey->at || survey->due_first;
}

/* --- events --- */

static void on_made(struct survey *survey, struct folder *folder, const struct watch_event *event)
{
    struct folder *old = *name_slot(survey, folder, event->name);

    if (old) {
        drop(survey, old);
    }
    if (event->is_dir) {
        put(survey, folder, event->name,
            LIMA_TOUCH_TOUCH | LIMA_TOUCH_FOLDER | (old ? (unsigned)LIMA_TOUCH_REMOVED : 0));
        set_due(survey, folder_new(survey, folder, event->name), EVERYTHING);
    } else {
        put(survey, folder, event->name, LIMA_TOUCH_TOUCH);
    }
}

static void on_removed(struct survey *survey, struct folder *folder,
                       const struct watch_event *event)
{
    struct folder *old = *name_slot(survey, folder, event->name);

    if (old) {
        drop(survey, old);
    }
    put(survey, folder, event->name, LIMA_TOUCH_REMOVED);
    put(survey, folder, NULL, LIMA_TOUCH_TOUCH);
}

/* Of a folder its parent tells, if it has one. */
static void on_attributes(struct survey *survey, const struct folder *folder, const char *name)
{
    scoped(free) char *path = path_of(folder, *name ? name : NULL);
    int64_t now_ns = real_ns();

    if ((*name || !folder->parent) && !touches_put_attributes(survey->touches, path, now_ns)) {
        lose(survey, now_ns);
    }
}

static void on_event(const struct watch_event *event, void *arg)
{
    struct survey *survey = arg;
    struct folder *folder;

    if (event->kind == WATCH_OVERFLOW) {
        lose(survey, survey->read_ns);
        survey->torn = true;
        return;
    }
    folder = *wd_slot(survey, event->wd);
    if (!folder) {
        return;
    }
    switch (event->kind) {
    case WATCH_MADE:
    case WATCH_MOVED_TO:
        on_made(survey, folder, event);
        break;
    case WATCH_REMOVED:
    case WATCH_MOVED_FROM:
        on_removed(survey, folder, event);
        break;
    case WATCH_CONTENT:
        put(survey, folder, event->name, LIMA_TOUCH_TOUCH);
        break;
    case WATCH_ATTRIBUTES:
        on_attributes(survey, folder, event->name);
        break;
    case WATCH_GONE:
        unwatch(survey, folder);
        break;
    case WATCH_CLOSED:
    case WATCH_OVERFLOW:
        break;
    }
}

bool survey_is_alive(const struct survey *survey)
{
    return survey->root->wd >= 0 || survey->root->is_due;
}

void survey_read(struct survey *survey)
{
    int64_t now_ns = real_ns();

    watch_read(survey->watch, on_event, survey);
    survey->read_ns = now_ns;
    if (survey->lost) {
        recover(survey);
    }
}

/* --- life --- */

int survey_new(const struct survey_options *options, struct survey **ret, struct error *err)
{
    struct survey *survey = xnew(struct survey);

    survey->options = *options;
    survey->watch = watch_new(options->share);
    if (!survey->watch) {
        free(survey);
        return error_set(err, ENOSYS, "this host cannot watch folders");
    }
    if (options->without && stat(options->without, &survey->without) < 0) {
        memset(&survey->without, 0, sizeof(survey->without));
    }
    survey->touches = touches_new(look, survey);
    survey->read_ns = real_ns();
    survey->root = folder_new(survey, NULL, "");
    begin(survey, options->since_ns ? options->since_ns - SLACK_NS : NOTHING);
    *ret = survey;
    return 0;
}

void survey_free(struct survey *survey)
{
    if (survey) {
        end_look(survey);
        drop(survey, survey->root);
        watch_free(survey->watch);
        touches_free(survey->touches);
        free(survey);
    }
}

struct touches *survey_touches(struct survey *survey)
{
    return survey->touches;
}

int survey_fd(const struct survey *survey)
{
    return watch_fd(survey->watch);
}
