/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/internal.h"
#include "peer/ways.h"

static void on_get_info(struct api_exchange *exchange, jv body, void *arg)
{
    struct agent *a = arg;

    api_answer(exchange, JV_OBJECT(jv_string("sshLocalPort"), jv_number(a->ssh_port),
                                   jv_string("transport"), peer_describe_transport(a->peer),
                                   jv_string("portConflicts"), ports_conflicts(a->ports),
                                   jv_string("mountFailures"), mounts_failed(a->mounts)));
}

static void on_get_ports(struct api_exchange *exchange, jv body, void *arg)
{
    struct agent *a = arg;

    ports_get(a->ports, exchange);
}

static void on_post_ports(struct api_exchange *exchange, jv body, void *arg)
{
    struct agent *a = arg;

    ports_post(a->ports, exchange, body);
}

static void on_delete_ports(struct api_exchange *exchange, jv body, void *arg)
{
    struct agent *a = arg;

    ports_delete(a->ports, exchange, body);
}

static void on_get_guest(struct api_exchange *exchange, jv body, void *arg)
{
    struct agent *a = arg;

    guest_describe(a->guest, exchange);
}

static void on_post_upgrade(struct api_exchange *exchange, jv body, void *arg)
{
    struct agent *a = arg;

    guest_upgrade(a->guest, exchange, body);
}

static void on_get_mounts(struct api_exchange *exchange, jv body, void *arg)
{
    struct agent *a = arg;

    mounts_get(a->mounts, exchange);
}

static void on_post_mounts(struct api_exchange *exchange, jv body, void *arg)
{
    struct agent *a = arg;

    mounts_post(a->mounts, exchange, body);
}

static void on_delete_mounts(struct api_exchange *exchange, jv body, void *arg)
{
    struct agent *a = arg;

    mounts_delete(a->mounts, exchange, body);
}

const struct api_route agent_routes[] = {
    {"GET", "/v1/info", .handle = on_get_info},
    {"GET", "/v1/guest", .handle = on_get_guest},
    {"POST", "/v1/guest/upgrade", .has_body = true, .handle = on_post_upgrade},
    {"GET", "/v1/ports", .handle = on_get_ports},
    {"POST", "/v1/ports", .has_body = true, .handle = on_post_ports},
    {"DELETE", "/v1/ports", .has_body = true, .handle = on_delete_ports},
    {"GET", "/v1/mounts", .handle = on_get_mounts},
    {"POST", "/v1/mounts", .has_body = true, .handle = on_post_mounts},
    {"DELETE", "/v1/mounts", .has_body = true, .handle = on_delete_mounts},
    {0},
};
