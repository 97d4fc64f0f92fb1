/* SPDX-License-Identifier: Apache-2.0 */
#include "util/units.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/alloc.h"
#include "base/buf.h"

#define IDENTIFIER_MAX 76
#define DIGITS         "0123456789"

/* Length of "digits[.digits]" at @s with at least one digit, else 0. */
static size_t decimal_span(const char *s)
{
    size_t whole = strspn(s, DIGITS);
    size_t fraction = s[whole] == '.' ? strspn(s + whole + 1, DIGITS) : 0;

    if (whole + fraction == 0) {
        return 0;
    }
    return whole + (s[whole] == '.' ? 1 + fraction : 0);
}

/* The power of 1024 that a suffix stands for, or -1. */
static int size_suffix_power(const char *suffix)
{
    static const char letters[] = "kmgtp";
    const char *found;

    if (!*suffix || strcasecmp(suffix, "b") == 0) {
        return 0;
    }
    found = strchr(letters, tolower((unsigned char)*suffix));
    suffix++;
    if (!found || (*suffix && strcasecmp(suffix, "b") != 0 && strcasecmp(suffix, "ib") != 0)) {
        return -1;
    }
    return (int)(found - letters) + 1;
}

int size_parse(const char *text, int64_t *ret, struct error *err)
{
    size_t number = decimal_span(text);
    const char *suffix = text + number;
    long double value;
    int power;

    if (number == 0) {
        return error_set(err, EINVAL, "invalid size '%s': must be a number with an optional unit",
                         text);
    }
    suffix += *suffix == ' ';
    power = size_suffix_power(suffix);
    if (power < 0) {
        return error_set(err, EINVAL, "invalid size '%s': unknown unit '%s'", text, suffix);
    }

    value = ldexpl(strtold(text, NULL), 10 * power);
    if (value >= 0x1p63L) {
        return error_set(err, ERANGE, "invalid size '%s': too large", text);
    }
    *ret = (int64_t)value;
    return 0;
}

char *size_format(int64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t i = 0;

    while (fabs(value) >= 1024.0 && i < ARRAY_LEN(units) - 1) {
        value /= 1024.0;
        i++;
    }
    return xasprintf("%.4g%s", value, units[i]);
}

struct duration_unit {
    const char *name;
    int64_t ns;
};

static const struct duration_unit *duration_unit_find(const char *s, size_t len)
{
    static const struct duration_unit units[] = {
        {"ns", 1},           {"us", 1000},      {"\xc2\xb5s", 1000}, /* micro sign */
        {"\xce\xbcs", 1000},                                         /* Greek mu */
        {"ms", 1000000},     {"s", 1000000000}, {"m", 60000000000},  {"h", 3600000000000},
    };

    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (strlen(units[i].name) == len && memcmp(units[i].name, s, len) == 0) {
            return &units[i];
        }
    }
    return NULL;
}

int duration_parse(const char *text, int64_t *ret_ms, struct error *err)
{
    bool negative = *text == '-';
    const char *p = text + (*text == '-' || *text == '+');
    long double ns = 0;

    if (strcmp(p, "0") == 0) {
        *ret_ms = 0;
        return 0;
    }
    do {
        size_t number = decimal_span(p);
        size_t unit_len = strcspn(p + number, "." DIGITS);
        const struct duration_unit *unit = duration_unit_find(p + number, unit_len);

        if (number == 0 || !unit) {
            return error_set(err, EINVAL,
                             "invalid duration '%s': must be numbers with units such as '1h30m'",
                             text);
        }
        ns += strtold(p, NULL) * (long double)unit->ns;
        p += number + unit_len;
    } while (*p);

    if (ns >= 0x1p63L) {
        return error_set(err, EINVAL, "invalid duration '%s': too long", text);
    }
    *ret_ms = (int64_t)(ns / 1000000) * (negative ? -1 : 1);
    return 0;
}

char *duration_format(int64_t ms)
{
    scoped(buf_done) struct buf out = BUF_INIT;
    uint64_t left = ms < 0 ? -(uint64_t)ms : (uint64_t)ms;
    uint64_t minutes = left / 60000;

    buf_puts(&out, ms < 0 ? "-" : "");
    if (left > 0 && left < 1000) {
        buf_printf(&out, "%dms", (int)left);
        return buf_steal(&out);
    }
    if (minutes >= 60) {
        buf_printf(&out, "%lluh", (unsigned long long)(minutes / 60));
    }
    if (minutes > 0) {
        buf_printf(&out, "%dm", (int)(minutes % 60));
    }
    buf_printf(&out, "%.5gs", (double)(left % 60000) / 1000.0);
    return buf_steal(&out);
}

bool identifier_ok(const char *name)
{
    bool after_word = false;
    size_t len;

    for (len = 0; name[len]; len++) {
        unsigned char c = (unsigned char)name[len];
        bool word = isalnum(c) && c < 0x80;

        if (len >= IDENTIFIER_MAX || (!word && (!after_word || !strchr("._-", c)))) {
            return false;
        }
        after_word = word;
    }
    return after_word;
}

bool instance_name_ok(const char *name)
{
    static const char *const suffixes[] = {".yml", ".yaml"};
    size_t len = strlen(name);

    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        size_t suffix_len = strlen(suffixes[i]);

        if (len >= suffix_len && strcasecmp(name + len - suffix_len, suffixes[i]) == 0) {
            return false;
        }
    }
    return identifier_ok(name);
}

/* "v1.2.3.m-4-gabc" -> 1, 2, 3. */
static bool version_parse(const char *text, long ret[3])
{
    const char *p = text + (*text == 'v');

    for (int i = 0; i < 3; i++) {
        size_t len = strspn(p, DIGITS);

        if (len == 0 || len > 9) {
            return false;
        }
        ret[i] = strtol(p, NULL, 10);
        p += len;
        if (i < 2 && *p++ != '.') {
            return false;
        }
    }
    if (strncmp(p, ".m", 2) == 0) {
        p += 2;
    }
    return *p == '\0' || *p == '-';
}

bool version_ok(const char *text)
{
    long numbers[3];

    return version_parse(text, numbers);
}

int version_compare(const char *a, const char *b)
{
    long va[3], vb[3];
    bool ok_a = version_parse(a, va);
    bool ok_b = version_parse(b, vb);

    if (!*a || !*b) {
        return (*a != '\0') - (*b != '\0');
    }
    if (!ok_a || !ok_b) {
        return ok_b - ok_a;
    }
    for (int i = 0; i < 3; i++) {
        if (va[i] != vb[i]) {
            return va[i] < vb[i] ? -1 : 1;
        }
    }
    return strchr(a, '-') ? 1 : 0;
}
