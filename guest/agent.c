/* SPDX-License-Identifier: Apache-2.0 */
#include "agent.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "boot.h"
#include "child.h"
#include "clock.h"
#include "echo.h"
#include "events.h"
#include "health.h"
#include "incoming.h"
#include "exec.h"
#include "execwire.h"
#include "info.h"
#include "link.h"
#include "listen.h"
#include "local.h"
#include "loop.h"
#include "mounts.h"
#include "mux/mux.h"
#include "ports.h"
#include "redirect.h"
#include "program.h"
#include "rpc.h"
#include "seed.h"
#include "services.h"
#include "steps.h"
#include "system.h"
#include "touch.h"
#include "transport.h"
#include "tunnel.h"
#include "uevent.h"
#include "upgrade.h"
#include "vsock.h"
#include "wire.h"

struct agent {
    struct loop *loop;
    int signal_fd;
    struct loop_watch *signal_watch;
    struct uevent *uevent;
    struct ports *ports;
    struct events *events;
    struct incoming *incoming;
    struct tunnels *tunnels;
    struct clock_service *clock;
    struct health_options health;
    struct upgrade *upgrade;
    struct listeners *listeners;
    struct services *services; /* of other programs */
    struct execs *execs;
    struct mounts *mounts;
    struct touch_service touch;
    struct rpc *rpc;
    struct links *links;
    struct local *local; /* NULL: no socket for programs of this guest */
    struct vsock *vsock; /* NULL: no streams by vsock */
    struct mux *mux;
    struct transport *transport;
    struct children *children;
    struct redirect *redirect; /* NULL: the machine is left alone */
    struct boot *boot;         /* NULL: the machine is left alone */
    struct steps *modules;     /* the command that loads drivers */
    struct steps *power;       /* the command that takes the machine down */
    enum { POWER_STAY, POWER_OFF, POWER_REBOOT } wanted; /* once the answer is out */
    const char *program;                                 /* where this one lies; NULL: not known */
    bool on_trial;                                       /* see program.h */
    char *replacement; /* program to execute instead of ourselves, once the answer is out */
};

/* Mux and transport, joined: output goes out when the loop is about to wait, in large pieces. */

static void on_power_command_over(unsigned failed, void *arg)
{
    struct agent *agent = arg;

    agent->power = NULL;
}

static void change_power(struct agent *agent)
{
    bool reboot = agent->wanted == POWER_REBOOT;

    agent->wanted = POWER_STAY;
    log_info("the host asks to %s", reboot ? "reboot" : "power off");
    if (system_power(reboot) == 0 || agent->power) {
        return;
    }
    agent->power = steps_new(agent->children, on_power_command_over, agent);
    steps_add(agent->power, reboot ? "reboot" : "poweroff", NULL);
    steps_start(agent->power);
}

/* False when the transport is full. */
static bool write_output(struct agent *agent)
{
    const void *data;
    size_t len;

    while ((len = mux_output(agent->mux, &data)) > 0) {
        size_t done = transport_write(agent->transport, data, len);

        if (!done) {
            return false;
        }
        mux_output_done(agent->mux, done);
    }
    return true;
}

/* A stream of the mux may be joined to one of a link: each makes output for the other. */
static void on_loop_prepare(void *arg)
{
    struct agent *agent = arg;
    bool written;

    do {
        written = write_output(agent);
    } while (links_flush(agent->links));
    if (written && agent->wanted != POWER_STAY) {
        change_power(agent);
    }
    if (written && agent->replacement) {
        loop_quit(agent->loop);
    }
}

static void on_transport_up(struct transport *transport, bool stale, void *arg)
{
    struct agent *agent = arg;

    log_debug("the host is there");
    mux_start(agent->mux, stale);
}

static void on_transport_data(struct transport *transport, const void *data, size_t len, void *arg)
{
    struct agent *agent = arg;

    if (mux_input(agent->mux, data, len)) {
        log_debug("bytes that belong to no session, waiting for a new one");
    }
}

static void on_transport_writable(struct transport *transport, void *arg)
{
    /* on_loop_prepare() goes on. */
}

static void on_transport_down(struct transport *transport, bool final, void *arg)
{
    struct agent *agent = arg;

    log_debug("the host went away");
    mux_stop(agent->mux);
    if (final) {
        loop_quit(agent->loop);
    }
}

static const struct transport_ops transport_ops = {
    .up = on_transport_up,
    .data = on_transport_data,
    .writable = on_transport_writable,
    .down = on_transport_down,
};

static void on_mux_up(struct mux *mux, void *arg)
{
    log_info("session with the host");
}

static void on_mux_down(struct mux *mux, void *arg)
{
    log_info("session with the host ended");
}

static void on_mux_opened(struct mux *mux, struct mux_stream *stream, void *arg)
{
    struct agent *agent = arg;

    rpc_accept(agent->rpc, stream, RPC_FROM_HOST);
}

static void on_mux_pong(struct mux *mux, const uint8_t data[8], void *arg)
{
}

static void on_mux_output(struct mux *mux, void *arg)
{
    /* on_loop_prepare() looks before every wait. */
}

static const struct mux_ops mux_ops = {
    .up = on_mux_up,
    .down = on_mux_down,
    .opened = on_mux_opened,
    .pong = on_mux_pong,
    .output = on_mux_output,
};

static void on_ports_changed(struct ports *ports, void *arg)
{
    struct agent *agent = arg;

    events_ports_changed(agent->events);
    if (agent->boot) {
        boot_ports_changed(agent->boot);
    }
}

static void on_udp_wanted(const struct udp_range *ranges, size_t count, void *arg)
{
    struct agent *agent = arg;

    ports_want_udp(agent->ports, ranges, count);
}

static void on_boot_replaced(const char *path, void *arg)
{
    struct agent *agent = arg;

    agent->replacement = xstrdup(path);
    loop_quit(agent->loop);
}

static void on_upgrade_replaced(void *arg)
{
    struct agent *agent = arg;

    if (!agent->replacement) {
        agent->replacement = xstrdup(agent->program);
    }
}

static size_t count_streams(void *arg)
{
    const struct agent *agent = arg;

    return mux_stream_count(agent->mux);
}

static int serve_info(const struct rpc_call *call, void *arg, struct error *err)
{
    struct agent *agent = arg;
    lima_guest_v1_InfoRequest request = lima_guest_v1_InfoRequest_init_zero;
    lima_guest_v1_Info info = lima_guest_v1_Info_init_zero;

    if (!wire_decode(call->request, call->request_len, lima_guest_v1_InfoRequest_fields,
                     &request)) {
        return error_set(err, EBADMSG, "malformed request");
    }
    info_fill(&info, agent->rpc);
    if (agent->boot) {
        wire_text(info.instance_id, sizeof(info.instance_id), boot_instance_id(agent->boot));
    }
    if (agent->vsock && call->from == RPC_FROM_HOST) {
        vsock_describe(agent->vsock, &info);
    }
    mux_stream_consumed(call->stream, call->rest_len);
    rpc_answer(call->stream, lima_guest_v1_Info_fields, &info);
    if (agent->upgrade && call->from == RPC_FROM_HOST) {
        upgrade_confirm(agent->upgrade);
    }
    return 0;
}

/* The machine goes down once the answer is out. */
static int serve_shutdown(const struct rpc_call *call, void *arg, struct error *err)
{
    struct agent *agent = arg;
    lima_guest_v1_ShutdownRequest request = lima_guest_v1_ShutdownRequest_init_zero;

    if (!wire_decode(call->request, call->request_len, lima_guest_v1_ShutdownRequest_fields,
                     &request)) {
        return error_set(err, EBADMSG, "malformed request");
    }
    mux_stream_consumed(call->stream, call->rest_len);
    rpc_answer(call->stream, NULL, NULL);
    agent->wanted = request.reboot ? POWER_REBOOT : POWER_OFF;
    return 0;
}

static const char *user_of(void *arg)
{
    struct agent *agent = arg;

    return agent->boot ? boot_user(agent->boot) : "";
}

/* Long for being a table: a row a service. */
static void add_services(struct agent *agent)
{
    const struct rpc_service services[] = {
        {.name = "Info",
         .from = RPC_FROM_HOST | RPC_FROM_GUEST,
         .has_request = true,
         .request_max = lima_guest_v1_InfoRequest_size,
         .serve = serve_info,
         .arg = agent},
        {.name = "Events", .has_request = true, .serve = events_serve, .arg = agent->events},
        {.name = "Tunnel", .has_request = true, .serve = tunnels_serve, .arg = agent->tunnels},
        {.name = "Echo", .serve = echo_serve},
        {.name = "Clock", .serve = clock_serve, .arg = agent->clock},
        {.name = "Health", .serve = health_serve, .arg = &agent->health},
        {.name = "Listen", .has_request = true, .serve = listeners_serve, .arg = agent->listeners},
        {.name = "Accept",
         .has_request = true,
         .serve = tunnels_serve_accept,
         .arg = agent->tunnels},
        {.name = "Register",
         .from = RPC_FROM_GUEST,
         .has_request = true,
         .serve = services_register,
         .arg = agent->services},
        {.name = "Accept",
         .from = RPC_FROM_GUEST,
         .has_request = true,
         .serve = services_accept,
         .arg = agent->services},
        {.name = "Exec",
         .has_request = true,
         .request_max = EXEC_REQUEST_MAX,
         .serve = execs_serve,
         .arg = agent->execs},
        {.name = "Mount",
         .has_request = true,
         .request_max = lima_guest_v1_MountRequest_size,
         .serve = mounts_serve_mount,
         .arg = agent->mounts},
        {.name = "Follow", .has_request = true, .serve = mounts_serve_follow, .arg = agent->mounts},
        {.name = "Unmount",
         .has_request = true,
         .serve = mounts_serve_unmount,
         .arg = agent->mounts},
        {.name = "Touch", .has_request = true, .serve = touch_serve, .arg = &agent->touch},
        {.name = "Settled", .serve = mounts_serve_settled, .arg = agent->mounts},
        {.name = "Shutdown", .has_request = true, .serve = serve_shutdown, .arg = agent},
    };

    for (size_t i = 0; i < ARRAY_LEN(services); i++) {
        rpc_add(agent->rpc, &services[i]);
    }
    if (agent->redirect) {
        rpc_add(agent->rpc, &(struct rpc_service){.name = "Redirect",
                                                  .has_request = true,
                                                  .serve = redirect_serve,
                                                  .arg = agent->redirect});
    }
    if (agent->upgrade) {
        rpc_add(agent->rpc, &(struct rpc_service){.name = "Upgrade",
                                                  .has_request = true,
                                                  .serve = upgrade_serve,
                                                  .arg = agent->upgrade});
    }
}

static void on_mounts_settled(void *arg)
{
    struct agent *agent = arg;

    if (agent->boot) {
        boot_mounts_settled(agent->boot);
    }
}

static void on_signal_readable(int fd, short revents, void *arg)
{
    struct agent *agent = arg;
    struct signalfd_siginfo info;

    while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGCHLD) {
            children_reap(agent->children);
        } else {
            loop_quit(agent->loop);
        }
    }
}

static int take_signals(struct agent *agent, struct error *err)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    agent->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (agent->signal_fd < 0) {
        return error_errno(err, errno, "taking signals");
    }
    agent->signal_watch =
        loop_watch_new(agent->loop, agent->signal_fd, POLLIN, on_signal_readable, agent);
    return 0;
}

/* Many tunnels at once; BPF memory counts against the second limit before Linux 5.11. */
static void raise_limits(void)
{
    struct rlimit files;
    struct rlimit memory = {RLIM_INFINITY, RLIM_INFINITY};

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    setrlimit(RLIMIT_MEMLOCK, &memory);
}

static void on_modules_loaded(unsigned failed, void *arg)
{
    struct agent *agent = arg;

    agent->modules = NULL; /* the devices themselves come as events */
}

/*
 * On a later boot we run long before udev gets to the drivers of the port and of the seed's drive.
 * No name to fail on: what a kernel has built in, or does not have, is passed over.
 */
static void load_drivers(struct agent *agent)
{
    scoped(free) char *port = transport_find_port(TRANSPORT_PORT_DEFAULT);
    scoped(free) char *seed = seed_mounted() ? xstrdup("") : seed_find_device();

    if (port && seed) {
        return;
    }
    agent->modules = steps_new(agent->children, on_modules_loaded, agent);
    steps_add(agent->modules, "modprobe", "-a", "-q", "virtio_console", "sr_mod", "isofs",
              "tcp_diag", "vmw_vsock_virtio_transport", "fuse", NULL);
    steps_start(agent->modules);
}

static void open_services(struct agent *agent, const struct agent_options *options)
{
    agent->execs = execs_new(&(struct execs_options){.loop = agent->loop,
                                                     .children = agent->children,
                                                     .user = options->no_boot ? NULL : user_of,
                                                     .arg = agent});
    agent->mounts = mounts_new(&(struct mounts_options){.loop = agent->loop,
                                                        .children = agent->children,
                                                        .tunnels = agent->tunnels,
                                                        .user = options->no_boot ? NULL : user_of,
                                                        .settled = on_mounts_settled,
                                                        .arg = agent});
    agent->touch = (struct touch_service){agent->loop, agent->children, agent->mounts};
    agent->clock =
        clock_service_new(agent->loop, options->no_boot ? &clock_untouched : &clock_machine, NULL);
    agent->health = (struct health_options){
        .port_method = ports_method(agent->ports), .streams = count_streams, .arg = agent};
    if (!options->no_boot) {
        agent->redirect = redirect_new(agent->loop, agent->children);
    }
    if (agent->program) {
        agent->upgrade = upgrade_new(
            &(struct upgrade_options){.loop = agent->loop,
                                      .children = agent->children,
                                      .program = agent->program,
                                      .on_trial = agent->on_trial,
                                      .trial_ms = UPGRADE_TRIAL_MS,
                                      .guarded = !options->no_boot && system_has_systemd(),
                                      .replaced = on_upgrade_replaced,
                                      .arg = agent});
    }
}

/* Connections that carry one stream each. */
static int open_links(struct agent *agent, const struct agent_options *options, struct error *err)
{
    scoped(error_done) struct error local = ERROR_INIT;

    agent->links = links_new(agent->loop, agent->rpc);
    if (options->socket &&
        local_open(agent->loop, options->socket, agent->links, &agent->local, &local) < 0) {
        log_error_of(LOG_LEVEL_WARN, &local, "no socket for programs of this guest, ignoring");
    }
    if (options->no_boot && !options->stream_socket) {
        return 0;
    }
    return vsock_open(agent->loop, agent->uevent, agent->links, options->stream_socket,
                      &agent->vsock, err);
}

static int open_all(struct agent *agent, const struct agent_options *options, struct error *err)
{
    scoped(error_done) struct error local = ERROR_INIT;
    int r;

    agent->loop = loop_new();
    agent->children = children_new(agent->loop);
    raise_limits();
    r = take_signals(agent, err);
    if (r < 0) {
        return r;
    }
    r = uevent_open(agent->loop, &agent->uevent, &local);
    if (r < 0) {
        log_error_of(LOG_LEVEL_WARN, &local, "no device events, ignoring");
    }
    if (!options->no_boot) {
        load_drivers(agent);
    }
    r = ports_open(&(struct ports_options){.loop = agent->loop,
                                           .children = options->no_boot ? NULL : agent->children,
                                           .no_bpf = options->no_bpf,
                                           .changed = on_ports_changed,
                                           .arg = agent},
                   &agent->ports, err);
    if (r < 0) {
        return r;
    }
    agent->events = events_new(ports_current(agent->ports));
    events_set_wanted(agent->events, on_udp_wanted, agent);
    agent->incoming = incoming_new(agent->loop, INCOMING_WAIT_MS);
    agent->tunnels = tunnels_new(agent->loop, agent->incoming);
    agent->listeners = listeners_new(agent->loop, agent->incoming);
    open_services(agent, options);
    agent->services = services_new(agent->incoming);
    agent->rpc = rpc_new(&(struct rpc_service){.serve = services_serve, .arg = agent->services});
    add_services(agent);
    r = open_links(agent, options, err);
    if (r < 0) {
        return r;
    }
    agent->mux = mux_new(MUX_ROLE_GUEST, &mux_ops, agent);
    loop_set_prepare(agent->loop, on_loop_prepare, agent);
    return transport_open(options->transport, agent->loop, agent->uevent, &transport_ops, agent,
                          &agent->transport, err);
}

/* Streams are closed by their owners first; the mux goes last of those that know it. */
static void close_all(struct agent *agent)
{
    boot_free(agent->boot);
    steps_free(agent->power);
    steps_free(agent->modules);
    upgrade_free(agent->upgrade);
    redirect_free(agent->redirect);
    execs_free(agent->execs);
    if (agent->replacement) {
        mounts_hand_over(agent->mounts);
    }
    mounts_free(agent->mounts);
    if (agent->replacement) {
        transport_leave(agent->transport);
    }
    transport_close(agent->transport);
    clock_service_free(agent->clock);
    local_close(agent->local);
    vsock_close(agent->vsock);
    links_free(agent->links);
    rpc_free(agent->rpc);
    listeners_free(agent->listeners);
    tunnels_free(agent->tunnels);
    services_free(agent->services);
    incoming_free(agent->incoming);
    events_free(agent->events);
    mux_free(agent->mux);
    ports_close(agent->ports);
    children_free(agent->children);
    uevent_close(agent->uevent);
    loop_watch_free(agent->signal_watch);
    fd_close(agent->signal_fd);
    loop_free(agent->loop);
}

static void report_all_stages(struct agent *agent)
{
    static const lima_guest_v1_Stage_Name stages[] = {
        lima_guest_v1_Stage_Name_AGENT,  lima_guest_v1_Stage_Name_CLOUD_INIT,
        lima_guest_v1_Stage_Name_SSH,    lima_guest_v1_Stage_Name_PROVISION,
        lima_guest_v1_Stage_Name_PROBES, lima_guest_v1_Stage_Name_READY,
    };

    for (size_t i = 0; i < ARRAY_LEN(stages); i++) {
        events_stage(agent->events, stages[i], "", "");
    }
}

static void begin_boot(struct agent *agent)
{
    agent->boot = boot_new(&(struct boot_options){.loop = agent->loop,
                                                  .children = agent->children,
                                                  .events = agent->events,
                                                  .ports = ports_current(agent->ports),
                                                  .uevent = agent->uevent,
                                                  .replaced = on_boot_replaced,
                                                  .arg = agent});
    boot_start(agent->boot);
}

static int run(struct agent *agent, const struct agent_options *options, struct error *err)
{
    int r = open_all(agent, options, err);

    if (r < 0) {
        return r;
    }
    log_info("lima-guestagent %s, ports by %s", LIMA_VERSION, ports_method(agent->ports));
    if (options->no_boot) {
        report_all_stages(agent);
    } else {
        begin_boot(agent);
    }
    r = loop_run(agent->loop);
    return r < 0 ? error_errno(err, -r, "waiting for events") : 0;
}

/* True: the program that is to go on is in its place, and we need not even begin. */
static bool settle(struct agent *agent)
{
    enum program_state state = agent->program ? program_settle(agent->program) : PROGRAM_SETTLED;

    agent->on_trial = state == PROGRAM_ON_TRIAL;
    if (state == PROGRAM_REPLACED) {
        agent->replacement = xstrdup(agent->program);
    }
    return state == PROGRAM_REPLACED;
}

int agent_run(const struct agent_options *options, struct error *err)
{
    scoped(free) char *program = program_path();
    scoped(free) char *replacement = NULL;
    struct agent agent = {.signal_fd = -1, .program = program};
    int r = 0;

    if (!settle(&agent)) {
        r = run(&agent, options, err);
        close_all(&agent);
    }
    replacement = steal(agent.replacement);
    if (r == 0 && replacement) {
        log_info("going on as '%s'", replacement);
        execv(replacement, options->argv);
        return error_errno(err, errno, "executing '%s'", replacement);
    }
    return r;
}
