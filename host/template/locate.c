/* SPDX-License-Identifier: Apache-2.0 */
#include "template/locate.h"

#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "template/fetch.h"
#include "template/image.h"
#include "util/file.h"
#include "util/path.h"
#include "util/sys.h"
#include "util/units.h"
#include "util/yaml.h"

#define MAX_FOLDERS 16 /* levels of folders below a templates folder */

void template_done(struct template *template)
{
    free(template->text);
    free(template->name);
    free(template->source);
    strv_done(&template->warnings);
    *template = TEMPLATE_INIT;
}

/* ---- the search path ---- */

static void search_path(const char *lima_home, struct strv *ret)
{
    const char *env = getenv("LIMA_TEMPLATES_PATH");

    if (env && *env) {
        strv_split(ret, env, ':');
        return;
    }
    strv_take(ret, path_join(lima_home, "_templates"));
    strv_take(ret, path_share("templates"));
}

/* ".yaml" goes behind a name without an extension; one that starts with a digit is none ("24.04").
 */
static char *file_name(const char *name)
{
    const char *dot = strrchr(path_base(name), '.');

    if (dot && !dot[1]) {
        return xasprintf("%syaml", name);
    }
    return dot && !isdigit((unsigned char)dot[1]) ? xstrdup(name) : xasprintf("%s.yaml", name);
}

/* Names of former templates, and the flag that took their place. */
static const struct {
    const char *name;
    const char *flag;
} replaced[] = {
    {"experimental/vz", "--vm-type=vz"},
    {"experimental/riscv64", "--arch=riscv64"},
    {"experimental/armv7l", "--arch=armv7l"},
    {"vmnet", "--network=lima:shared"},
    {"experimental/net-user-v2", "--network=lima:user-v2"},
    {"experimental/9p", "--mount-type=9p"},
    {"experimental/virtiofs-linux", "--mount-type=virtiofs"},
};

static int not_found(const char *name, const struct strv *folders, struct error *err)
{
    scoped(free) char *where = strv_join(folders, ", ");

    error_set(err, ENOENT, "there is no template '%s' in %s", name, where);
    for (size_t i = 0; i < ARRAY_LEN(replaced); i++) {
        if (strcmp(name, replaced[i].name) == 0) {
            error_hint(err, "use another template with `%s` instead", replaced[i].flag);
        }
    }
    error_hint(err, "`limactl create --list-templates` lists them all");
    return -ENOENT;
}

int template_find(const char *lima_home, const char *name, char **ret_path, struct error *err)
{
    scoped(strv_done) struct strv folders = STRV_INIT;
    scoped(free) char *file = NULL;

    if (strstr(name, "..")) {
        return error_set(err, EINVAL, "template name '%s' must not contain '..'", name);
    }
    if (!*name || name[strlen(name) - 1] == '/') {
        return error_set(err, EINVAL, "template name '%s' names no template", name);
    }
    search_path(lima_home, &folders);
    file = file_name(name);
    for (size_t i = 0; i < folders.len; i++) {
        scoped(free) char *path = path_join(folders.items[i], file);

        if (file_exists(path) && !file_is_dir(path)) {
            *ret_path = steal(path);
            return 0;
        }
    }
    return not_found(name, &folders, err);
}

static int add_names(const char *folder, const char *prefix, int depth, struct strv *ret,
                     struct error *err);

static int add_entry(const char *folder, const char *prefix, const char *entry, int depth,
                     struct strv *ret, struct error *err)
{
    scoped(free) char *path = path_join(folder, entry);
    scoped(free) char *name = xasprintf("%s%s", prefix, entry);

    if (entry[0] == '.' || entry[0] == '_') {
        return 0;
    }
    if (file_is_dir(path)) {
        scoped(free) char *below = xasprintf("%s/", name);

        return depth < MAX_FOLDERS ? add_names(path, below, depth + 1, ret, err) : 0;
    }
    if (str_ends(name, ".yaml")) {
        name[strlen(name) - strlen(".yaml")] = '\0';
        if (!strv_contains(ret, name)) {
            strv_add(ret, name);
        }
    }
    return 0;
}

/* Below a folder that is not there are no names. */
static int add_names(const char *folder, const char *prefix, int depth, struct strv *ret,
                     struct error *err)
{
    DIR *dir = opendir(folder);
    int r = 0;

    if (!dir) {
        return errno == ENOENT || errno == ENOTDIR
                   ? 0
                   : error_errno(err, errno, "reading folder '%s'", folder);
    }
    for (struct dirent *entry = readdir(dir); r == 0 && entry; entry = readdir(dir)) {
        r = add_entry(folder, prefix, entry->d_name, depth, ret, err);
    }
    closedir(dir);
    return r;
}

int template_names(const char *lima_home, struct strv *ret, struct error *err)
{
    scoped(strv_done) struct strv folders = STRV_INIT;
    scoped(strv_done) struct strv names = STRV_INIT;

    search_path(lima_home, &folders);
    for (size_t i = 0; i < folders.len; i++) {
        int r = add_names(folders.items[i], "", 0, &names, err);

        if (r < 0) {
            return r;
        }
    }
    strv_sort(&names);
    strv_extend(ret, &names);
    return 0;
}

/* ---- reading ---- */

/* Base name in lower case without .yaml or .yml; "" when it cannot be the name of an instance. */
static char *instance_name(const char *path)
{
    static const char *const endings[] = {".yaml", ".yml"};
    const char *base = path_base(path);
    char *name = xstrndup(base, strcspn(base, "?#"));

    for (char *p = name; *p; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        if (str_ends(name, endings[i])) {
            name[strlen(name) - strlen(endings[i])] = '\0';
            break;
        }
    }
    if (!instance_name_ok(name)) {
        *name = '\0';
    }
    return name;
}

static int too_long(const char *source, struct error *err)
{
    return error_set(err, EFBIG, "template '%s' is longer than %u bytes", source,
                     TEMPLATE_MAX_BYTES);
}

static int read_stdin(struct template *ret, struct error *err)
{
    scoped(buf_done) struct buf text = BUF_INIT_CAP(TEMPLATE_MAX_BYTES);

    for (;;) {
        char chunk[4096];
        ssize_t n = read(STDIN_FILENO, chunk, sizeof(chunk));

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return error_errno(err, errno, "reading the template from standard input");
        }
        if (n == 0) {
            break;
        }
        if (buf_put(&text, chunk, (size_t)n) < 0) {
            return too_long("-", err);
        }
    }
    ret->text = buf_steal(&text);
    ret->name = xstrdup("");
    ret->source = xstrdup("-");
    return 0;
}

static int read_file(const char *path, const char *source, struct template *ret, struct error *err)
{
    scoped(buf_done) struct buf text = BUF_INIT;
    int r = file_read(path, TEMPLATE_MAX_BYTES, &text, err);

    if (r == -EFBIG) {
        return too_long(path, err);
    }
    if (r < 0) {
        if (r == -ENOENT) {
            error_hint(err, "a template of Lima itself is called 'template:NAME'; "
                            "`limactl create --list-templates` lists them");
        }
        return error_wrap(err, r, "template '%s'", source);
    }
    ret->text = buf_steal(&text);
    ret->source = xstrdup(source);
    ret->name = instance_name(path);
    return 0;
}

static int read_template(const char *lima_home, const char *name, struct template *ret,
                         struct error *err)
{
    scoped(free) char *source = NULL;
    scoped(free) char *path = NULL;
    int r;

    if (str_starts(name, "//")) {
        name += 2;
        strv_addf(&ret->warnings,
                  "locator 'template://%s' is deprecated, use 'template:%s' instead", name, name);
    }
    r = template_find(lima_home, name, &path, err);
    if (r < 0) {
        return r;
    }
    source = xasprintf("template:%s", name);
    r = read_file(path, source, ret, err);
    if (r == 0) {
        free(ret->name);
        ret->name = instance_name(name);
    }
    return r;
}

static int read_url(const char *url, struct template *ret, struct error *err)
{
    scoped(buf_done) struct buf text = BUF_INIT;
    int r = template_fetch(url, TEMPLATE_MAX_BYTES, &text, err);

    if (r < 0) {
        return r;
    }
    ret->text = buf_steal(&text);
    ret->source = xstrdup(url);
    ret->name = instance_name(url);
    return 0;
}

static int read_file_url(const char *url, struct template *ret, struct error *err)
{
    const char *path = url + strlen("file://");

    if (*path != '/') {
        error_set(err, EINVAL, "locator '%s' does not hold an absolute path", url);
        return error_hint(err, "write it as file:///folder/file.yaml");
    }
    return read_file(path, path, ret, err);
}

static int read_path(const char *locator, struct template *ret, struct error *err)
{
    scoped(free) char *path = NULL;
    int r = path_expand(locator, &path, err);

    return r < 0 ? r : read_file(path, path, ret, err);
}

static bool is_url(const char *locator)
{
    return str_starts(locator, "http://") || str_starts(locator, "https://");
}

/* Scheme of "scheme:rest" (two letters or more), or 0. */
static size_t scheme_length(const char *locator)
{
    size_t n = isalpha((unsigned char)locator[0]) ? 1 : 0;

    while (n && (isalnum((unsigned char)locator[n]) || strchr("+-.", locator[n])) && locator[n]) {
        n++;
    }
    return n > 1 && locator[n] == ':' ? n : 0;
}

/* A template with the image alone. */
static int make_from_image(const char *locator, struct template *ret, struct error *err)
{
    const char *arch = template_image_arch(locator);
    scoped(free) char *location = NULL;
    scoped(buf_done) struct buf text = BUF_INIT;
    int r = 0;
    jv tree;

    if (scheme_length(locator)) {
        location = xstrdup(locator);
    } else {
        r = path_expand(locator, &location, err);
    }
    if (r < 0) {
        return r;
    }
    if (!arch) {
        arch = sys_arch();
        if (!str_starts(locator, "image:")) {
            strv_addf(&ret->warnings, "image '%s' does not tell its architecture, taking it for %s",
                      locator, arch);
        }
    }
    tree = JV_OBJECT(jv_string("os"), jv_string(template_image_os(locator)), jv_string("arch"),
                     jv_string(arch), jv_string("images"),
                     JV_ARRAY(JV_OBJECT(jv_string("location"), jv_string(location),
                                        jv_string("arch"), jv_string(arch))));
    yaml_dump(tree, &text);
    ret->text = buf_steal(&text);
    ret->name = template_image_name(locator, sys_arch());
    if (!instance_name_ok(ret->name)) {
        *ret->name = '\0';
    }
    ret->source = steal(location);
    return 0;
}

int template_locate(const char *lima_home, const char *locator, struct template *ret,
                    struct error *err)
{
    if (!*locator) {
        return error_set(err, EINVAL, "the locator of the template is empty");
    }
    if (strcmp(locator, "-") == 0) {
        return read_stdin(ret, err);
    }
    if (template_is_image(locator)) {
        return make_from_image(locator, ret, err);
    }
    if (str_starts(locator, "template:")) {
        return read_template(lima_home, locator + strlen("template:"), ret, err);
    }
    if (is_url(locator)) {
        return read_url(locator, ret, err);
    }
    if (str_starts(locator, "file://")) {
        return read_file_url(locator, ret, err);
    }
    if (str_starts(locator, "github:")) {
        error_set(err, EINVAL, "locator '%s': the scheme 'github' is not supported", locator);
        return error_hint(err, "use https://raw.githubusercontent.com/ORG/REPO/REF/PATH");
    }
    return read_path(locator, ret, err);
}

/* ---- references ---- */

int template_resolve(const char *source, const char *relative, char **ret, struct error *err)
{
    const char *slash = strrchr(source, '/');

    if (!*relative) {
        return error_set(err, EINVAL, "template '%s' has an empty reference", source);
    }
    if (strstr(relative, "../") || strstr(relative, "..\\") || strcmp(relative, "..") == 0) {
        return error_set(err, EINVAL, "template '%s': reference '%s' must not contain '../'",
                         source, relative);
    }
    if (scheme_length(relative) || relative[0] == '/') {
        *ret = xstrdup(relative);
        return 0;
    }
    if (relative[0] == '~') {
        return path_expand(relative, ret, err);
    }
    if (strcmp(source, "-") == 0) {
        error_set(err, EINVAL,
                  "reference '%s' is relative, but the template came from standard input",
                  relative);
        return error_hint(err, "write an absolute path or a URL");
    }
    while (str_starts(relative, "./")) {
        relative += 2;
    }
    if (str_starts(source, "template:") && !slash) {
        *ret = xasprintf("template:%s", relative);
    } else {
        *ret = xasprintf("%.*s%s", slash ? (int)(slash + 1 - source) : 0, source, relative);
    }
    return 0;
}
