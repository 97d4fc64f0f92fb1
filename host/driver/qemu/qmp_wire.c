/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/qemu/qmp_wire.h"

#include <string.h>
#include "base/alloc.h"
#include "util/value.h"

#define ID_MAX 9007199254740992.0 /* whole numbers are exact up to here */

void qmp_wire_init(struct qmp_wire *wire)
{
    *wire = (struct qmp_wire){.in = BUF_INIT_CAP(QMP_WIRE_LINE_MAX)};
}

void qmp_wire_done(struct qmp_wire *wire)
{
    buf_done(&wire->in);
}

void qmp_message_done(struct qmp_message *message)
{
    free(message->text);
    jv_free(message->data);
    *message = QMP_MESSAGE_INIT;
}

int qmp_wire_feed(struct qmp_wire *wire, const void *data, size_t len, struct error *err)
{
    int r = buf_put(&wire->in, data, len);

    return r < 0 ? error_set(err, EMSGSIZE, "a QMP line is longer than %u bytes", QMP_WIRE_LINE_MAX)
                 : 0;
}

static jv object_get(jv object, const char *key)
{
    return jv_object_get(jv_copy(object), jv_string(key));
}

/* The string at @key or NULL. Caller frees. */
static char *object_string(jv object, const char *key)
{
    jv value = object_get(object, key);
    char *text = jv_get_kind(value) == JV_KIND_STRING ? xstrdup(jv_string_value(value)) : NULL;

    jv_free(value);
    return text;
}

static uint64_t object_id(jv object)
{
    jv value = object_get(object, "id");
    double n = jv_get_kind(value) == JV_KIND_NUMBER ? jv_number_value(value) : 0;

    jv_free(value);
    return n >= 1 && n <= ID_MAX ? (uint64_t)n : 0;
}

static bool parse_greeting(jv body, jv object, struct qmp_message *message)
{
    if (jv_get_kind(body) != JV_KIND_OBJECT) {
        return false;
    }
    message->data = object_get(body, "version");
    return jv_get_kind(message->data) == JV_KIND_OBJECT;
}

static bool parse_return(jv body, jv object, struct qmp_message *message)
{
    message->id = object_id(object);
    message->data = jv_copy(body);
    return true;
}

static bool parse_error(jv body, jv object, struct qmp_message *message)
{
    message->id = object_id(object);
    if (jv_get_kind(body) == JV_KIND_OBJECT) {
        message->text = object_string(body, "desc");
    }
    return message->text;
}

static bool parse_event(jv body, jv object, struct qmp_message *message)
{
    if (jv_get_kind(body) != JV_KIND_STRING) {
        return false;
    }
    message->text = xstrdup(jv_string_value(body));
    message->data = object_get(object, "data");
    if (jv_get_kind(message->data) != JV_KIND_OBJECT) {
        jv_free(message->data);
        message->data = jv_object();
    }
    return true;
}

/* The key that tells a message's kind, and what reads it. */
static const struct {
    const char *key;
    bool (*parse)(jv body, jv object, struct qmp_message *message);
} kinds[] = {
    [QMP_KIND_GREETING] = {"QMP", parse_greeting},
    [QMP_KIND_RETURN] = {"return", parse_return},
    [QMP_KIND_ERROR] = {"error", parse_error},
    [QMP_KIND_EVENT] = {"event", parse_event},
};

static bool message_from_object(jv object, struct qmp_message *message)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        jv body = object_get(object, kinds[i].key);

        if (jv_is_valid(body)) {
            bool good;

            message->kind = (enum qmp_kind)i;
            good = kinds[i].parse(body, object, message);
            jv_free(body);
            return good;
        }
        jv_free(body);
    }
    return false;
}

static int message_parse(const char *line, size_t len, struct qmp_message *ret, struct error *err)
{
    scoped(qmp_message_done) struct qmp_message message = QMP_MESSAGE_INIT;
    jv object = jv_parse_sized(line, (int)len);
    bool good = jv_get_kind(object) == JV_KIND_OBJECT && message_from_object(object, &message);

    jv_free(object);
    if (!good) {
        return error_set(err, EBADMSG, "not a QMP message: '%.*s'", (int)MIN(len, (size_t)80),
                         line);
    }
    *ret = message;
    message = QMP_MESSAGE_INIT;
    return 1;
}

int qmp_wire_next(struct qmp_wire *wire, struct qmp_message *ret, struct error *err)
{
    while (wire->in.len > wire->scanned) {
        char *end = memchr(wire->in.data + wire->scanned, '\n', wire->in.len - wire->scanned);
        size_t len;
        int r;

        if (!end) {
            wire->scanned = wire->in.len;
            return 0;
        }
        len = (size_t)(end - wire->in.data);
        r = strspn(wire->in.data, " \t\r") >= len ? 0 : message_parse(wire->in.data, len, ret, err);
        buf_drop(&wire->in, len + 1);
        wire->scanned = 0;
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

char *qmp_wire_command(const char *name, jv args, uint64_t id)
{
    jv command =
        JV_OBJECT(jv_string("execute"), jv_string(name), jv_string("id"), jv_number((double)id));
    scoped(free) char *text = NULL;

    if (jv_is_valid(args)) {
        command = jv_object_set(command, jv_string("arguments"), args);
    } else {
        jv_free(args);
    }
    text = value_to_json(command, false);
    return xasprintf("%s\r\n", text);
}
