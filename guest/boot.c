/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stages and what each waits for:
 *
 *   AGENT       the seed is found (block devices appear), mounted and read; settings of the machine
 * are applied, boot scripts begin CLOUD_INIT  cloud-init's init stage has ended and the user
 * exists; at once where it does not run; then settings of the user are applied SSH         somebody
 * listens on port 22 and /run/nologin is gone PROVISION   with scripts only: boot scripts are over,
 * cloud-init's final stage has ended (it may install packages), the root file system has grown, and
 * there is a default route, the last for ROUTE_LIMIT_MS at most PROBES      the scripts are over
 *   READY       the probes are over
 *   FAILED      instead of any of them; nothing follows
 *
 * Whatever may have changed something (folders, routes, ports, child processes) calls advance(),
 * which goes as far as it can. An agent that is started again after READY (READY_FILE is there)
 * passes the stages without running scripts a second time.
 *
 * When READY is reached and cloud-init is through as well, it is retired: later boots do without
 * it.
 */
#include "boot.h"

#include <assert.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "cloudinit.h"
#include "files.h"
#include "grow.h"
#include "install.h"
#include "pathwatch.h"
#include "provision.h"
#include "route.h"
#include "seed.h"
#include "system.h"

#define SSH_PORT       22
#define ROUTE_LIMIT_MS 60000
#define DETAIL_MAX     512
#define READY_DIR      "/run/lima-guestagent"
#define READY_FILE     READY_DIR "/ready"

struct boot {
    struct boot_options options;
    struct seed *seed;
    struct system_user user; /* name NULL: does not exist yet */
    enum cloudinit_plan plan;
    lima_guest_v1_Stage_Name stage; /* reached last */
    bool advancing;                 /* a nested advance() only asks for another round */
    bool again;
    bool repeated; /* this boot was READY already */
    bool boot_scripts_over;
    bool mounts_settled; /* the host has said so */
    bool grown;
    bool provisioning;
    bool retired;       /* cloud-init needs no more watching */
    bool lingering_due; /* start the user's services, if nobody did */
    bool route_waived;
    struct pathwatch *paths;
    struct route_watch *routes;
    struct loop_timer *route_timer;
    struct provision *provision;
    struct steps *rerun;
    struct steps *growth;
    struct steps *user_manager;
};

static void advance(struct boot *boot);

static const char *const watched_folders[] = {
    "/run", "/run/cloud-init", "/var/lib/cloud/data", "/etc", NULL,
};

struct boot *boot_new(const struct boot_options *options)
{
    struct boot *boot = xnew(struct boot);

    boot->options = *options;
    return boot;
}

void boot_free(struct boot *boot)
{
    if (!boot) {
        return;
    }
    provision_free(boot->provision);
    steps_free(boot->rerun);
    steps_free(boot->growth);
    steps_free(boot->user_manager);
    loop_timer_free(boot->route_timer);
    route_watch_close(boot->routes);
    pathwatch_close(boot->paths);
    system_user_done(&boot->user);
    seed_free(boot->seed);
    free(boot);
}

const char *boot_instance_id(const struct boot *boot)
{
    return boot->seed ? boot->seed->instance_id : "";
}

const char *boot_user(const struct boot *boot)
{
    return boot->seed ? envlist_text(&boot->seed->vars, "LIMA_CIDATA_USER") : "";
}

static void reach(struct boot *boot, lima_guest_v1_Stage_Name stage, const char *detail)
{
    static const char *const names[] = {"unknown",   "agent",  "cloud-init", "ssh",
                                        "provision", "probes", "ready",      "failed"};

    static_assert(ARRAY_LEN(names) == _lima_guest_v1_Stage_Name_ARRAYSIZE, "one name a stage");
    log_info("reached stage '%s'%s%s", names[stage], *detail ? ": " : "", detail);
    boot->stage = stage;
    events_stage(boot->options.events, stage, boot_instance_id(boot), detail);
}

static void _printf_(2, 3) fail(struct boot *boot, const char *fmt, ...)
{
    char detail[DETAIL_MAX];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(detail, sizeof(detail), fmt, ap);
    va_end(ap);
    reach(boot, lima_guest_v1_Stage_Name_FAILED, detail);
}

static void on_something_changed(void *arg)
{
    advance(arg);
}

/* cloud-init */

static void on_rerun_over(unsigned failed, void *arg)
{
    struct boot *boot = arg;
    struct cloudinit_status status;

    boot->rerun = NULL;
    cloudinit_status(&status);
    if (boot->stage == lima_guest_v1_Stage_Name_AGENT && !status.init_finished) {
        fail(boot, "cloud-init could not be run again for the changed configuration");
    }
    advance(boot);
}

static void rerun_cloudinit(struct boot *boot)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (cloudinit_revive(&err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "cloud-init of the next boot, ignoring");
    }
    boot->rerun = steps_new(boot->options.children, on_rerun_over, boot);
    steps_add(boot->rerun, "cloud-init", "init", "--local", NULL);
    steps_add(boot->rerun, "cloud-init", "init", NULL);
    steps_add(boot->rerun, "cloud-init", "modules", "--mode=config", NULL);
    steps_add(boot->rerun, "cloud-init", "modules", "--mode=final", NULL);
    steps_start(boot->rerun);
}

static bool find_user(struct boot *boot)
{
    return boot->user.name || system_find_user(boot->seed, &boot->user);
}

static void advance_cloudinit(struct boot *boot)
{
    struct cloudinit_status status = {0};

    if (boot->plan != CLOUDINIT_OFF) {
        cloudinit_status(&status);
        if (!status.init_finished && !status.final_finished) {
            return;
        }
    }
    if (!find_user(boot)) {
        if (status.final_finished || boot->plan == CLOUDINIT_OFF) {
            fail(boot, "there is no user '%s'%s%s",
                 envlist_text(&boot->seed->vars, "LIMA_CIDATA_USER"),
                 status.error[0] ? "; cloud-init says: " : "", status.error);
        }
        return;
    }
    if (status.error[0]) {
        log_warn("cloud-init says: %s, ignoring", status.error);
    }
    if (boot->plan != CLOUDINIT_OFF) {
        system_apply_machine(boot->seed); /* it may have rewritten some of it */
    }
    system_apply_user(boot->seed, &boot->user);
    reach(boot, lima_guest_v1_Stage_Name_CLOUD_INIT,
          boot->plan == CLOUDINIT_OFF     ? "not used in this boot"
          : boot->plan == CLOUDINIT_RERUN ? "run again for the changed configuration"
                                          : "");
}

static void advance_retirement(struct boot *boot)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct cloudinit_status status;

    if (boot->retired || boot->rerun) {
        return;
    }
    if (boot->plan != CLOUDINIT_OFF) {
        cloudinit_status(&status);
        /* The installer has taken later stages back where they are idle; see there. */
        if (!status.final_finished && (!boot->seed->only_init || cloudinit_single_process())) {
            return;
        }
        if (cloudinit_retire(boot->seed->instance_id, &err) < 0) {
            log_error_of(LOG_LEVEL_WARN, &err, "later boots without cloud-init, ignoring");
        }
    }
    boot->retired = true;
    pathwatch_close(boot->paths);
    boot->paths = NULL;
}

/* Scripts */

static void reach_counted(struct boot *boot, lima_guest_v1_Stage_Name stage, size_t count)
{
    scoped(free) char *detail = xasprintf("%zu", count);

    reach(boot, stage, detail);
}

static void mark_ready(void)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (files_mkdirs(READY_DIR, 0755, &err) < 0 || files_write(READY_FILE, "", 0644, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "remembering that this boot is ready, ignoring");
    }
}

static void on_probes_over(void *arg)
{
    struct boot *boot = arg;

    mark_ready();
    reach(boot, lima_guest_v1_Stage_Name_READY, "");
    boot->lingering_due = true;
    advance(boot);
}

static void begin_probes(struct boot *boot)
{
    reach_counted(boot, lima_guest_v1_Stage_Name_PROBES, seed_count(boot->seed, SEED_MODE_PROBE));
    provision_run(boot->provision, SEED_MODE_PROBE, &boot->user, on_probes_over, boot);
}

static void on_user_scripts_over(void *arg)
{
    begin_probes(arg);
}

static void begin_user_scripts(struct boot *boot)
{
    provision_run(boot->provision, SEED_MODE_USER, &boot->user, on_user_scripts_over, boot);
}

static void on_user_manager_started(unsigned failed, void *arg)
{
    struct boot *boot = arg;

    boot->user_manager = NULL;
    if (boot->stage == lima_guest_v1_Stage_Name_PROVISION) {
        begin_user_scripts(boot);
    }
}

static bool user_manager_runs(const struct boot *boot)
{
    scoped(free) char *path =
        xasprintf("/run/user/%lu/systemd/private", (unsigned long)boot->user.uid);

    return !system_has_systemd() || files_exist(path);
}

/* logind starts it at boot when the user lingers; on the boot that made the user it did not know.
 */
static void start_user_manager(struct boot *boot)
{
    scoped(free) char *unit = xasprintf("user@%lu.service", (unsigned long)boot->user.uid);

    boot->user_manager = steps_new(boot->options.children, on_user_manager_started, boot);
    steps_add(boot->user_manager, "systemctl", "start", unit, NULL);
    steps_start(boot->user_manager);
}

static void on_system_scripts_over(void *arg)
{
    struct boot *boot = arg;

    if (seed_count(boot->seed, SEED_MODE_USER) && !user_manager_runs(boot)) {
        start_user_manager(boot);
        return; /* advance() goes on */
    }
    begin_user_scripts(boot);
}

static void on_boot_scripts_over(void *arg)
{
    struct boot *boot = arg;

    boot->boot_scripts_over = true;
    if (boot->plan == CLOUDINIT_RERUN) {
        rerun_cloudinit(boot);
    }
    advance(boot);
}

static void on_route_limit(void *arg)
{
    struct boot *boot = arg;

    log_warn("no default route after %d s, ignoring", ROUTE_LIMIT_MS / 1000);
    boot->route_waived = true;
    advance(boot);
}

/* True when waiting is over. */
static bool route_settled(struct boot *boot)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (boot->route_waived) {
        return true;
    }
    if (!boot->routes &&
        route_watch_open(boot->options.loop, on_something_changed, boot, &boot->routes, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "waiting for the network, ignoring");
        return true;
    }
    if (route_has_default()) {
        loop_timer_free(boot->route_timer);
        boot->route_timer = NULL;
        route_watch_close(boot->routes);
        boot->routes = NULL;
        boot->route_waived = true;
        return true;
    }
    if (!boot->route_timer) {
        boot->route_timer = loop_timer_new(boot->options.loop, on_route_limit, boot);
        loop_timer_start(boot->route_timer, ROUTE_LIMIT_MS);
    }
    return false;
}

static bool mounts_settled(const struct boot *boot)
{
    const char *count = envlist_text(&boot->seed->vars, "LIMA_CIDATA_MOUNTS");

    return boot->mounts_settled || !*count || strcmp(count, "0") == 0;
}

static void advance_provision(struct boot *boot)
{
    size_t scripts =
        seed_count(boot->seed, SEED_MODE_SYSTEM) + seed_count(boot->seed, SEED_MODE_USER);
    struct cloudinit_status status = {.final_finished = true};

    if (boot->provisioning || !boot->boot_scripts_over) {
        return;
    }
    if (scripts) {
        if (boot->plan != CLOUDINIT_OFF && !boot->seed->only_init) {
            cloudinit_status(&status);
        }
        if (!status.final_finished || !boot->grown || !route_settled(boot) ||
            !mounts_settled(boot)) {
            return;
        }
    }
    boot->provisioning = true;
    reach_counted(boot, lima_guest_v1_Stage_Name_PROVISION, scripts);
    provision_run(boot->provision, SEED_MODE_SYSTEM, &boot->user, on_system_scripts_over, boot);
}

static void advance_lingering(struct boot *boot)
{
    if (boot->lingering_due && !user_manager_runs(boot)) {
        start_user_manager(boot);
    }
    boot->lingering_due = false;
}

/* Growth */

static void on_growth_over(unsigned failed, void *arg)
{
    struct boot *boot = arg;

    boot->growth = NULL;
    boot->grown = true;
    advance(boot);
}

static void begin_growth(struct boot *boot)
{
    boot->growth = steps_new(boot->options.children, on_growth_over, boot);
    if (boot->plan == CLOUDINIT_OFF) {
        grow_plan(boot->growth);
    }
    steps_start(boot->growth);
}

/* The stages, in order */

static void advance_ssh(struct boot *boot)
{
    if (portset_has_port(boot->options.ports, PORT_TCP, SSH_PORT) && !files_exist("/run/nologin")) {
        reach(boot, lima_guest_v1_Stage_Name_SSH, "");
    }
}

static void advance_once(struct boot *boot)
{
    if (boot->stage == lima_guest_v1_Stage_Name_AGENT) {
        advance_cloudinit(boot);
    }
    if (boot->stage == lima_guest_v1_Stage_Name_CLOUD_INIT) {
        advance_ssh(boot);
    }
    if (boot->stage == lima_guest_v1_Stage_Name_SSH) {
        advance_provision(boot);
    }
    if (boot->stage == lima_guest_v1_Stage_Name_READY) {
        advance_lingering(boot);
        advance_retirement(boot);
    }
}

static void advance(struct boot *boot)
{
    boot->again = true;
    if (boot->advancing) {
        return;
    }
    boot->advancing = true;
    while (boot->again) {
        boot->again = false;
        advance_once(boot);
    }
    boot->advancing = false;
}

void boot_mounts_settled(struct boot *boot)
{
    boot->mounts_settled = true;
    advance(boot);
}

void boot_ports_changed(struct boot *boot)
{
    advance(boot);
}

/* The seed */

/* True when the seed brought another version of us, which takes over. */
static bool replaced(struct boot *boot)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *source = xasprintf("%s/lima-guestagent", boot->seed->dir);
    scoped(free) char *installed = NULL;
    char self[PATH_MAX] = "";
    int r;

    if (!files_exist(source)) {
        return false;
    }
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0) {
        return false;
    }
    r = install_program(boot->seed->dir,
                        envlist_text(&boot->seed->vars, "LIMA_CIDATA_GUEST_INSTALL_PREFIX"),
                        &installed, &err);
    if (r < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "the seed's version of the agent, ignoring");
        return false;
    }
    if (r == 0 || strcmp(self, installed) != 0) {
        return false;
    }
    boot->options.replaced(installed, boot->options.arg);
    return true;
}

static void begin(struct boot *boot)
{
    scoped(error_done) struct error err = ERROR_INIT;

    if (seed_load(SEED_DIR, &boot->seed, &err) < 0) {
        fail(boot, "%s", error_text(&err));
        return;
    }
    if (replaced(boot)) {
        return;
    }
    boot->plan = cloudinit_plan(boot->seed->instance_id);
    boot->repeated = files_exist(READY_FILE);
    if (boot->repeated) {
        seed_drop_scripts(boot->seed);
    }
    boot->provision =
        provision_new(boot->options.loop, boot->options.children, boot->options.events, boot->seed);
    if (pathwatch_open(boot->options.loop, watched_folders, on_something_changed, boot,
                       &boot->paths, &err) < 0) {
        fail(boot, "%s", error_text(&err));
        return;
    }
    system_apply_machine(boot->seed);
    reach(boot, lima_guest_v1_Stage_Name_AGENT, "");
    begin_growth(boot);
    provision_run(boot->provision, SEED_MODE_BOOT, NULL, on_boot_scripts_over, boot);
    advance(boot);
}

static void try_seed(struct boot *boot)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *device = seed_mounted() ? NULL : seed_find_device();

    if (boot->seed || boot->stage || (!device && !seed_mounted())) {
        return;
    }
    if (device && seed_mount(device, &err) < 0) {
        fail(boot, "%s", error_text(&err));
        return;
    }
    begin(boot);
}

static void on_device_event(const char *subsystem, void *arg)
{
    if (!*subsystem || strcmp(subsystem, "block") == 0) {
        try_seed(arg);
    }
}

void boot_start(struct boot *boot)
{
    if (boot->options.uevent) {
        uevent_listen(boot->options.uevent, on_device_event, boot);
    }
    try_seed(boot);
}
