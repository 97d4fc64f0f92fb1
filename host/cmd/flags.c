/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/flags.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "util/units.h"

struct entry {
    struct cmd_flag flag;
    bool given;
    struct strv values;
};

struct section {
    const char *title;
    size_t first; /* of entries */
};

struct cmd_flags {
    struct entry *entries;
    size_t len, cap;
    struct section *sections;
    size_t section_count, section_cap;
};

struct cmd_flags *cmd_flags_new(void)
{
    return xnew(struct cmd_flags);
}

void cmd_flags_free(struct cmd_flags *flags)
{
    if (!flags) {
        return;
    }
    for (size_t i = 0; i < flags->len; i++) {
        strv_done(&flags->entries[i].values);
    }
    free(flags->entries);
    free(flags->sections);
    free(flags);
}

static struct entry *find_name(const struct cmd_flags *flags, const char *name, size_t len)
{
    for (size_t i = 0; i < flags->len; i++) {
        const char *have = flags->entries[i].flag.name;

        if (strncmp(have, name, len) == 0 && !have[len]) {
            return &flags->entries[i];
        }
    }
    return NULL;
}

static struct entry *find_shorthand(const struct cmd_flags *flags, char c)
{
    for (size_t i = 0; i < flags->len; i++) {
        if (flags->entries[i].flag.shorthand == c) {
            return &flags->entries[i];
        }
    }
    return NULL;
}

static struct entry *get(const struct cmd_flags *flags, const char *name)
{
    struct entry *e = find_name(flags, name, strlen(name));

    assert(e); /* the command asks for a flag that its table lacks */
    return e;
}

void cmd_flags_add(struct cmd_flags *flags, const char *section, const struct cmd_flag *table)
{
    if (flags->section_count == 0 ||
        !str_eq(flags->sections[flags->section_count - 1].title, section)) {
        array_reserve(flags->sections, flags->section_cap, flags->section_count + 1);
        flags->sections[flags->section_count++] = (struct section){section, flags->len};
    }
    for (; table->name; table++) {
        assert(!find_name(flags, table->name, strlen(table->name)));
        array_reserve(flags->entries, flags->cap, flags->len + 1);
        flags->entries[flags->len++] = (struct entry){.flag = *table};
    }
}

/* --- checking and storing --- */

static int parse_bool(const char *text, bool *ret)
{
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
    static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False"};

    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (str_eq(text, yes[i]) || str_eq(text, no[i])) {
            *ret = str_eq(text, yes[i]);
            return 0;
        }
    }
    return -EINVAL;
}

static int parse_int(const char *text, int64_t *ret)
{
    const char *digits = text + (*text == '-' || *text == '+');
    int base = 10;
    char *end;
    long long value;

    if (digits[0] == '0' && digits[1]) {
        char c = (char)tolower((unsigned char)digits[1]);

        base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
        digits += base == 10 ? 0 : 2;
    }
    if (!isxdigit((unsigned char)*digits)) {
        return -EINVAL;
    }
    errno = 0;
    value = strtoll(digits, &end, base);
    if (errno || *end) {
        return -EINVAL;
    }
    *ret = *text == '-' ? -value : value;
    return 0;
}

static int parse_float(const char *text, double *ret)
{
    char *end;

    if (!*text || isspace((unsigned char)*text)) {
        return -EINVAL;
    }
    errno = 0;
    *ret = strtod(text, &end);
    return errno || *end || !(*ret - *ret == 0) ? -EINVAL : 0;
}

static const char *check_bool(const char *text)
{
    bool b;

    return parse_bool(text, &b) < 0 ? "expected true or false" : NULL;
}

static const char *check_int(const char *text)
{
    int64_t n;

    return parse_int(text, &n) < 0 || n < INT32_MIN || n > INT32_MAX ? "expected a whole number"
                                                                     : NULL;
}

static const char *check_port(const char *text)
{
    int64_t n;

    return parse_int(text, &n) < 0 || n < 0 || n > 65535 ? "expected a number from 0 to 65535"
                                                         : NULL;
}

static const char *check_float(const char *text)
{
    double f;

    return parse_float(text, &f) < 0 ? "expected a number" : NULL;
}

static const char *check_duration(const char *text)
{
    int64_t ms;

    return duration_parse(text, &ms, NULL) < 0 ? "expected a duration such as 10m0s or 90s" : NULL;
}

/* How each type is checked and named in the help. check: NULL if the text is fine, else the reason.
 */
static const struct {
    const char *word;
    const char *(*check)(const char *text);
} types[] = {
    [CMD_FLAG_BOOL] = {"", check_bool},        [CMD_FLAG_STRING] = {"string", NULL},
    [CMD_FLAG_INT] = {"int", check_int},       [CMD_FLAG_PORT] = {"uint16", check_port},
    [CMD_FLAG_FLOAT] = {"float", check_float}, [CMD_FLAG_DURATION] = {"duration", check_duration},
    [CMD_FLAG_LIST] = {"strings", NULL},       [CMD_FLAG_ARRAY] = {"stringArray", NULL},
};

static int refuse(const struct cmd_flag *flag, const char *value, const char *reason,
                  struct error *err)
{
    if (flag->shorthand) {
        return error_set(err, EINVAL, "invalid argument \"%s\" for \"-%c, --%s\" flag: %s", value,
                         flag->shorthand, flag->name, reason);
    }
    return error_set(err, EINVAL, "invalid argument \"%s\" for \"--%s\" flag: %s", value,
                     flag->name, reason);
}

static int store(struct entry *e, const char *value, struct error *err)
{
    const char *reason = types[e->flag.type].check ? types[e->flag.type].check(value) : NULL;

    if (reason) {
        return refuse(&e->flag, value, reason, err);
    }
    e->given = true;
    if (e->flag.type != CMD_FLAG_LIST) {
        strv_add(&e->values, value);
    } else if (*value) {
        strv_split(&e->values, value, ',');
    }
    return 0;
}

/* --- reading words --- */

/* Both readers return how many words they used, or -errno. */
static int read_long(struct cmd_flags *flags, const char *word, const char *next, struct error *err)
{
    const char *name = word + 2;
    size_t len = strcspn(name, "=");
    struct entry *e = find_name(flags, name, len);
    int r;

    if (len == 0 || *name == '-') {
        return error_set(err, EINVAL, "bad flag syntax: %s", word);
    }
    if (!e) {
        return error_set(err, EINVAL, "unknown flag: --%.*s", (int)len, name);
    }
    if (name[len] == '=') {
        r = store(e, name + len + 1, err);
        return r < 0 ? r : 1;
    }
    if (e->flag.type == CMD_FLAG_BOOL) {
        r = store(e, "true", err);
        return r < 0 ? r : 1;
    }
    if (!next) {
        return error_set(err, EINVAL, "flag needs an argument: --%s", e->flag.name);
    }
    r = store(e, next, err);
    return r < 0 ? r : 2;
}

static int read_short(struct cmd_flags *flags, const char *word, const char *next,
                      struct error *err)
{
    int r;

    for (const char *c = word + 1; *c; c++) {
        struct entry *e = find_shorthand(flags, *c);

        if (!e) {
            return error_set(err, EINVAL, "unknown shorthand flag: '%c' in %s", *c, word);
        }
        if (c[1] == '=') {
            r = store(e, c + 2, err);
            return r < 0 ? r : 1;
        }
        if (e->flag.type == CMD_FLAG_BOOL) {
            r = store(e, "true", err);
            if (r < 0) {
                return r;
            }
            continue;
        }
        if (c[1]) {
            r = store(e, c + 1, err);
            return r < 0 ? r : 1;
        }
        if (!next) {
            return error_set(err, EINVAL, "flag needs an argument: '%c' in %s", *c, word);
        }
        r = store(e, next, err);
        return r < 0 ? r : 2;
    }
    return 1;
}

static void take_rest(const struct strv *words, size_t i, struct strv *ret_args)
{
    for (; i < words->len; i++) {
        strv_add(ret_args, words->items[i]);
    }
}

int cmd_flags_parse(struct cmd_flags *flags, const struct strv *words, size_t first,
                    enum cmd_flags_mode mode, struct strv *ret_args, struct error *err)
{
    size_t i = first;

    while (i < words->len) {
        const char *word = words->items[i];
        const char *next = i + 1 < words->len ? words->items[i + 1] : NULL;
        int used;

        if (str_eq(word, "--") && mode != CMD_FLAGS_BEFORE_ARG) {
            take_rest(words, i + 1, ret_args);
            return (int)words->len;
        }
        if (word[0] != '-' || !word[1] || str_eq(word, "--")) {
            if (mode == CMD_FLAGS_BEFORE_ARG) {
                return (int)i;
            }
            if (mode == CMD_FLAGS_STOP_AT_ARG) {
                take_rest(words, i, ret_args);
                return (int)words->len;
            }
            strv_add(ret_args, word);
            i++;
            continue;
        }
        used =
            word[1] == '-' ? read_long(flags, word, next, err) : read_short(flags, word, next, err);
        if (used < 0) {
            return used;
        }
        i += (size_t)used;
    }
    return (int)i;
}

/* --- asking --- */

bool cmd_flags_has(const struct cmd_flags *flags, const char *name)
{
    return find_name(flags, name, strlen(name)) != NULL;
}

bool cmd_flags_given(const struct cmd_flags *flags, const char *name)
{
    return get(flags, name)->given;
}

const char *cmd_flags_text(const struct cmd_flags *flags, const char *name)
{
    const struct entry *e = get(flags, name);

    return e->values.len ? e->values.items[e->values.len - 1] : e->flag.value;
}

bool cmd_flags_bool(const struct cmd_flags *flags, const char *name)
{
    const char *text = cmd_flags_text(flags, name);
    bool value = false;

    if (text) {
        parse_bool(text, &value);
    }
    return value;
}

int64_t cmd_flags_int(const struct cmd_flags *flags, const char *name)
{
    const char *text = cmd_flags_text(flags, name);
    int64_t value = 0;

    if (text) {
        parse_int(text, &value);
    }
    return value;
}

int64_t cmd_flags_duration_ms(const struct cmd_flags *flags, const char *name)
{
    const char *text = cmd_flags_text(flags, name);
    int64_t value = 0;

    if (text) {
        duration_parse(text, &value, NULL);
    }
    return value;
}

const struct strv *cmd_flags_list(const struct cmd_flags *flags, const char *name)
{
    return &get(flags, name)->values;
}

/* --- help --- */

/* "  -f, --format string": the left column of a flag. Caller frees. */
static char *left_column(const struct cmd_flag *flag)
{
    const char *quote = strchr(flag->help, '`');
    const char *end = quote ? strchr(quote + 1, '`') : NULL;
    char shorthand[] = {'-', flag->shorthand, ',', '\0'};
    scoped(free) char *word =
        end ? xstrndup(quote + 1, (size_t)(end - quote - 1)) : xstrdup(types[flag->type].word);

    return xasprintf("  %3s --%s%s%s", flag->shorthand ? shorthand : "", flag->name,
                     *word ? " " : "", word);
}

static void put_help(struct buf *out, const struct cmd_flag *flag, size_t width)
{
    scoped(free) char *left = left_column(flag);
    bool first = true;

    buf_printf(out, "%-*s   ", (int)width, left);
    for (const char *c = flag->help; *c; c++) {
        if (*c != '`') {
            buf_putc(out, first ? (char)toupper((unsigned char)*c) : *c);
            first = false;
        }
    }
    if (flag->value && *flag->value && !str_eq(flag->value, "false")) {
        bool quoted = flag->type == CMD_FLAG_STRING;

        buf_printf(out, quoted ? " (default \"%s\")" : " (default %s)", flag->value);
    }
    buf_putc(out, '\n');
}

static size_t section_end(const struct cmd_flags *flags, size_t section)
{
    return section + 1 < flags->section_count ? flags->sections[section + 1].first : flags->len;
}

static size_t left_width(const struct cmd_flags *flags, size_t section)
{
    size_t width = 0;

    for (size_t i = flags->sections[section].first; i < section_end(flags, section); i++) {
        if (!flags->entries[i].flag.hidden) {
            scoped(free) char *left = left_column(&flags->entries[i].flag);

            width = MAX(width, strlen(left));
        }
    }
    return width;
}

void cmd_flags_help(const struct cmd_flags *flags, struct buf *out)
{
    for (size_t s = 0; s < flags->section_count; s++) {
        size_t width = left_width(flags, s);

        if (width == 0) {
            continue;
        }
        buf_printf(out, "\n%s:\n", flags->sections[s].title);
        for (size_t i = flags->sections[s].first; i < section_end(flags, s); i++) {
            if (!flags->entries[i].flag.hidden) {
                put_help(out, &flags->entries[i].flag, width);
            }
        }
    }
}
