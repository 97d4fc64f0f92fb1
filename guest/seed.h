/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seed medium, label "cidata", as host/cidata writes it. We read of it:
 *
 *   meta-data               instance-id, local-hostname
 *   user-data               whether cloud-init has anything to do after its init stage
 *   lima.env                LIMA_CIDATA_* lines
 *   param.env               PARAM_* lines                     (may be absent, as all below)
 *   etc_environment         KEY=VALUE lines; lines that begin with '#' are markers and skipped
 *   ssh_authorized_keys     one key a line
 *   provision.MODE/%08d     scripts of mode boot, system, user
 *   probes/%08d             scripts; beside each .description and .hint
 *   lima-guestagent         this program, perhaps newer
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "envlist.h"

#define SEED_DIR         "/mnt/lima-cidata"
#define SEED_LABEL       "cidata"
#define SEED_TEXT_MAX    (256u << 10) /* of any of the texts above, scripts apart */
#define SEED_SCRIPTS_MAX 256

enum seed_mode {
    SEED_MODE_BOOT,
    SEED_MODE_SYSTEM,
    SEED_MODE_USER,
    SEED_MODE_PROBE,
};

struct seed_script {
    enum seed_mode mode;
    char *name; /* as reported: "provision.system/00000000", "probe/0: description" */
    char *path;
    char *hint; /* of a probe, or NULL */
};

struct seed {
    char *dir;
    char *instance_id;
    char *hostname;
    bool only_init; /* cloud-init is through with it when its init stage has ended */
    struct envlist vars;
    struct envlist params;
    struct envlist env;
    char *env_text; /* its lines without markers */
    char *ssh_keys;
    struct seed_script *scripts; /* by mode, then by number */
    size_t script_count;
    size_t script_cap;
};

/* Device node of the block device that carries the label, or NULL. Caller frees. */
char *seed_find_device(void);
/* True when @sector (2048 bytes, the 17th of a volume) describes an ISO 9660 volume named @label.
 */
bool seed_is_volume(const unsigned char *sector, const char *label);
/* Mounts @device at SEED_DIR, read-only and for root alone; nothing to do when it is mounted. */
int seed_mount(const char *device, struct error *err);
/* Is the seed mounted at SEED_DIR? */
bool seed_mounted(void);

int seed_load(const char *dir, struct seed **ret, struct error *err);
void seed_free(struct seed *seed);
SCOPED_PTR(struct seed, seed_free)
/* Forgets the scripts: they have run in this boot. */
void seed_drop_scripts(struct seed *seed);
size_t seed_count(const struct seed *seed, enum seed_mode mode);
