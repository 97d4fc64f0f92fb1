/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/internal.h"

#include <stdlib.h>
#include "base/log.h"
#include "peer/ways.h"

#define RECONNECT_MIN_MS 50
#define RECONNECT_MAX_MS 2000

static void connect_later(struct agent *a)
{
    loop_timer_set(a->reconnect, a->reconnect_ms);
    a->reconnect_ms = MIN(a->reconnect_ms * 2, RECONNECT_MAX_MS);
}

void session_connect(struct agent *a)
{
    scoped(error_done) struct error err = ERROR_INIT;
    int fd;

    if (a->ops->guest_connect(a->driver, &fd, &err) < 0) {
        log_error_of(LOG_LEVEL_DEBUG, &err, "the guest agent's port, retrying");
        connect_later(a);
        return;
    }
    peer_attach(a->peer, fd, true);
}

static void on_reconnect_time(void *arg)
{
    struct agent *a = arg;

    if (a->vm_runs) {
        session_connect(a);
    }
}

static void on_peer_connected(const struct peer_info *info, void *arg)
{
    struct agent *a = arg;

    a->reconnect_ms = RECONNECT_MIN_MS;
    log_debug("guest agent %s on %s, kernel %s, boot %s", info->agent_version, info->os,
              info->kernel, info->boot_id);
    carrier_peer_changed(a->carrier, info->boot_id);
    mounts_connected(a->mounts, info->boot_id);
    guest_connected(a->guest, info);
    resolver_connected(a->resolver);
    if (a->running) {
        peer_measure(a->peer);
    }
}

static void on_peer_disconnected(void *arg)
{
    struct agent *a = arg;

    log_debug("the session with the guest agent ended");
    carrier_peer_changed(a->carrier, NULL);
    mounts_disconnected(a->mounts);
    guest_disconnected(a->guest);
}

static void on_peer_closed(void *arg)
{
    connect_later(arg);
}

static void on_peer_stage(enum peer_stage stage, const char *detail, const char *instance_id,
                          uint64_t uptime_us, void *arg)
{
    struct agent *a = arg;

    log_debug("guest stage %d at %.3f s: %s", stage, (double)uptime_us / 1e6, detail);
    boot_stage(a->boot, stage, detail);
    if (stage == PEER_STAGE_CLOUD_INIT) {
        mounts_guest_ready(a->mounts);
    }
    if (stage == PEER_STAGE_SSH) {
        carrier_ssh_answers(a->carrier);
    }
}

static void on_peer_script(const struct peer_script *script, void *arg)
{
    struct agent *a = arg;

    boot_script(a->boot, script);
}

static void on_peer_ports(bool snapshot, const struct peer_port *added, size_t added_count,
                          const struct peer_port *removed, size_t removed_count, void *arg)
{
    struct agent *a = arg;

    ports_update(a->ports, snapshot, added, added_count, removed, removed_count);
}

static const struct peer_events peer_events = {
    .connected = on_peer_connected,
    .disconnected = on_peer_disconnected,
    .closed = on_peer_closed,
    .stage = on_peer_stage,
    .script = on_peer_script,
    .ports = on_peer_ports,
};

static int connect_vsock(unsigned port, int *ret_fd, bool *ret_line, void *arg, struct error *err)
{
    struct agent *a = arg;

    if (!a->driver || !a->ops->vsock_connect) {
        return error_set(err, EOPNOTSUPP, "the VM has no vsock");
    }
    return a->ops->vsock_connect(a->driver, port, ret_fd, ret_line, err);
}

int session_open(struct agent *a, struct error *err)
{
    enum way_policy policy;
    int r = way_policy_parse(getenv("LIMA_GUEST_TRANSPORT"), &policy, err);

    if (r < 0) {
        return error_wrap(err, r, "LIMA_GUEST_TRANSPORT");
    }
    a->reconnect = loop_timer_new(a->loop, on_reconnect_time, a);
    a->reconnect_ms = RECONNECT_MIN_MS;
    a->peer = peer_new(a->loop, &peer_events, a);
    peer_set_vsock(a->peer, policy, connect_vsock, a);
    return 0;
}

void session_close(struct agent *a)
{
    peer_free(a->peer);
    loop_timer_free(a->reconnect);
}
