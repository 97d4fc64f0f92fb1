/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys of lima.yaml: one row a key. The same row says how a value is read and checked, how the
 * layers of it combine, what it is when unset, where it stands in struct config, and how it is
 * printed again. All keys of the reference are here, those that are not yet honoured with the mark
 * SCHEMA_LATER.
 *
 * Read values live in a "normal tree": a jv of the same shape as the file in which every value has
 * the type of its row, nulls and unknown keys are gone, and each item of a list of maps carries its
 * place in the source below SCHEMA_PLACE.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "config/check.h"

#define SCHEMA_PLACE "@" /* key of a list item's place: "lima.yaml:3:1" */

/* Type: in the file -> in a normal tree -> in the struct. */
enum schema_type {
    SCHEMA_BOOL,      /* true or false -> boolean -> bool */
    SCHEMA_INT,       /* integer within min..max -> number -> int */
    SCHEMA_UINT,      /* the same -> unsigned */
    SCHEMA_TEXT,      /* any scalar -> string -> char * */
    SCHEMA_ENUM,      /* one of names -> string -> int, index of names */
    SCHEMA_SIZE,      /* "4GiB" -> string -> int64_t bytes */
    SCHEMA_ADDRESS,   /* IP address -> string -> struct config_address */
    SCHEMA_PORTS,     /* [first, last] -> array of two numbers -> int, int */
    SCHEMA_MAP,       /* map of texts -> object of strings -> struct config_pairs */
    SCHEMA_ARCH_TEXT, /* the same, by architecture -> char *, the instance's one */
    SCHEMA_TEXTS,     /* list of texts -> array of strings -> struct strv */
    SCHEMA_FREE,      /* any map -> object; in no struct */
    SCHEMA_OBJECT,    /* map of known keys -> object -> the struct's own members */
    SCHEMA_LIST,      /* list of such maps -> array of objects -> array and count */
    SCHEMA_TYPE_COUNT,
};

enum schema_use {
    SCHEMA_HONOURED,
    SCHEMA_LATER,   /* known; warns when set to something that would have an effect */
    SCHEMA_IDLE,    /* known; has no effect here on its own, so no warning */
    SCHEMA_MISUSED, /* left for validate, which says why it cannot stand here */
};

/* Defaults that depend on the host or the instance: see defaults.c. */
enum schema_host {
    SCHEMA_HOST_NONE,
    SCHEMA_HOST_ARCH,
    SCHEMA_HOST_CPUS,
    SCHEMA_HOST_MEMORY,
    SCHEMA_HOST_TIMEZONE,
    SCHEMA_HOST_SSH_PORT,
    SCHEMA_HOST_USER,
    SCHEMA_HOST_USER_COMMENT,
    SCHEMA_HOST_USER_HOME,
    SCHEMA_HOST_USER_ID,
    SCHEMA_HOST_COUNT,
};

struct schema_object;

struct schema_row {
    const char *key;
    enum schema_type type;
    enum schema_use use;
    bool held;             /* has a place in the struct */
    size_t offset;         /* of it */
    bool optional;         /* an object that may be absent: */
    size_t present_offset; /* of the bool that says so */
    size_t count_offset;   /* of a list's size_t */
    bool own;    /* read only from the instance's own file, not from the layers around it */
    bool single; /* a list that a single item may stand for */
    const char *fallback;     /* value when unset, NULL for none */
    enum schema_host host;    /* the same, from the host */
    const char *const *unset; /* texts that mean "unset" */
    const char *inert;        /* of SCHEMA_LATER: one more value without effect */
    const char *successor;    /* of a deprecated key: what replaced it */
    const char *const *names; /* allowed texts, or keys of a SCHEMA_ARCH_TEXT */
    int64_t min, max;         /* of integers; both 0: any int */
    config_check_fn check;
    int (*check_pair)(const char *key, const char *value, struct error *err);
    const struct schema_object *object;
    const char *help;
};

struct schema_object {
    const struct schema_row *rows; /* ends with a NULL key */
    size_t size;                   /* of a list item's struct; 0 if it has none */
    const char *short_key;         /* key that a bare text stands for, or NULL */
};

/* The whole file. */
extern const struct schema_object schema_root;

/* The row of @key in @object, or NULL. */
const struct schema_row *schema_find(const struct schema_object *object, const char *key);
/* The key of @object most like @key, or NULL when none is near. */
const char *schema_suggest(const struct schema_object *object, const char *key);
/* Index of @text in the NULL-terminated @names, or -1. */
int schema_name_index(const char *const *names, const char *text);

/* Names by the enums of config.h. */
extern const char *const schema_protos[];
extern const char *const schema_conflicts[];
extern const char *const schema_mount_types[];
extern const char
    *const schema_provision_modes[]; /* the first CONFIG_PROVISION_BOOT + 1 are honoured */
