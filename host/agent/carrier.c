/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/carrier.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "ssh/keys.h"
#include "ssh/session.h"
#include "util/strv.h"

#define VARIABLE        "LIMA_SSH_PORT_FORWARDER"
#define REFUSED_LONG_MS 30000 /* sshd may answer before the first boot has made the user */

struct carrier {
    struct dialer dialer; /* first: found by it */
    struct peer_dialer tunnels;
    struct ssh_session *ssh; /* NULL: not used */
    bool plain;
    char *user;
    char *boot_id;            /* of the last connection; NULL: none yet */
    int64_t refused_since_ms; /* the login; 0: it is not */
    bool told;                /* of that */
};

/* A connection that is made; by one of the two. */
struct passage {
    struct carrier *carrier;
    struct ssh_dialing *ssh;
    struct dialing *tunnel;
    dialer_fn done;
    void *arg;
};

int carrier_wants_ssh(bool *ret, struct error *err)
{
    /* What Go's strconv.ParseBool takes, as scripts were written for it. */
    static const char *const yes[] = {"1", "t", "T", "true", "TRUE", "True"};
    static const char *const no[] = {"0", "f", "F", "false", "FALSE", "False", ""};
    const char *value = getenv(VARIABLE);

    value = value ? value : "";
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (str_eq(value, yes[i])) {
            *ret = true;
            return 0;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(no); i++) {
        if (str_eq(value, no[i])) {
            *ret = false;
            return 0;
        }
    }
    error_set(err, EINVAL, "environment variable " VARIABLE ": '%s' is neither true nor false",
              value);
    return error_hint(err, "set it to 'true' to forward over ssh, or to 'false'");
}

/* ---- the dialer ---- */

static void on_passage_done(int r, struct mux_stream *stream, void *arg)
{
    struct passage *p = arg;
    dialer_fn done = p->done;
    void *done_arg = p->arg;

    free(p);
    done(r, stream, done_arg);
}

static bool goes_by_ssh(const struct carrier *c, const struct peer_address *to)
{
    return to->network == PEER_NETWORK_TCP ||
           (to->network == PEER_NETWORK_UNIX &&
            (c->plain || (to->user && str_eq(to->user, c->user))));
}

static struct ssh_dialing *open_ssh(struct carrier *c, const struct peer_address *to,
                                    struct passage *p)
{
    char host[INET6_ADDRSTRLEN];
    struct ssh_target target = {.path = to->path};

    if (to->network == PEER_NETWORK_TCP) {
        bool v4 = to->address.family == AF_INET;

        inet_ntop(to->address.family, v4 ? (void *)&to->address.v4 : (void *)&to->address.v6, host,
                  sizeof(host));
        target = (struct ssh_target){.host = host, .port = to->port};
    }
    return ssh_session_open(c->ssh, &target, on_passage_done, p);
}

static struct dialing *on_open(struct dialer *dialer, const struct peer_address *to, dialer_fn done,
                               void *arg)
{
    struct carrier *c = container_of(dialer, struct carrier, dialer);
    struct passage *p = xnew(struct passage);

    *p = (struct passage){.carrier = c, .done = done, .arg = arg};
    if (goes_by_ssh(c, to)) {
        p->ssh = open_ssh(c, to, p);
    } else if (!c->plain) {
        p->tunnel = dialer_open(&c->tunnels.dialer, to, on_passage_done, p);
    }
    if (!p->ssh && !p->tunnel) {
        free(p);
        return NULL;
    }
    return (struct dialing *)p;
}

static void on_cancel(struct dialer *dialer, struct dialing *dialing)
{
    struct carrier *c = container_of(dialer, struct carrier, dialer);
    struct passage *p = (struct passage *)dialing;

    ssh_dialing_cancel(p->ssh);
    dialer_cancel(&c->tunnels.dialer, p->tunnel);
    free(p);
}

static bool on_is_up(const struct dialer *dialer)
{
    return ssh_session_is_up(((const struct carrier *)dialer)->ssh);
}

static const struct dialer_ops dialer_ops = {
    .open = on_open,
    .cancel = on_cancel,
    .is_up = on_is_up,
};

/* ---- what happens below ---- */

static void on_ssh_changed(bool up, const struct error *why, void *arg)
{
    struct carrier *c = arg;

    int64_t now_ms = loop_now_ms();
    bool refused = !up && why->code == EACCES;

    if (up) {
        log_debug("forwards go through ssh");
    } else if (refused && c->refused_since_ms && !c->told &&
               now_ms - c->refused_since_ms > REFUSED_LONG_MS) {
        c->told = true;
        log_error_of(LOG_LEVEL_WARN, why, "no port can be forwarded, retrying");
    } else {
        log_error_of(LOG_LEVEL_DEBUG, why, "forwards through ssh, retrying");
    }
    if (!refused) {
        c->refused_since_ms = 0;
        c->told = false;
    } else if (!c->refused_since_ms) {
        c->refused_since_ms = now_ms;
    }
    dialer_changed(&c->dialer);
}

static const struct ssh_session_events ssh_events = {.changed = on_ssh_changed};

void carrier_peer_changed(struct carrier *c, const char *boot_id)
{
    if (boot_id && c->ssh) {
        if (c->boot_id && !str_eq(c->boot_id, boot_id)) {
            ssh_session_stop(c->ssh); /* what it was connected to is gone */
        }
        free(c->boot_id);
        c->boot_id = xstrdup(boot_id);
    }
    dialer_changed(&c->tunnels.dialer);
    if (c->ssh) {
        dialer_changed(&c->dialer); /* for those who need the agent beside it */
    }
}

void carrier_ssh_answers(struct carrier *c)
{
    if (c->ssh) {
        ssh_session_start(c->ssh);
    }
}

/* ---- life ---- */

struct carrier *carrier_new(struct loop *loop, const struct carrier_options *options)
{
    struct carrier *c = xnew(struct carrier);
    scoped(free) char *key = keys_user_path(options->lima_home);
    struct ssh_session_options ssh = {.port = options->ssh_port, .user = options->user, .key = key};

    static_assert(offsetof(struct carrier, dialer) == 0, "found by its dialer");
    c->dialer.ops = &dialer_ops;
    peer_dialer_init(&c->tunnels, options->peer);
    c->plain = options->plain;
    c->user = xstrdup(options->user);
    if (options->ssh || options->plain) {
        c->ssh = ssh_session_new(loop, &ssh, &ssh_events, c);
    }
    return c;
}

void carrier_free(struct carrier *c)
{
    if (c) {
        ssh_session_free(c->ssh);
        free(c->user);
        free(c->boot_id);
        free(c);
    }
}

struct dialer *carrier_dialer(struct carrier *c)
{
    return c->ssh ? &c->dialer : &c->tunnels.dialer;
}

bool carrier_has_udp(const struct carrier *c)
{
    return !c->plain;
}
