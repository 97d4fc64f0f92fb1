/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/hosts.h"

#include <ctype.h>
#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "dns/names.h"
#include "util/file.h"

#define HOSTS_MAX    (64u << 20)
#define NSSWITCH_MAX (1u << 20)
#define BLANKS       " \t\r\f\v"

struct entry {
    const char *name; /* in text */
    size_t order;     /* in the file */
    struct config_address address;
};

struct dns_hosts {
    char *text;
    struct entry *entries; /* by name, then as in the file */
    size_t len, cap;
    struct config_address *addresses; /* of the entries, side by side */
};

static char *normal(char *name)
{
    size_t len = strlen(name);

    if (len && name[len - 1] == '.') {
        name[len - 1] = '\0';
    }
    for (char *c = name; *c; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    return name;
}

static void add_line(struct dns_hosts *hosts, char *line)
{
    struct config_address address;
    char *save = NULL;
    char *word;

    line[strcspn(line, "#")] = '\0';
    word = strtok_r(line, BLANKS, &save);
    if (!word || !dns_address_parse(word, &address)) {
        return;
    }
    while ((word = strtok_r(NULL, BLANKS, &save))) {
        array_reserve(hosts->entries, hosts->cap, hosts->len + 1);
        hosts->entries[hosts->len] =
            (struct entry){.name = normal(word), .order = hosts->len, .address = address};
        hosts->len++;
    }
}

static int compare(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    int r = strcmp(a->name, b->name);

    return r ? r : (a->order > b->order) - (a->order < b->order);
}

/* An address that two lines give to one name counts once. */
static bool repeats(const struct dns_hosts *hosts, size_t at)
{
    const struct entry *entry = &hosts->entries[at];

    for (size_t i = at; i-- > 0 && strcmp(hosts->entries[i].name, entry->name) == 0;) {
        if (memcmp(&hosts->entries[i].address, &entry->address, sizeof(entry->address)) == 0) {
            return true;
        }
    }
    return false;
}

static void seal(struct dns_hosts *hosts)
{
    size_t kept = 0;

    if (hosts->len) {
        qsort(hosts->entries, hosts->len, sizeof(hosts->entries[0]), compare);
    }
    hosts->addresses = xnew_n(struct config_address, MAX(hosts->len, 1u));
    for (size_t i = 0; i < hosts->len; i++) {
        struct entry entry = hosts->entries[i];

        hosts->entries[kept] = entry;
        hosts->addresses[kept] = entry.address;
        kept += !repeats(hosts, kept);
    }
    hosts->len = kept;
}

struct dns_hosts *dns_hosts_parse(char *take_text)
{
    struct dns_hosts *hosts = xnew(struct dns_hosts);
    char *save = NULL;

    hosts->text = take_text;
    for (char *line = strtok_r(take_text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        add_line(hosts, line);
    }
    seal(hosts);
    return hosts;
}

struct dns_hosts *dns_hosts_load(const char *path)
{
    scoped(buf_done) struct buf text = BUF_INIT;
    scoped(error_done) struct error err = ERROR_INIT;

    if (file_read(path, HOSTS_MAX, &text, &err) < 0) {
        log_error_of(LOG_LEVEL_DEBUG, &err, "no table of names, ignoring");
    }
    return dns_hosts_parse(buf_steal(&text));
}

void dns_hosts_free(struct dns_hosts *hosts)
{
    if (hosts) {
        free(hosts->entries);
        free(hosts->addresses);
        free(hosts->text);
        free(hosts);
    }
}

size_t dns_hosts_find(const struct dns_hosts *hosts, const char *name,
                      const struct config_address **ret)
{
    size_t low = 0, high = hosts->len, count = 0;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(hosts->entries[middle].name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    while (low + count < hosts->len && strcmp(hosts->entries[low + count].name, name) == 0) {
        count++;
    }
    if (count) {
        *ret = &hosts->addresses[low];
    }
    return count;
}

/* @words: the services and what to do after each, such as "files mdns4_minimal [NOTFOUND=return]
 * dns" */
static enum dns_hosts_place place_in(const char *words)
{
    static const char files[] = "files";

    for (bool first = true; *words && *words != '\n' && *words != '#'; first = false) {
        size_t len = strcspn(words, BLANKS "\n[#");
        bool found = len == strlen(files) && strncmp(words, files, len) == 0;

        words += len;
        words += strspn(words, BLANKS);
        if (found) { /* an action may say to go on after a find */
            return first && *words != '[' ? DNS_HOSTS_FIRST : DNS_HOSTS_LATER;
        }
        while (*words == '[') {
            words += strcspn(words, "]\n");
            words += *words == ']';
            words += strspn(words, BLANKS);
        }
    }
    return DNS_HOSTS_NEVER;
}

enum dns_hosts_place dns_hosts_place_parse(const char *text)
{
    static const char key[] = "hosts:";

    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        const char *word = line + strspn(line, BLANKS);

        if (strncmp(word, key, strlen(key)) == 0) {
            word += strlen(key);
            return place_in(word + strspn(word, BLANKS));
        }
    }
    return DNS_HOSTS_LATER;
}

enum dns_hosts_place dns_hosts_place_load(const char *path)
{
    scoped(buf_done) struct buf text = BUF_INIT;
    int r = file_read(path, NSSWITCH_MAX, &text, NULL);

    return dns_hosts_place_parse(r < 0 ? "" : buf_str(&text));
}
