/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/names.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include "base/alloc.h"

struct name {
    char *name;
    char *value; /* another name; NULL: the address */
    struct config_address address;
};

struct dns_names {
    struct name *items;
    size_t len, cap;
};

bool dns_address_parse(const char *text, struct config_address *ret)
{
    struct config_address address = {.family = strchr(text, ':') ? AF_INET6 : AF_INET};

    if (inet_pton(address.family, text, &address.v6) != 1) {
        return false;
    }
    *ret = address;
    return true;
}

/* As a query has it: lower case, no last dot. The caller frees it. */
static char *normal(const char *name)
{
    char *copy = xstrdup(name);
    size_t len = strlen(copy);

    if (len && copy[len - 1] == '.') {
        copy[len - 1] = '\0';
    }
    for (char *c = copy; *c; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    return copy;
}

struct dns_names *dns_names_new(void)
{
    return xnew(struct dns_names);
}

static void name_done(struct name *item)
{
    free(item->name);
    free(item->value);
}

void dns_names_free(struct dns_names *names)
{
    if (!names) {
        return;
    }
    for (size_t i = 0; i < names->len; i++) {
        name_done(&names->items[i]);
    }
    free(names->items);
    free(names);
}

/* Index of the first that is not before @name; the items are in order. */
static size_t position(const struct dns_names *names, const char *name)
{
    size_t low = 0, high = names->len;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(names->items[middle].name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static const struct name *find(const struct dns_names *names, const char *name)
{
    size_t at = position(names, name);

    return at < names->len && strcmp(names->items[at].name, name) == 0 ? &names->items[at] : NULL;
}

void dns_names_add(struct dns_names *names, const char *name, const char *value)
{
    struct name item = {.name = normal(name)};
    size_t at = position(names, item.name);

    if (!dns_address_parse(value, &item.address)) {
        item.value = normal(value);
    }
    if (at < names->len && strcmp(names->items[at].name, item.name) == 0) {
        name_done(&names->items[at]);
    } else {
        array_reserve(names->items, names->cap, names->len + 1);
        memmove(&names->items[at + 1], &names->items[at],
                (names->len - at) * sizeof(names->items[0]));
        names->len++;
    }
    names->items[at] = item;
}

enum dns_names_result dns_names_find(const struct dns_names *names, const char *name,
                                     struct dns_names_found *ret)
{
    const struct name *item = find(names, name);

    if (!item) {
        return DNS_NAMES_NONE;
    }
    *ret = (struct dns_names_found){.alias = item->value, .target = item->value};
    /* A chain without a circle has no more links than there are names. */
    for (size_t links = 0; links <= names->len; links++) {
        if (!item) {
            return DNS_NAMES_OUTSIDE;
        }
        if (!item->value) {
            ret->address = item->address;
            return DNS_NAMES_ADDRESS;
        }
        ret->target = item->value;
        item = find(names, item->value);
    }
    return DNS_NAMES_NOWHERE;
}

static bool same_address(const struct config_address *a, const struct config_address *b)
{
    return a->family == b->family && memcmp(&a->v6, &b->v6, a->family == AF_INET6 ? 16 : 4) == 0;
}

const char *dns_names_of(const struct dns_names *names, const struct config_address *address)
{
    for (size_t i = 0; i < names->len; i++) {
        if (!names->items[i].value && same_address(&names->items[i].address, address)) {
            return names->items[i].name;
        }
    }
    return NULL;
}
