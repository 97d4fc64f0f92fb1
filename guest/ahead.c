/* SPDX-License-Identifier: Apache-2.0 */
#include "ahead.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include "base/alloc.h"
#include "lima/mount.h"

#define FOLDERS     256 /* the number of a node says which place it takes */
#define NAMES_LEAST 64
#define NAMES_MAX   65536 /* in one folder: beyond, the host is asked */
#define USER_PREFIX "user."

struct folder {
    uint64_t node; /* 0: none */
    bool has_attr;
    struct fuse_attr_out attr;
    uint32_t *names; /* hashes of those that may be there; 0: no name. NULL: any may be */
    size_t names_len, names_count;
};

struct ahead {
    bool xattr;
    struct folder folders[FOLDERS];
};

/* --- folders --- */

static void folder_clear(struct folder *folder)
{
    free(folder->names);
    *folder = (struct folder){0};
}

/* NULL: nothing is known of it. */
static struct folder *find(struct ahead *ahead, uint64_t node)
{
    struct folder *folder = &ahead->folders[node % FOLDERS];

    return node && folder->node == node ? folder : NULL;
}

static struct folder *take_place(struct ahead *ahead, uint64_t node)
{
    struct folder *folder = &ahead->folders[node % FOLDERS];

    if (folder->node != node) {
        folder_clear(folder);
        folder->node = node;
    }
    return folder;
}

static void forget(struct ahead *ahead, uint64_t node)
{
    struct folder *folder = find(ahead, node);

    if (folder) {
        folder_clear(folder);
    }
}

/* --- names --- */

static uint32_t hash_name(const char *name, size_t len) /* FNV-1a, never 0 */
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (uint8_t)name[i]) * 16777619u;
    }
    return hash ? hash : 1;
}

/* Where it is, or would be. */
static uint32_t *name_slot(uint32_t *names, size_t len, uint32_t hash)
{
    size_t i = hash & (len - 1);

    while (names[i] && names[i] != hash) {
        i = (i + 1) & (len - 1);
    }
    return &names[i];
}

static void names_grow(struct folder *folder)
{
    size_t len = folder->names_len * 2;
    uint32_t *names = xnew_n(uint32_t, len);

    for (size_t i = 0; i < folder->names_len; i++) {
        if (folder->names[i]) {
            *name_slot(names, len, folder->names[i]) = folder->names[i];
        }
    }
    free(folder->names);
    folder->names = names;
    folder->names_len = len;
}

static void names_begin(struct folder *folder)
{
    free(folder->names);
    folder->names = xnew_n(uint32_t, NAMES_LEAST);
    folder->names_len = NAMES_LEAST;
    folder->names_count = 0;
}

static bool may_have(const struct folder *folder, const char *name, size_t len)
{
    return !folder->names || *name_slot(folder->names, folder->names_len, hash_name(name, len));
}

static void note_name(struct ahead *ahead, uint64_t node, const char *name, size_t len)
{
    struct folder *folder = find(ahead, node);
    uint32_t hash = hash_name(name, len);
    uint32_t *slot;

    if (!folder || !folder->names) {
        return;
    }
    slot = name_slot(folder->names, folder->names_len, hash);
    if (*slot) {
        return;
    }
    *slot = hash;
    if (++folder->names_count > NAMES_MAX) {
        free(steal(folder->names));
    } else if (folder->names_count * 2 > folder->names_len) {
        names_grow(folder);
    }
}

/* --- what the host says --- */

struct ahead *ahead_new(void)
{
    return xnew(struct ahead);
}

void ahead_free(struct ahead *ahead)
{
    if (ahead) {
        ahead_clear(ahead);
        free(ahead);
    }
}

static void forget_all(struct ahead *ahead)
{
    for (size_t i = 0; i < FOLDERS; i++) {
        folder_clear(&ahead->folders[i]);
    }
}

void ahead_clear(struct ahead *ahead)
{
    forget_all(ahead);
    ahead->xattr = false;
}

static void take_attr(struct ahead *ahead, uint64_t node, const uint8_t *data, size_t len)
{
    struct folder *folder;

    if (len < sizeof(folder->attr)) {
        forget(ahead, node);
        return;
    }
    folder = take_place(ahead, node);
    memcpy(&folder->attr, data, sizeof(folder->attr));
    folder->has_attr = true;
}

void ahead_take(struct ahead *ahead, const void *message, size_t len)
{
    const uint8_t *at = (const uint8_t *)message + sizeof(struct fuse_out_header);
    struct lima_ahead head;

    if (len < sizeof(struct fuse_out_header) + sizeof(head)) {
        forget_all(ahead);
        return;
    }
    memcpy(&head, at, sizeof(head));
    if (head.kind == LIMA_AHEAD_XATTR) {
        ahead->xattr = true;
    } else if (!head.node) {
        forget_all(ahead);
    } else if (head.kind == LIMA_AHEAD_ATTR) {
        take_attr(ahead, head.node, at + sizeof(head),
                  len - sizeof(struct fuse_out_header) - sizeof(head));
    } else if (head.kind == LIMA_AHEAD_EMPTY) {
        names_begin(take_place(ahead, head.node));
    } else {
        forget(ahead, head.node);
    }
}

/* --- what the kernel asks --- */

/* The name at @offset behind the header: its length, or -1. */
static ssize_t name_at(const struct fuse_in_header *head, size_t len, size_t offset,
                       const char **ret)
{
    size_t begin = sizeof(*head) + offset;
    const char *name = (const char *)head + begin;
    const char *end = begin < len ? memchr(name, '\0', len - begin) : NULL;

    *ret = name;
    return end ? end - name : -1;
}

/* Where requests that name something in the folder of their header have that name. */
static ssize_t name_offset(uint32_t opcode)
{
    switch (opcode) {
    case FUSE_LOOKUP:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
    case FUSE_SYMLINK:
        return 0;
    case FUSE_MKNOD:
        return sizeof(struct fuse_mknod_in);
    case FUSE_MKDIR:
        return sizeof(struct fuse_mkdir_in);
    case FUSE_CREATE:
    case 51: /* TMPFILE, newer than some kernel headers */
        return sizeof(struct fuse_create_in);
    case FUSE_LINK:
        return sizeof(struct fuse_link_in);
    case FUSE_RENAME:
        return sizeof(struct fuse_rename_in);
    case FUSE_RENAME2:
        return sizeof(struct fuse_rename2_in);
    default:
        return -1;
    }
}

static void note_second(struct ahead *ahead, const struct fuse_in_header *head, size_t len,
                        size_t offset)
{
    uint64_t folder;
    const char *name;
    ssize_t name_len = name_at(head, len, offset, &name);

    memcpy(&folder, head + 1, sizeof(folder)); /* of both kinds: it comes first */
    if (name_len >= 0) {
        note_name(ahead, folder, name, (size_t)name_len);
    } else {
        forget(ahead, folder);
    }
}

static void note_names(struct ahead *ahead, const struct fuse_in_header *head, size_t len)
{
    ssize_t offset = name_offset(head->opcode);
    const char *name;
    ssize_t name_len;

    if (offset < 0) {
        return;
    }
    name_len = name_at(head, len, (size_t)offset, &name);
    if (name_len < 0) {
        forget(ahead, head->nodeid);
        return;
    }
    note_name(ahead, head->nodeid, name, (size_t)name_len);
    if (head->opcode == FUSE_RENAME || head->opcode == FUSE_RENAME2) {
        note_second(ahead, head, len, (size_t)offset + (size_t)name_len + 1);
    }
}

/* The number may be another folder's from now on. */
static void note_forgotten(struct ahead *ahead, const struct fuse_in_header *head, size_t len)
{
    const uint8_t *at = (const uint8_t *)(head + 1) + sizeof(struct fuse_batch_forget_in);
    struct fuse_forget_one one;

    if (head->opcode == FUSE_FORGET) {
        forget(ahead, head->nodeid);
    }
    if (head->opcode != FUSE_BATCH_FORGET) {
        return;
    }
    for (size_t left = len - sizeof(*head);
         left >= sizeof(struct fuse_batch_forget_in) + sizeof(one);
         left -= sizeof(one), at += sizeof(one)) {
        memcpy(&one, at, sizeof(one));
        forget(ahead, one.nodeid);
    }
}

static size_t put_answer(const struct fuse_in_header *head, int error, const void *body,
                         size_t body_len, uint8_t *ret)
{
    struct fuse_out_header out = {
        .len = (uint32_t)(sizeof(out) + body_len), .error = error, .unique = head->unique};

    memcpy(ret, &out, sizeof(out));
    if (body_len) {
        memcpy(ret + sizeof(out), body, body_len);
    }
    return out.len;
}

static size_t answer(struct ahead *ahead, const struct fuse_in_header *head, size_t len,
                     uint8_t *ret)
{
    const struct folder *folder = find(ahead, head->nodeid);
    const char *name;
    ssize_t name_len;

    switch (head->opcode) {
    case FUSE_GETATTR:
        return folder && folder->has_attr
                   ? put_answer(head, 0, &folder->attr, sizeof(folder->attr), ret)
                   : 0;
    case FUSE_LOOKUP:
        name_len = name_at(head, len, 0, &name);
        return folder && name_len >= 0 && !may_have(folder, name, (size_t)name_len)
                   ? put_answer(head, -ENOENT, NULL, 0, ret)
                   : 0;
    case FUSE_GETXATTR:
        name_len = name_at(head, len, sizeof(struct fuse_getxattr_in), &name);
        return ahead->xattr && name_len >= 0 && strncmp(name, USER_PREFIX, strlen(USER_PREFIX)) != 0
                   ? put_answer(head, -ENODATA, NULL, 0, ret)
                   : 0;
    default:
        return 0;
    }
}

size_t ahead_answer(struct ahead *ahead, const void *request, size_t len,
                    uint8_t ret[AHEAD_ANSWER_MAX])
{
    const struct fuse_in_header *head = request;
    uint16_t mark;
    size_t n = 0;

    memcpy(&mark, (const uint8_t *)request + LIMA_MOUNT_REPLAYED_OFFSET, sizeof(mark));
    if (mark != LIMA_MOUNT_REPLAYED) {
        n = answer(ahead, head, len, ret);
    }
    if (!n) {
        note_names(ahead, head, len);
        note_forgotten(ahead, head, len);
    }
    return n;
}
