/* SPDX-License-Identifier: Apache-2.0 */
#include "cidata/iso.h"

#include <archive.h>
#include <archive_entry.h>
#include <assert.h>
#include <string.h>
#include <time.h>
#include "base/alloc.h"
#include "base/macros.h"
#include "util/strv.h"

/* Where the primary volume descriptor has the label, and how long it may be (ECMA-119, 8.4). */
#define LABEL_OFFSET (16 * 2048 + 40)
#define LABEL_LEN    32

struct iso {
    char *label;
    struct archive *archive;
    struct strv folders; /* that have an entry */
    struct buf image;
};

static int iso_error(struct iso *iso, const char *what, struct error *err)
{
    return error_set(err, EIO, "%s: %s", what, archive_error_string(iso->archive));
}

static la_ssize_t on_archive_write(struct archive *archive, void *arg, const void *data, size_t len)
{
    struct iso *iso = arg;

    buf_put(&iso->image, data, len);
    return (la_ssize_t)len;
}

static int iso_set_up(struct iso *iso)
{
    struct archive *a = iso->archive;

    return archive_write_set_format_iso9660(a) == ARCHIVE_OK &&
                   archive_write_set_format_option(a, "iso9660", "volume-id", iso->label) ==
                       ARCHIVE_OK &&
                   archive_write_set_format_option(a, "iso9660", "rockridge", "strict") ==
                       ARCHIVE_OK &&
                   archive_write_set_format_option(a, "iso9660", "joliet", NULL) == ARCHIVE_OK &&
                   archive_write_set_format_option(a, "iso9660", "pad", NULL) == ARCHIVE_OK &&
                   archive_write_open(a, iso, NULL, on_archive_write, NULL) == ARCHIVE_OK
               ? 0
               : -EIO;
}

int iso_new(const char *label, struct iso **ret, struct error *err)
{
    scoped(iso_free) struct iso *iso = xnew(struct iso);

    assert(strlen(label) <= LABEL_LEN);
    iso->label = xstrdup(label);
    iso->archive = archive_write_new();
    if (!iso->archive) {
        return error_set(err, ENOMEM, "setting up libarchive");
    }
    if (iso_set_up(iso) < 0) {
        return iso_error(iso, "setting up the ISO image", err);
    }
    *ret = steal(iso);
    return 0;
}

void iso_free(struct iso *iso)
{
    if (!iso) {
        return;
    }
    if (iso->archive) {
        archive_write_free(iso->archive);
    }
    strv_done(&iso->folders);
    free(iso->label);
    buf_done(&iso->image);
    free(iso);
}

static int add_entry(struct iso *iso, const char *path, mode_t mode, const void *data, size_t len,
                     struct error *err)
{
    struct archive_entry *entry = archive_entry_new();
    bool is_file = S_ISREG(mode), ok;

    archive_entry_set_pathname(entry, path);
    archive_entry_set_mode(entry, mode);
    archive_entry_set_uid(entry, 0);
    archive_entry_set_gid(entry, 0);
    archive_entry_set_mtime(entry, time(NULL), 0);
    archive_entry_set_nlink(entry, is_file ? 1 : 2);
    if (is_file) {
        archive_entry_set_size(entry, (la_int64_t)len);
    }
    ok = archive_write_header(iso->archive, entry) == ARCHIVE_OK &&
         (len == 0 || archive_write_data(iso->archive, data, len) == (la_ssize_t)len);
    archive_entry_free(entry);
    return ok ? 0 : iso_error(iso, path, err);
}

/* One entry for the folder of @path; paths have at most one. */
static int add_folder(struct iso *iso, const char *path, struct error *err)
{
    const char *slash = strrchr(path, '/');
    scoped(free) char *folder = slash ? xstrndup(path, (size_t)(slash - path)) : NULL;

    if (!folder || strv_contains(&iso->folders, folder)) {
        return 0;
    }
    strv_add(&iso->folders, folder);
    return add_entry(iso, folder, S_IFDIR | 0700, NULL, 0, err);
}

int iso_add(struct iso *iso, const char *path, mode_t mode, const void *data, size_t len,
            struct error *err)
{
    scoped(strv_done) struct strv parts = STRV_INIT;
    int r;

    strv_split(&parts, path, '/');
    for (size_t i = 0; i < parts.len; i++) {
        if (!*parts.items[i] || strlen(parts.items[i]) > ISO_NAME_MAX) {
            return error_set(err, ENAMETOOLONG, "'%s' cannot be a name in the ISO image", path);
        }
    }
    r = add_folder(iso, path, err);
    return r < 0 ? r : add_entry(iso, path, S_IFREG | mode, data, len, err);
}

/* libarchive writes the label in upper case; everything that looks for it compares bytes. */
static void restore_label(struct iso *iso)
{
    char *label = iso->image.data + LABEL_OFFSET;

    memset(label, ' ', LABEL_LEN);
    memcpy(label, iso->label, strlen(iso->label));
}

int iso_finish(struct iso *iso, struct buf *out, struct error *err)
{
    if (archive_write_close(iso->archive) != ARCHIVE_OK) {
        return iso_error(iso, "finishing the ISO image", err);
    }
    restore_label(iso);
    buf_put(out, iso->image.data, iso->image.len);
    return 0;
}
