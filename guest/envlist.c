/* SPDX-License-Identifier: Apache-2.0 */
#include "envlist.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include "base/alloc.h"

void envlist_done(struct envlist *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i]);
    }
    free(list->items);
    *list = (struct envlist){0};
}

static char **find(const struct envlist *list, const char *key, size_t key_len)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strncmp(list->items[i], key, key_len) == 0 && list->items[i][key_len] == '=') {
            return &list->items[i];
        }
    }
    return NULL;
}

static void put(struct envlist *list, const char *key, size_t key_len, const char *value,
                size_t value_len)
{
    char **old = find(list, key, key_len);
    char *item = xasprintf("%.*s=%.*s", (int)key_len, key, (int)value_len, value);

    if (old) {
        free(*old);
        *old = item;
        return;
    }
    array_reserve(list->items, list->cap, list->count + 2);
    list->items[list->count++] = item;
    list->items[list->count] = NULL;
}

void envlist_set(struct envlist *list, const char *key, const char *value)
{
    put(list, key, strlen(key), value, strlen(value));
}

const char *envlist_get(const struct envlist *list, const char *key)
{
    size_t len = strlen(key);
    char **item = find(list, key, len);

    return item ? *item + len + 1 : NULL;
}

const char *envlist_text(const struct envlist *list, const char *key)
{
    const char *value = envlist_get(list, key);

    return value ? value : "";
}

void envlist_merge(struct envlist *list, const struct envlist *from, const char *prefix)
{
    for (size_t i = 0; i < from->count; i++) {
        const char *item = from->items[i];
        size_t key_len = strcspn(item, "=");

        if (strncmp(item, prefix, strlen(prefix)) == 0) {
            put(list, item, key_len, item + key_len + 1, strlen(item + key_len + 1));
        }
    }
}

static bool key_ok(const char *key, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (key[i] != '_' && !isalpha((unsigned char)key[i]) &&
            !(i && isdigit((unsigned char)key[i]))) {
            return false;
        }
    }
    return len > 0;
}

int envlist_parse(struct envlist *list, const char *text, const char *name, struct error *err)
{
    size_t number = 1;

    for (; *text; number++) {
        size_t len = strcspn(text, "\n");
        const char *equals = memchr(text, '=', len);

        if (len && *text != '#') {
            if (!equals || !key_ok(text, (size_t)(equals - text))) {
                return error_set(err, EINVAL, "'%s' line %zu is not KEY=VALUE", name, number);
            }
            if (list->count >= ENVLIST_MAX) {
                return error_set(err, E2BIG, "'%s' has more than %d lines", name, ENVLIST_MAX);
            }
            put(list, text, (size_t)(equals - text), equals + 1, len - (size_t)(equals + 1 - text));
        }
        text += len + (text[len] == '\n');
    }
    return 0;
}

static void parse_lenient_line(struct envlist *list, const char *line, size_t len)
{
    const char *end = line + len;
    const char *equals;

    while (line < end && isspace((unsigned char)*line)) {
        line++;
    }
    if (end - line > 7 && strncmp(line, "export ", 7) == 0) {
        line += 7;
    }
    equals = memchr(line, '=', (size_t)(end - line));
    if (!equals || !key_ok(line, (size_t)(equals - line)) || list->count >= ENVLIST_MAX) {
        return;
    }
    while (end > equals + 1 && isspace((unsigned char)end[-1])) {
        end--;
    }
    len = (size_t)(end - equals - 1);
    if (len && (equals[1] == '"' || equals[1] == '\'')) {
        bool closed = len > 1 && (end[-1] == '"' || end[-1] == '\'');

        put(list, line, (size_t)(equals - line), equals + 2, len - 1 - closed);
        return;
    }
    put(list, line, (size_t)(equals - line), equals + 1, len);
}

void envlist_parse_lenient(struct envlist *list, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\n");

        parse_lenient_line(list, text, MIN(len, strcspn(text, "#\n")));
        text += len + (text[len] == '\n');
    }
}
