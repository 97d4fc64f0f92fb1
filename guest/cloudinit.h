/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What cloud-init does in this boot and how far it is, from the files it leaves. Written for 22.4
 * and later, whose status.json has the same shape:
 *
 *   /run/cloud-init/enabled, disabled   left by its systemd generator before any service runs
 *   /run/cloud-init/status.json         link to /var/lib/cloud/data/status.json, of this boot only
 *   /run/cloud-init/result.json         likewise, made when the final stage has ended
 */
#pragma once

#include <stdbool.h>
#include "base/error.h"

enum cloudinit_plan {
    CLOUDINIT_OFF,    /* nothing to do in this boot */
    CLOUDINIT_SYSTEM, /* the init system runs it */
    CLOUDINIT_RERUN,  /* it is disabled, but the seed asks for something new: we run it */
};

struct cloudinit_facts {
    bool installed;
    bool disabled_file;      /* /etc/cloud/cloud-init.disabled */
    bool enabled_file;       /* /etc/cloud/cloud-init.enabled, which wins */
    bool generator_disabled; /* /run/cloud-init/disabled */
    bool command_line;       /* cloud-init=disabled: somebody means it */
    const char *applied_id;  /* instance that was applied last; "" for none */
    const char *seed_id;
};

struct cloudinit_status {
    bool init_finished;
    bool final_finished;
    char error[256]; /* the first one that a stage reported, or "" */
};

enum cloudinit_plan cloudinit_decide(const struct cloudinit_facts *facts);
/* Looks at the machine and decides. */
enum cloudinit_plan cloudinit_plan(const char *seed_id);

/* -EBADMSG: @text is not (yet) a whole status.json. */
int cloudinit_status_parse(const char *text, struct cloudinit_status *ret);
/* Of this boot; all false while there is nothing. */
void cloudinit_status(struct cloudinit_status *ret);

/*
 * True when @user_data leaves the config and final stages no modules: then all is done when the
 * init stage has ended.
 */
bool cloudinit_only_init(const char *user_data);

/* True where one process serves all stages (24.3 and later), so that later ones cost next to
 * nothing. */
bool cloudinit_single_process(void);

/* True when a kernel command line says cloud-init=disabled. */
bool cloudinit_cmdline_disables(const char *cmdline);

/* Later boots go without cloud-init until the seed's id differs from @seed_id. */
int cloudinit_retire(const char *seed_id, struct error *err);
/* The opposite, for a rerun. */
int cloudinit_revive(struct error *err);
