/* SPDX-License-Identifier: Apache-2.0 */
#include "template/image.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>
#include "base/alloc.h"
#include "util/path.h"
#include "util/strv.h"

static const char *const formats[] = {".img", ".qcow2", ".raw", ".iso", ".ipsw"};
static const char *const compressions[] = {".gz", ".xz", ".bz2", ".zstd", ".zst"};

static const struct {
    const char *word;
    const char *arch;
} arch_words[] = {
    {"aarch64", "aarch64"}, {"amd64", "x86_64"},    {"arm64", "aarch64"},   {"armhf", "armv7l"},
    {"armv7l", "armv7l"},   {"ppc64el", "ppc64le"}, {"ppc64le", "ppc64le"}, {"riscv64", "riscv64"},
    {"s390x", "s390x"},     {"x86_64", "x86_64"},
};

/* Words of file names that do not tell one image from another. */
static const char *const tags[] = {
    "base",    "basic",        "cloud", "cloudimg", "cloudinit", "current", "daily",     "default",
    "generic", "genericcloud", "kvm",   "latest",   "linux",     "minimal", "openstack", "release",
    "restore", "server",       "std",   "stream",   "uefi",      "vm",
};

/* ---- pieces of names ---- */

/* Length of the suffix of @name[0..len) that is one of @list, in any case; 0 without one. */
static size_t suffix_length(const char *name, size_t len, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(list[i]);

        if (len > n && strncasecmp(name + len - n, list[i], n) == 0) {
            return n;
        }
    }
    return 0;
}

/* Length of @name without format and compression; all of it when there is no format. */
static size_t stem_length(const char *name)
{
    size_t len = strlen(name);
    size_t packed = suffix_length(name, len, compressions, ARRAY_LEN(compressions));
    size_t format = suffix_length(name, len - packed, formats, ARRAY_LEN(formats));

    return format ? len - packed - format : len;
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static bool is_separator(char c)
{
    return c == '-' || c == '_' || c == '.';
}

/* Finds @word in any case with no letter or digit on either side. */
static bool has_word(const char *text, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = text; *p; p++) {
        if (strncasecmp(p, word, n) == 0 && !isalnum((unsigned char)p[n]) &&
            (p == text || !isalnum((unsigned char)p[-1]))) {
            return true;
        }
    }
    return false;
}

static void cut(char *at, size_t n)
{
    memmove(at, at + n, strlen(at + n) + 1);
}

/* Removes each separator and @word that ends at a word boundary. */
static void remove_word(char *name, const char *word)
{
    size_t n = strlen(word);

    for (char *p = name; *p;) {
        if (is_separator(*p) && strncmp(p + 1, word, n) == 0 && !is_word(p[1 + n])) {
            cut(p, 1 + n);
        } else {
            p++;
        }
    }
}

static size_t digits(const char *p)
{
    size_t n = 0;

    while (isdigit((unsigned char)p[n])) {
        n++;
    }
    return n;
}

/* Removes "-20YYMMDD" with an optional "-NUMBER" or ".NUMBER" behind. */
static void remove_dates(char *name)
{
    for (char *p = name; *p;) {
        size_t n = 9, more;

        if (!is_separator(*p) || strncmp(p + 1, "20", 2) != 0 || digits(p + 1) != 8) {
            p++;
            continue;
        }
        more = is_separator(p[n]) ? digits(p + n + 1) : 0;
        if (more && !is_word(p[n + 1 + more])) {
            n += 1 + more;
        }
        if (is_word(p[n])) {
            p++;
        } else {
            cut(p, n);
        }
    }
}

/* "-9-9.4" becomes "-9.4". */
static void collapse_versions(char *name)
{
    for (char *p = name; *p; p++) {
        size_t n = *p == '-' ? digits(p + 1) : 0;

        if (n && p[1 + n] == '-' && digits(p + 2 + n) == n && p[2 + 2 * n] == '.' &&
            strncmp(p + 1, p + 2 + n, n) == 0) {
            cut(p, 1 + n);
        }
    }
}

static char *replace_prefix(char *take_name, const char *prefix, const char *by)
{
    size_t n = strlen(prefix);
    char *name;

    if (strncmp(take_name, prefix, n) != 0) {
        return take_name;
    }
    name = xasprintf("%s%s", by, take_name + n);
    free(take_name);
    return name;
}

/* ---- what the location tells ---- */

bool template_is_image(const char *location)
{
    const char *base = path_base(location);

    return str_starts(location, "image:") ||
           (!str_starts(location, "template:") && stem_length(base) < strlen(base));
}

const char *template_image_os(const char *location)
{
    const char *base = path_base(location);

    if (has_word(base, "freebsd")) {
        return "FreeBSD";
    }
    if (has_word(base, "macos") || str_ends(base, ".ipsw")) {
        return "Darwin";
    }
    return "Linux";
}

const char *template_image_arch(const char *location)
{
    const char *base = path_base(location);

    for (size_t i = 0; i < ARRAY_LEN(arch_words); i++) {
        if (has_word(base, arch_words[i].word)) {
            return arch_words[i].arch;
        }
    }
    return str_eq(template_image_os(location), "Darwin") ? "aarch64" : NULL;
}

static void remove_native_arch(char *name, const char *host_arch)
{
    for (size_t i = 0; i < ARRAY_LEN(arch_words); i++) {
        if (str_eq(arch_words[i].arch, host_arch)) {
            remove_word(name, arch_words[i].word);
        }
    }
}

char *template_image_name(const char *location, const char *host_arch)
{
    const char *base = path_base(location);
    char *name, *doubled;

    if (str_starts(location, "image:")) {
        return xstrdup(location + strlen("image:"));
    }
    name = xstrndup(base, stem_length(base));
    for (char *p = name; *p; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
    name = replace_prefix(name, "nocloud_", "");
    for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
        remove_word(name, tags[i]);
    }
    name = replace_prefix(name, "universalmac_", "macos-");
    doubled = strstr(name, "arm64-aarch64");
    if (doubled) {
        cut(doubled + strlen("arm64"), strlen("-aarch64"));
    }
    remove_native_arch(name, host_arch);
    remove_dates(name);
    if (strncmp(name, "arch", 4) == 0 && !is_word(name[4])) {
        name = replace_prefix(name, "arch", "archlinux");
    }
    collapse_versions(name);
    if (str_starts(name, "macos-")) {
        name[strlen("macos-") + strspn(name + strlen("macos-"), "0123456789.")] = '\0';
    }
    return name;
}
