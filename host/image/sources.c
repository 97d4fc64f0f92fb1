/* SPDX-License-Identifier: Apache-2.0 */
#include "image/sources.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "base/alloc.h"
#include "util/file.h"
#include "util/path.h"
#include "util/strv.h"

#define SOURCES_MAX (1u << 20)

void image_mirrors_done(struct image_mirrors *mirrors)
{
    free(mirrors->archive);
    free(mirrors->security);
    *mirrors = (struct image_mirrors){0};
}

/* Blank-separated words; none for NULL. */
static void split_words(const char *text, struct strv *ret)
{
    scoped(strv_done) struct strv parts = STRV_INIT;
    scoped(free) char *copy = xstrdup(str_or_empty(text));

    for (char *p = copy; *p; p++) {
        *p = *p == '\t' ? ' ' : *p;
    }
    strv_split(&parts, copy, ' ');
    for (size_t i = 0; i < parts.len; i++) {
        if (*parts.items[i]) {
            strv_add(ret, parts.items[i]);
        }
    }
}

static bool uri_usable(const char *uri)
{
    return str_starts(uri, "http://") || str_starts(uri, "https://") || str_starts(uri, "file:/") ||
           str_starts(uri, "copy:/");
}

/* One source: the first usable URI serves each suite that is named. */
static void mirrors_take(const struct strv *uris, const struct strv *suites,
                         const struct strv *components, const char *codename,
                         struct image_mirrors *mirrors)
{
    scoped(free) char *security = xasprintf("%s-security", codename);
    const char *uri = NULL;

    for (size_t i = 0; !uri && i < uris->len; i++) {
        uri = uri_usable(uris->items[i]) ? uris->items[i] : NULL;
    }
    if (!uri || !strv_contains(components, "main")) {
        return;
    }
    if (!mirrors->archive && strv_contains(suites, codename)) {
        mirrors->archive = xstrdup(uri);
    }
    if (!mirrors->security && strv_contains(suites, security)) {
        mirrors->security = xstrdup(uri);
    }
}

/* "deb [options] URI SUITE COMPONENT..." */
static void scan_line(const char *line, const char *codename, struct image_mirrors *mirrors)
{
    scoped(strv_done) struct strv words = STRV_INIT;
    scoped(strv_done) struct strv uri = STRV_INIT;
    scoped(strv_done) struct strv suite = STRV_INIT;
    scoped(strv_done) struct strv components = STRV_INIT;
    size_t i = 1;

    split_words(line, &words);
    if (words.len < 4 || strcmp(words.items[0], "deb") != 0) {
        return;
    }
    if (words.items[1][0] == '[') {
        while (i < words.len && !str_ends(words.items[i], "]")) {
            i++;
        }
        i++;
    }
    if (i + 2 >= words.len) {
        return;
    }
    strv_add(&uri, words.items[i]);
    strv_add(&suite, words.items[i + 1]);
    for (i += 2; i < words.len; i++) {
        strv_add(&components, words.items[i]);
    }
    mirrors_take(&uri, &suite, &components, codename, mirrors);
}

/* A stanza of a .sources file while it is being read. */
struct stanza {
    struct strv uris, suites, components;
    struct strv *field; /* where a continuation line goes; NULL: ignored */
    bool enabled;
    bool any_deb;
};

static void stanza_done(struct stanza *s)
{
    strv_done(&s->uris);
    strv_done(&s->suites);
    strv_done(&s->components);
    *s = (struct stanza){.enabled = true};
}

static void stanza_field(struct stanza *s, const char *line)
{
    const char *colon = strchr(line, ':');
    scoped(free) char *name = xstrndup(line, colon ? (size_t)(colon - line) : strlen(line));
    scoped(free) char *value = str_trim(colon ? colon + 1 : "");

    s->field = !strcasecmp(name, "URIs")         ? &s->uris
               : !strcasecmp(name, "Suites")     ? &s->suites
               : !strcasecmp(name, "Components") ? &s->components
                                                 : NULL;
    if (!strcasecmp(name, "Enabled")) {
        s->enabled = strcasecmp(value, "no") != 0 && strcasecmp(value, "false") != 0;
    } else if (!strcasecmp(name, "Types")) {
        scoped(strv_done) struct strv types = STRV_INIT;

        split_words(value, &types);
        s->any_deb = strv_contains(&types, "deb");
    } else if (s->field) {
        split_words(value, s->field);
    }
}

static void scan_deb822(const struct strv *lines, const char *codename,
                        struct image_mirrors *mirrors)
{
    struct stanza s = {.enabled = true};

    for (size_t i = 0; i <= lines->len; i++) {
        const char *line = i < lines->len ? lines->items[i] : "";
        scoped(free) char *trimmed = str_trim(line);

        if (*line == '#') {
            continue;
        }
        if (!*trimmed) {
            if (s.enabled && s.any_deb) {
                mirrors_take(&s.uris, &s.suites, &s.components, codename, mirrors);
            }
            stanza_done(&s);
        } else if (*line != ' ' && *line != '\t') {
            stanza_field(&s, trimmed);
        } else if (s.field) {
            split_words(trimmed, s.field);
        }
    }
    stanza_done(&s);
}

void image_mirrors_scan(const char *text, bool deb822, const char *codename,
                        struct image_mirrors *mirrors)
{
    scoped(strv_done) struct strv lines = STRV_INIT;

    strv_split(&lines, text, '\n');
    if (deb822) {
        scan_deb822(&lines, codename, mirrors);
        return;
    }
    for (size_t i = 0; i < lines.len; i++) {
        scan_line(lines.items[i], codename, mirrors);
    }
}

/* A value of os-release, unquoted. Caller frees; NULL if it is not there. */
static char *os_release_get(const char *text, const char *key)
{
    scoped(strv_done) struct strv lines = STRV_INIT;

    strv_split(&lines, text, '\n');
    for (size_t i = 0; i < lines.len; i++) {
        const char *line = lines.items[i];
        size_t len = strlen(key), end = strlen(line);

        if (strncmp(line, key, len) != 0 || line[len] != '=') {
            continue;
        }
        len++;
        if (end >= len + 2 && (line[len] == '"' || line[len] == '\'') &&
            line[end - 1] == line[len]) {
            len++;
            end--;
        }
        return xstrndup(line + len, end - len);
    }
    return NULL;
}

static void scan_file(const char *path, const char *codename, struct image_mirrors *mirrors)
{
    scoped(buf_done) struct buf text = BUF_INIT;

    if (file_read(path, SOURCES_MAX, &text, NULL) == 0) {
        image_mirrors_scan(buf_str(&text), str_ends(path, ".sources"), codename, mirrors);
    }
}

static void scan_folder(const char *dir, const char *codename, struct image_mirrors *mirrors)
{
    scoped(strv_done) struct strv names = STRV_INIT;
    DIR *d = opendir(dir);
    struct dirent *entry;

    while (d && (entry = readdir(d))) {
        if (str_ends(entry->d_name, ".list") || str_ends(entry->d_name, ".sources")) {
            strv_add(&names, entry->d_name);
        }
    }
    if (d) {
        closedir(d);
    }
    strv_sort(&names);
    for (size_t i = 0; i < names.len; i++) {
        scoped(free) char *path = path_join(dir, names.items[i]);

        scan_file(path, codename, mirrors);
    }
}

void image_mirrors_find(const struct image_recipe *recipe, const char *etc,
                        struct image_mirrors *ret)
{
    scoped(free) char *release_path = path_join(etc, "os-release");
    scoped(free) char *list = path_join(etc, "apt/sources.list");
    scoped(free) char *dir = path_join(etc, "apt/sources.list.d");
    scoped(buf_done) struct buf release = BUF_INIT;
    scoped(free) char *id = NULL;
    scoped(free) char *codename = NULL;
    struct image_mirrors found = {0};

    if (file_read(release_path, SOURCES_MAX, &release, NULL) == 0) {
        id = os_release_get(buf_str(&release), "ID");
        codename = os_release_get(buf_str(&release), "VERSION_CODENAME");
    }
    if (str_eq(id, recipe->id) && codename) {
        scan_file(list, codename, &found);
        scan_folder(dir, codename, &found);
    }
    if (!found.archive || !found.security) {
        image_mirrors_done(&found);
        found = (struct image_mirrors){0};
    }
    *ret = found;
}

/* Addresses that mean another machine, or nothing, inside a guest. */
static bool uri_is_local(const char *uri)
{
    static const char *const local[] = {
        "file:",       "copy:",        "http://localhost", "https://localhost",
        "http://127.", "https://127.", "http://[::1]",
    };

    for (size_t i = 0; i < ARRAY_LEN(local); i++) {
        if (str_starts(uri, local[i])) {
            return true;
        }
    }
    return false;
}

void image_sources_format(const struct image_recipe *recipe, const struct image_mirrors *mirrors,
                          bool for_guest, struct buf *ret)
{
    const struct {
        const char *uri, *suite_suffix;
    } lines[] = {
        {mirrors->archive, ""}, {mirrors->archive, "-updates"}, {mirrors->security, "-security"}};

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        if (for_guest && uri_is_local(lines[i].uri)) {
            buf_puts(ret, "# Of the machine that built this image; put another address here.\n# ");
        }
        buf_printf(ret, "deb [signed-by=%s] %s %s%s main\n", recipe->keyring, lines[i].uri,
                   recipe->suite, lines[i].suite_suffix);
    }
}

void image_apt_options(const char *dump, struct buf *ret)
{
    static const char *const wanted[] = {
        "Acquire::http",
        "Acquire::https",
        "Acquire::Retries",
        "Acquire::Check-Date",
        "Acquire::Check-Valid-Until",
        "Acquire::Max-ValidTime",
        "Acquire::ForceIPv4",
    };
    scoped(strv_done) struct strv lines = STRV_INIT;

    strv_split(&lines, dump, '\n');
    for (size_t i = 0; i < lines.len; i++) {
        for (size_t k = 0; k < ARRAY_LEN(wanted); k++) {
            size_t len = strlen(wanted[k]);
            const char *line = lines.items[i];

            if (!strncasecmp(line, wanted[k], len) && (line[len] == ' ' || line[len] == ':')) {
                buf_printf(ret, "%s\n", line);
                break;
            }
        }
    }
}
