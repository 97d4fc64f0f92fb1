/* SPDX-License-Identifier: Apache-2.0 */
#include "config/check.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "util/digest.h"
#include "util/strv.h"
#include "util/units.h"

#define MACHINE_SIZE_MIN (1 << 20)
#define HOST_LABEL_MAX   63
#define HOST_TEXT_MAX    253
#define ZONE_CHARS       "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/_+-."

/* C0 and C1 controls but tab, and the line separators, in UTF-8. */
static bool has_unprintable(const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        bool c0 = (*p < 0x20 && *p != '\t') || *p == 0x7f;
        bool c1 = *p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;
        bool separator = *p == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9);

        if (c0 || c1 || separator) {
            return true;
        }
    }
    return false;
}

int config_check_absolute(const char *text, struct error *err)
{
    if (text[0] != '/' || has_unprintable(text)) {
        return error_set(err, EINVAL, "must be an absolute path, not '%s'", text);
    }
    return 0;
}

int config_check_address(const char *text, struct error *err)
{
    struct in6_addr address;

    if (inet_pton(AF_INET, text, &address) != 1 && inet_pton(AF_INET6, text, &address) != 1) {
        return error_set(err, EINVAL, "must be an IPv4 or IPv6 address, not '%s'", text);
    }
    return 0;
}

int config_check_comment(const char *text, struct error *err)
{
    if (strchr(text, ':') || has_unprintable(text)) {
        return error_set(err, EINVAL, "must be printable and without ':', not '%s'", text);
    }
    return 0;
}

int config_check_digest(const char *text, struct error *err)
{
    return digest_validate(text, err);
}

int config_check_identifier(const char *text, struct error *err)
{
    if (!identifier_ok(text)) {
        return error_set(err, EINVAL,
                         "must be letters and digits, joined by single '.', '_' or '-', not '%s'",
                         text);
    }
    return 0;
}

int config_check_location(const char *text, struct error *err)
{
    if (str_starts(text, "image:") && !identifier_ok(text + strlen("image:"))) {
        return error_set(err, EINVAL, "must name an image behind 'image:', not '%s'", text);
    }
    if (text[0] == '~' && text[1] != '\0' && text[1] != '/') {
        return error_set(err, EINVAL,
                         "must be a URL or a path ('~user' is not understood), not '%s'", text);
    }
    return 0;
}

int config_check_size(const char *text, struct error *err)
{
    int64_t bytes;
    int r = size_parse(text, &bytes, NULL);

    if (r < 0) {
        return error_set(err, EINVAL, "must be a size such as '4GiB', not '%s'", text);
    }
    return 0;
}

int config_check_machine_size(const char *text, struct error *err)
{
    int64_t bytes;

    if (size_parse(text, &bytes, NULL) < 0) {
        return config_check_size(text, err);
    }
    if (bytes < MACHINE_SIZE_MIN) {
        return error_set(err, EINVAL,
                         "must be 1MiB or more, not '%s' (a number without a unit counts bytes)",
                         text);
    }
    return 0;
}

int config_check_port(const char *text, struct error *err)
{
    long port = strtol(text, NULL, 10);

    if (port < 0 || port > 65535 || port == 22) {
        return error_set(err, EINVAL, "must be a port from 1 to 65535 and not 22, not %s", text);
    }
    return 0;
}

int config_check_timezone(const char *text, struct error *err)
{
    if (text[0] == '/' || strstr(text, "..") || strspn(text, ZONE_CHARS) != strlen(text)) {
        return error_set(err, EINVAL, "must be a zone such as 'Europe/Berlin', not '%s'", text);
    }
    return 0;
}

int config_check_user(const char *text, struct error *err)
{
    size_t len = strlen(text);

    if (strcmp(text, "root") == 0) {
        return error_set(err, EINVAL, "must be a user of its own, not 'root'");
    }
    if (text[0] == '-' || strcspn(text, ":/ \t\n,\"'\\") != len) {
        return error_set(err, EINVAL, "must be a user name without blanks, ':' and '/', not '%s'",
                         text);
    }
    return 0;
}

int config_check_version(const char *text, struct error *err)
{
    if (!version_ok(text)) {
        return error_set(err, EINVAL, "must be a version such as '1.0.0', not '%s'", text);
    }
    return 0;
}

int config_check_env(const char *key, const char *value, struct error *err)
{
    for (const char *p = key; *p; p++) {
        if (isspace((unsigned char)*p) || iscntrl((unsigned char)*p) || *p == '=') {
            return error_set(err, EINVAL, "name must have no blanks and no '='");
        }
    }
    if (!*key) {
        return error_set(err, EINVAL, "name must not be empty");
    }
    if (strpbrk(value, "\r\n")) {
        return error_set(err, EINVAL, "value must be one line");
    }
    return 0;
}

/* Letters, digits, '-' and '_' in labels of 1 to 63 characters, 253 in all; a last dot may be. */
static bool is_host_name(const char *text)
{
    size_t len = strlen(text), label = 0;

    if (len && text[len - 1] == '.') {
        len--;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c == '.' ? label == 0 : !isalnum(c) && c != '-' && c != '_') {
            return false;
        }
        label = c == '.' ? 0 : label + 1;
        if (label > HOST_LABEL_MAX) {
            return false;
        }
    }
    return label > 0 && len <= HOST_TEXT_MAX;
}

int config_check_host(const char *key, const char *value, struct error *err)
{
    if (!is_host_name(key)) {
        return error_set(err, EINVAL, "name must be a host name");
    }
    if (config_check_address(value, NULL) < 0 && !is_host_name(value)) {
        return error_set(err, EINVAL, "value must be an IP address or a host name, not '%s'",
                         value);
    }
    return 0;
}

int config_check_param(const char *key, const char *value, struct error *err)
{
    bool ok = isalpha((unsigned char)*key);

    for (const char *p = key; *p; p++) {
        ok = ok && (isalnum((unsigned char)*p) || *p == '_');
    }
    if (!ok) {
        return error_set(err, EINVAL, "name must be a letter, then letters, digits and '_'");
    }
    if (has_unprintable(value)) {
        return error_set(err, EINVAL, "value must have only printable characters, blanks and tabs");
    }
    return 0;
}
