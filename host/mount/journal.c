/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/journal.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "util/file.h"

#define MAGIC        "LIMAMNT2" /* changes with the format */
#define FILE_MAX     (1u << 30)
#define LONG_ENOUGH  (1u << 20) /* below it nothing is written anew */
#define PER_NODE     128        /* bytes that a node takes, about */
#define RECORD_ALIGN 8

enum kind {
    KIND_SESSION = 1,
    KIND_NODE,
    KIND_LOOKUPS,
    KIND_BEGUN,
    KIND_DONE,
};

struct header {
    char magic[8];
    uint8_t id[JOURNAL_ID_LEN];
};

struct record {
    uint32_t kind;
    uint32_t len;
};

struct node_record {
    uint64_t id, generation, parent, dev, ino, born_ns;
    char name[]; /* with its end, and padding */
};

struct done_record {
    uint64_t unique;
    uint64_t len; /* of the reply behind it, without the padding */
};

struct lookups_record {
    uint64_t id;
    int64_t change;
};

struct recent {
    bool done;
    uint16_t len;
    uint8_t reply[JOURNAL_REPLY_MAX];
};

struct journal {
    char *path;
    int fd;
    int error;
    uint8_t id[JOURNAL_ID_LEN];
    struct buf pending;
    size_t written;
    struct journal_session session;
    bool rewriting;
    struct recent *recent; /* a ring of JOURNAL_RECENT */
    uint64_t *uniques;     /* theirs, apart: each request is looked for; 0: none */
    size_t next;
};

static void put(struct journal *journal, enum kind kind, const void *head, size_t head_len,
                const void *tail, size_t tail_len)
{
    static const char zeros[RECORD_ALIGN];
    size_t len = head_len + tail_len;
    size_t padded = (len + RECORD_ALIGN - 1) & ~(size_t)(RECORD_ALIGN - 1);
    struct record record = {.kind = kind, .len = (uint32_t)padded};

    buf_put(&journal->pending, &record, sizeof(record));
    buf_put(&journal->pending, head, head_len);
    buf_put(&journal->pending, tail, tail_len);
    buf_put(&journal->pending, zeros, padded - len);
}

/* --- what is remembered of requests --- */

static struct recent *find_recent(const struct journal *journal, uint64_t unique)
{
    /* The newest is the likeliest. */
    for (size_t i = 1; i <= JOURNAL_RECENT; i++) {
        size_t at = (journal->next + JOURNAL_RECENT - i) % JOURNAL_RECENT;

        if (journal->uniques[at] == unique) {
            return &journal->recent[at];
        }
    }
    return NULL;
}

static void remember_begun(struct journal *journal, uint64_t unique)
{
    struct recent *recent = &journal->recent[journal->next];

    journal->uniques[journal->next] = unique;
    journal->next = (journal->next + 1) % JOURNAL_RECENT;
    recent->done = false;
    recent->len = 0;
}

static void remember_done(struct journal *journal, uint64_t unique, const void *reply, size_t len)
{
    struct recent *recent = find_recent(journal, unique);

    if (!recent) {
        remember_begun(journal, unique);
        recent = find_recent(journal, unique);
    }
    recent->done = true;
    recent->len = (uint16_t)MIN(len, JOURNAL_REPLY_MAX);
    memcpy(recent->reply, reply, recent->len);
}

enum journal_seen journal_look(const struct journal *journal, uint64_t unique,
                               const void **ret_reply, size_t *ret_len)
{
    const struct recent *recent = unique ? find_recent(journal, unique) : NULL;

    if (!recent) {
        return JOURNAL_NEW;
    }
    if (!recent->done) {
        return JOURNAL_BEGUN;
    }
    *ret_reply = recent->reply;
    *ret_len = recent->len;
    return JOURNAL_DONE;
}

/* --- reading --- */

static int take_node(const uint8_t *data, size_t len, const struct journal_events *events,
                     void *arg)
{
    struct node_record record;
    struct journal_node node;
    const char *name = (const char *)data + sizeof(record);

    if (len <= sizeof(record) || !memchr(name, '\0', len - sizeof(record)) ||
        strlen(name) > JOURNAL_NAME_MAX) {
        return -EBADMSG;
    }
    memcpy(&record, data, sizeof(record));
    node = (struct journal_node){.id = record.id,
                                 .generation = record.generation,
                                 .parent = record.parent,
                                 .dev = record.dev,
                                 .ino = record.ino,
                                 .born_ns = record.born_ns,
                                 .name = name};
    events->node(&node, arg);
    return 0;
}

static int take_record(struct journal *journal, enum kind kind, const uint8_t *data, size_t len,
                       const struct journal_events *events, void *arg)
{
    struct lookups_record lookups;
    struct done_record done;
    uint64_t unique;

    switch (kind) {
    case KIND_SESSION:
        if (len < sizeof(journal->session)) {
            return -EBADMSG;
        }
        memcpy(&journal->session, data, sizeof(journal->session));
        events->session(&journal->session, arg);
        return 0;
    case KIND_NODE:
        return take_node(data, len, events, arg);
    case KIND_LOOKUPS:
        if (len < sizeof(lookups)) {
            return -EBADMSG;
        }
        memcpy(&lookups, data, sizeof(lookups));
        events->lookups(lookups.id, lookups.change, arg);
        return 0;
    case KIND_BEGUN:
        if (len < sizeof(unique)) {
            return -EBADMSG;
        }
        memcpy(&unique, data, sizeof(unique));
        remember_begun(journal, unique);
        return 0;
    case KIND_DONE:
        if (len < sizeof(done)) {
            return -EBADMSG;
        }
        memcpy(&done, data, sizeof(done));
        if (done.len > len - sizeof(done)) {
            return -EBADMSG;
        }
        remember_done(journal, done.unique, data + sizeof(done), done.len);
        return 0;
    }
    return -EBADMSG;
}

/* Returns how many bytes of @data are whole records, or -EBADMSG. */
static ssize_t take_records(struct journal *journal, const uint8_t *data, size_t len,
                            const struct journal_events *events, void *arg)
{
    struct record record;
    size_t at = 0;

    while (len - at >= sizeof(record)) {
        memcpy(&record, data + at, sizeof(record));
        if (record.len > len - at - sizeof(record)) {
            break;
        }
        if (take_record(journal, record.kind, data + at + sizeof(record), record.len, events, arg) <
            0) {
            return -EBADMSG;
        }
        at += sizeof(record) + record.len;
    }
    return (ssize_t)at;
}

/* --- writing --- */

static int open_new(struct journal *journal)
{
    struct header header = {.magic = MAGIC};

    memcpy(header.id, journal->id, sizeof(header.id));
    fd_close(journal->fd);
    unlink(journal->path);
    journal->fd = open(journal->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_APPEND, 0600);
    if (journal->fd < 0) {
        return -errno;
    }
    journal->written = sizeof(header);
    return fd_write_all(journal->fd, &header, sizeof(header));
}

static int load(struct journal *journal, const struct journal_events *events, void *arg,
                struct error *err)
{
    scoped(buf_done) struct buf content = BUF_INIT;
    scoped(error_done) struct error local = ERROR_INIT;
    const struct header *header;
    ssize_t used;
    struct stat st;
    int r;

    if (stat(journal->path, &st) == 0 && st.st_size > FILE_MAX) {
        return error_set(err, EBADMSG, "'%s' is larger than any state", journal->path);
    }
    r = file_read(journal->path, FILE_MAX, &content, &local);
    if (r == -ENOENT) {
        return 1;
    }
    if (r < 0) {
        return error_move(err, &local);
    }
    header = (const struct header *)content.data;
    if (content.len < sizeof(*header) || memcmp(header->magic, MAGIC, sizeof(header->magic)) != 0) {
        return content.len < sizeof(*header)
                   ? 1
                   : error_set(err, EBADMSG, "'%s' is no state of a file server", journal->path);
    }
    if (memcmp(header->id, journal->id, sizeof(header->id)) != 0) {
        return 1;
    }
    used = take_records(journal, (const uint8_t *)content.data + sizeof(*header),
                        content.len - sizeof(*header), events, arg);
    if (used < 0) {
        error_set(err, EBADMSG, "'%s' is broken", journal->path);
        return error_hint(err, "Remove it and mount again.");
    }
    journal->written = sizeof(*header) + (size_t)used;
    return 0;
}

int journal_open(const char *path, const uint8_t id[JOURNAL_ID_LEN],
                 const struct journal_events *events, void *arg, struct journal **ret,
                 struct error *err)
{
    scoped(journal_free) struct journal *journal = xnew(struct journal);
    int r;

    journal->fd = -1;
    journal->path = xstrdup(path);
    journal->recent = xnew_n(struct recent, JOURNAL_RECENT);
    journal->uniques = xnew_n(uint64_t, JOURNAL_RECENT);
    memcpy(journal->id, id, JOURNAL_ID_LEN);
    r = load(journal, events, arg, err);
    if (r < 0) {
        return r;
    }
    if (r > 0) {
        r = open_new(journal);
    } else {
        journal->fd = open(path, O_RDWR | O_CLOEXEC | O_APPEND);
        r = journal->fd < 0 || ftruncate(journal->fd, (off_t)journal->written) < 0 ? -errno : 0;
    }
    if (r < 0) {
        return error_errno(err, -r, "opening '%s'", path);
    }
    *ret = steal(journal);
    return 0;
}

void journal_free(struct journal *journal)
{
    if (journal) {
        fd_close(journal->fd);
        buf_done(&journal->pending);
        free(journal->uniques);
        free(journal->recent);
        free(journal->path);
        free(journal);
    }
}

int journal_read_id(const char *path, uint8_t ret[JOURNAL_ID_LEN])
{
    scoped(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct header header;

    if (fd < 0) {
        return -errno;
    }
    if (read(fd, &header, sizeof(header)) != (ssize_t)sizeof(header) ||
        memcmp(header.magic, MAGIC, sizeof(header.magic)) != 0) {
        return -EBADMSG;
    }
    memcpy(ret, header.id, JOURNAL_ID_LEN);
    return 0;
}

void journal_put_session(struct journal *journal, const struct journal_session *session)
{
    journal->session = *session;
    put(journal, KIND_SESSION, session, sizeof(*session), NULL, 0);
}

void journal_put_node(struct journal *journal, const struct journal_node *node)
{
    struct node_record record = {.id = node->id,
                                 .generation = node->generation,
                                 .parent = node->parent,
                                 .dev = node->dev,
                                 .ino = node->ino,
                                 .born_ns = node->born_ns};

    put(journal, KIND_NODE, &record, sizeof(record), node->name, strlen(node->name) + 1);
    if (node->lookups) {
        journal_put_lookups(journal, node->id, (int64_t)node->lookups);
    }
}

void journal_put_lookups(struct journal *journal, uint64_t id, int64_t change)
{
    struct lookups_record record = {.id = id, .change = change};

    put(journal, KIND_LOOKUPS, &record, sizeof(record), NULL, 0);
}

void journal_put_begun(struct journal *journal, uint64_t unique)
{
    remember_begun(journal, unique);
    put(journal, KIND_BEGUN, &unique, sizeof(unique), NULL, 0);
}

static void put_done(struct journal *journal, uint64_t unique, const void *reply, size_t len)
{
    struct done_record record = {.unique = unique, .len = MIN(len, JOURNAL_REPLY_MAX)};

    put(journal, KIND_DONE, &record, sizeof(record), reply, record.len);
}

void journal_put_done(struct journal *journal, uint64_t unique, const void *reply, size_t len)
{
    remember_done(journal, unique, reply, len);
    put_done(journal, unique, reply, len);
}

/* What is older than what the guest was told, or half of it, would be worse than nothing. */
static int give_up(struct journal *journal, int r)
{
    journal->error = r;
    unlink(journal->path);
    return r;
}

int journal_flush(struct journal *journal)
{
    int r;

    if (!journal->pending.len || journal->rewriting) {
        return 0;
    }
    r = journal->error ? 0 : fd_write_all(journal->fd, journal->pending.data, journal->pending.len);
    journal->written += journal->pending.len;
    buf_drop(&journal->pending, journal->pending.len);
    return r < 0 ? give_up(journal, r) : 0;
}

bool journal_is_long(const struct journal *journal, size_t nodes)
{
    return !journal->error && journal->written > LONG_ENOUGH &&
           journal->written / 4 > nodes * PER_NODE;
}

void journal_rewrite_begin(struct journal *journal)
{
    struct journal_session session = journal->session;

    buf_drop(&journal->pending, journal->pending.len);
    journal->rewriting = true;
    journal_put_session(journal, &session);
}

/* Beside the old one, and renamed: a reader finds one of the two. */
int journal_rewrite_end(struct journal *journal)
{
    scoped(buf_done) struct buf content = BUF_INIT;
    scoped(error_done) struct error err = ERROR_INIT;
    struct header header = {.magic = MAGIC};
    int r;

    for (size_t i = 0; i < JOURNAL_RECENT; i++) {
        size_t at = (journal->next + i) % JOURNAL_RECENT;
        const struct recent *recent = &journal->recent[at];
        uint64_t unique = journal->uniques[at];

        if (unique && recent->done) {
            put_done(journal, unique, recent->reply, recent->len);
        } else if (unique) {
            put(journal, KIND_BEGUN, &unique, sizeof(unique), NULL, 0);
        }
    }
    journal->rewriting = false;
    memcpy(header.id, journal->id, sizeof(header.id));
    buf_put(&content, &header, sizeof(header));
    buf_put(&content, journal->pending.data, journal->pending.len);
    buf_drop(&journal->pending, journal->pending.len);
    r = file_write(journal->path, content.data, content.len, 0600, &err);
    if (r < 0) {
        return give_up(journal, r);
    }
    fd_close(journal->fd);
    journal->fd = open(journal->path, O_RDWR | O_CLOEXEC | O_APPEND);
    journal->written = content.len;
    journal->error = 0;
    return journal->fd < 0 ? give_up(journal, -errno) : 0;
}

int journal_restart(struct journal *journal, const struct journal_session *session)
{
    memset(journal->uniques, 0, JOURNAL_RECENT * sizeof(journal->uniques[0]));
    journal->next = 0;
    journal->session = *session;
    journal_rewrite_begin(journal);
    return journal_rewrite_end(journal);
}
