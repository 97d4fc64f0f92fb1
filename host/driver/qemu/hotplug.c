/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A port is in one of these states:
 *
 *   FREE
 *   LINKING    QEMU is to connect to the server
 *   PLUGGING   the device is to be made
 *   USED
 *   ASKING     the guest is to let the device go, which it does when it likes
 *   UNLINKING  the device is gone, or never came; the connection is to follow
 *
 *   FREE -> LINKING -> PLUGGING -> USED -> ASKING -> UNLINKING -> FREE
 *           LINKING -> FREE, PLUGGING -> UNLINKING: refused
 *           ASKING -> USED: refused
 *
 * Who asked is told of ASKING's end, or that it takes too long; it goes on then.
 */
#include "driver/qemu/hotplug.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "mount/mount.h"
#include "util/strv.h"

#define ASK_MS 10000 /* for the guest */

enum state {
    STATE_FREE,
    STATE_LINKING,
    STATE_PLUGGING,
    STATE_USED,
    STATE_ASKING,
    STATE_UNLINKING,
};

struct port {
    struct qemu_hotplug *hotplug;
    enum state state;
    char *tag;
    int queue_size;
    struct qmp *qmp; /* of the command under way; borrowed, and gone with its calls */
    struct qmp_call *call;
    char *why;   /* of what is to be told when all is undone; NULL: nothing */
    bool told;   /* of a removal */
    bool adding; /* else removing */
    struct loop_timer *patience;
};

struct qemu_hotplug {
    struct qemu_virtiofs *virtiofs;
    const struct qemu_hotplug_events *events;
    void *arg;
    struct port ports[QEMU_PORTS_MAX];
    int count;
};

/* --- ends --- */

static void tell_added(struct port *port, const char *why)
{
    struct qemu_hotplug *hotplug = port->hotplug;
    scoped(free) char *tag = xstrdup(port->tag);

    hotplug->events->added(tag, why, hotplug->arg);
}

/* Once. */
static void tell_removed(struct port *port, const char *why)
{
    struct qemu_hotplug *hotplug = port->hotplug;
    scoped(free) char *tag = xstrdup(port->tag);

    if (!port->told) {
        port->told = true;
        hotplug->events->removed(tag, why, hotplug->arg);
    }
}

/* Everything of it is gone; who asked is told. */
static void end(struct port *port)
{
    struct qemu_hotplug *hotplug = port->hotplug;
    scoped(free) char *tag = steal(port->tag);
    scoped(free) char *why = steal(port->why);
    bool adding = port->adding, told = port->told;

    port->state = STATE_FREE;
    loop_timer_set(port->patience, -1);
    qemu_virtiofs_remove(hotplug->virtiofs, tag);
    if (adding) {
        hotplug->events->added(tag, why, hotplug->arg);
    } else if (!told) {
        hotplug->events->removed(tag, NULL, hotplug->arg);
    }
}

/* --- steps --- */

static char *name_of(const char *format, const char *tag)
{
    scoped(buf_done) struct buf name = BUF_INIT;

    buf_printf(&name, format, tag);
    return buf_steal(&name);
}

/* False: QMP is gone, and the VM soon. */
static bool command(struct port *port, const char *name, jv args, qmp_reply_fn reply)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (qmp_command(port->qmp, name, args, reply, port, &port->call, &err) < 0) {
        log_error_of(LOG_LEVEL_DEBUG, &err, "QMP %s, ignoring", name);
        return false;
    }
    return true;
}

static void on_unlinked(enum qmp_outcome outcome, jv value, const char *text, void *arg)
{
    struct port *port = arg;

    port->call = NULL;
    if (outcome == QMP_OUTCOME_REFUSED) {
        log_warn("QEMU keeps its connection of '%s': %s, ignoring", port->tag, text);
    }
    end(port);
}

static void unlink_port(struct port *port)
{
    scoped(free) char *id = name_of(QEMU_FS_CHARDEV, port->tag);

    port->state = STATE_UNLINKING;
    if (!command(port, "chardev-remove", JV_OBJECT(jv_string("id"), jv_string(id)), on_unlinked)) {
        end(port);
    }
}

static void on_plugged(enum qmp_outcome outcome, jv value, const char *text, void *arg)
{
    struct port *port = arg;

    port->call = NULL;
    if (outcome != QMP_OUTCOME_DONE) {
        port->why = xasprintf("QEMU makes no device: %s", str_or_empty(text));
        unlink_port(port);
        return;
    }
    port->state = STATE_USED;
    tell_added(port, NULL);
}

static void on_linked(enum qmp_outcome outcome, jv value, const char *text, void *arg)
{
    struct port *port = arg;
    int index = (int)(port - port->hotplug->ports);
    scoped(free) char *id = name_of(QEMU_FS_DEVICE, port->tag);
    scoped(free) char *chardev = name_of(QEMU_FS_CHARDEV, port->tag);
    scoped(free) char *bus = xasprintf(QEMU_PORT, index);

    port->call = NULL;
    if (outcome != QMP_OUTCOME_DONE) {
        port->why = xasprintf("QEMU does not connect: %s", str_or_empty(text));
        end(port);
        return;
    }
    qemu_virtiofs_added(port->hotplug->virtiofs, port->tag);
    port->state = STATE_PLUGGING;
    if (!command(port, "device_add",
                 JV_OBJECT(jv_string("driver"), jv_string("vhost-user-fs-pci"), jv_string("id"),
                           jv_string(id), jv_string("bus"), jv_string(bus), jv_string("chardev"),
                           jv_string(chardev), jv_string("tag"), jv_string(port->tag),
                           jv_string("queue-size"), jv_number(port->queue_size)),
                 on_plugged)) {
        port->why = xstrdup("QEMU does not listen to commands");
        end(port);
    }
}

static int link_port(struct port *port, const char *path, struct error *err)
{
    scoped(free) char *id = name_of(QEMU_FS_CHARDEV, port->tag);
    jv address = JV_OBJECT(jv_string("type"), jv_string("unix"), jv_string("data"),
                           JV_OBJECT(jv_string("path"), jv_string(path)));
    jv backend = JV_OBJECT(jv_string("type"), jv_string("socket"), jv_string("data"),
                           JV_OBJECT(jv_string("addr"), address, jv_string("server"), jv_false()));

    port->state = STATE_LINKING;
    return qmp_command(port->qmp, "chardev-add",
                       JV_OBJECT(jv_string("id"), jv_string(id), jv_string("backend"), backend),
                       on_linked, port, &port->call, err);
}

static bool is_known(const struct qemu_hotplug *hotplug, const char *tag)
{
    const struct qemu_virtiofs_server *server = NULL;

    do {
        server = qemu_virtiofs_next(hotplug->virtiofs, server);
    } while (server && strcmp(server->tag, tag) != 0);
    return server != NULL;
}

int qemu_hotplug_add(struct qemu_hotplug *hotplug, struct qmp *qmp,
                     const struct config_mount *mount, struct error *err)
{
    scoped(free) char *path = NULL;
    scoped(free) char *tag = mount_tag(mount);
    struct port *port = hotplug->ports;
    int r = qemu_virtiofs_search(hotplug->virtiofs, err);

    if (r < 0) {
        return r;
    }
    if (is_known(hotplug, tag)) {
        return error_set(err, EEXIST,
                         "its virtiofsd has ended: it can be so with the VM's next start only");
    }
    if (!hotplug->count) {
        return error_set(err, EOPNOTSUPP,
                         "a VM is made fit for it when it starts with 'mountType: virtiofs', "
                         "or with a mount of that type");
    }
    while (port < hotplug->ports + hotplug->count && port->state != STATE_FREE) {
        port++;
    }
    if (port == hotplug->ports + hotplug->count) {
        return error_set(err, ENOSPC, "all %d ports for devices are taken", hotplug->count);
    }
    r = qemu_virtiofs_add(hotplug->virtiofs, mount, (int)(port - hotplug->ports), &port->queue_size,
                          &path, err);
    if (r < 0) {
        return r;
    }
    port->tag = steal(tag);
    port->qmp = qmp;
    port->adding = true;
    port->told = false;
    r = link_port(port, path, err);
    if (r < 0) {
        port->state = STATE_FREE;
        qemu_virtiofs_remove(hotplug->virtiofs, port->tag);
        free(steal(port->tag));
    }
    return r;
}

/* --- removal --- */

static struct port *find(struct qemu_hotplug *hotplug, const char *tag)
{
    for (int i = 0; i < hotplug->count; i++) {
        struct port *port = &hotplug->ports[i];

        if (port->state != STATE_FREE && strcmp(port->tag, tag) == 0) {
            return port;
        }
    }
    return NULL;
}

static void on_asked(enum qmp_outcome outcome, jv value, const char *text, void *arg)
{
    struct port *port = arg;

    port->call = NULL;
    if (outcome == QMP_OUTCOME_REFUSED) {
        scoped(free) char *why = xstrdup(str_or_empty(text));

        port->state = STATE_USED;
        loop_timer_set(port->patience, -1);
        tell_removed(port, why);
    }
}

static void on_patience_over(void *arg)
{
    tell_removed(arg, "the guest does not let its device go");
}

int qemu_hotplug_remove(struct qemu_hotplug *hotplug, struct qmp *qmp, const char *tag,
                        struct error *err)
{
    struct port *port = find(hotplug, tag);
    scoped(free) char *id = name_of(QEMU_FS_DEVICE, tag);
    int r;

    if (!port) {
        return error_set(err, ENOENT, "there is no device that could be taken out");
    }
    if (port->state != STATE_USED) {
        return error_set(err, EBUSY, "the device is on its way");
    }
    port->qmp = qmp;
    r = qmp_command(qmp, "device_del", JV_OBJECT(jv_string("id"), jv_string(id)), on_asked, port,
                    &port->call, err);
    if (r == 0) {
        port->state = STATE_ASKING;
        port->adding = port->told = false;
        loop_timer_set(port->patience, ASK_MS);
    }
    return r;
}

static void on_deleted(struct qemu_hotplug *hotplug, struct qmp *qmp, const char *id)
{
    for (int i = 0; i < hotplug->count; i++) {
        struct port *port = &hotplug->ports[i];
        scoped(free) char *own = port->tag ? name_of(QEMU_FS_DEVICE, port->tag) : NULL;

        /* Also one that was not asked for: a guest may eject what it likes. */
        if (own && strcmp(own, id) == 0 &&
            (port->state == STATE_ASKING || port->state == STATE_USED)) {
            qmp_call_drop(steal(port->call));
            port->told = port->told || port->state == STATE_USED;
            port->adding = false;
            port->qmp = qmp;
            unlink_port(port);
            return;
        }
    }
}

void qemu_hotplug_event(struct qemu_hotplug *hotplug, struct qmp *qmp, const char *name, jv data)
{
    jv device;

    if (!str_eq(name, "DEVICE_DELETED")) {
        return;
    }
    device = jv_object_get(jv_copy(data), jv_string("device"));
    if (jv_get_kind(device) == JV_KIND_STRING) {
        scoped(free) char *id = xstrdup(jv_string_value(device));

        on_deleted(hotplug, qmp, id);
    }
    jv_free(device);
}

/* --- life --- */

struct qemu_hotplug *qemu_hotplug_new(struct loop *loop, struct qemu_virtiofs *virtiofs,
                                      const struct qemu_hotplug_events *events, void *arg)
{
    struct qemu_hotplug *hotplug = xnew(struct qemu_hotplug);

    hotplug->virtiofs = virtiofs;
    hotplug->events = events;
    hotplug->arg = arg;
    for (int i = 0; i < QEMU_PORTS_MAX; i++) {
        hotplug->ports[i].hotplug = hotplug;
        hotplug->ports[i].patience = loop_timer_new(loop, on_patience_over, &hotplug->ports[i]);
    }
    return hotplug;
}

void qemu_hotplug_set_ports(struct qemu_hotplug *hotplug, int count)
{
    const struct qemu_virtiofs_server *server = NULL;

    hotplug->count = MIN(count, QEMU_PORTS_MAX);
    while ((server = qemu_virtiofs_next(hotplug->virtiofs, server))) {
        if (server->port >= 0 && server->port < hotplug->count &&
            hotplug->ports[server->port].state == STATE_FREE) {
            hotplug->ports[server->port].state = STATE_USED;
            hotplug->ports[server->port].tag = xstrdup(server->tag);
        }
    }
}

void qemu_hotplug_free(struct qemu_hotplug *hotplug)
{
    if (hotplug) {
        for (int i = 0; i < QEMU_PORTS_MAX; i++) {
            qmp_call_drop(hotplug->ports[i].call);
            loop_timer_free(hotplug->ports[i].patience);
            free(hotplug->ports[i].tag);
            free(hotplug->ports[i].why);
        }
        free(hotplug);
    }
}
