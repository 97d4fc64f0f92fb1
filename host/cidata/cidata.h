/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The seed medium: what the guest needs to know of its configuration, as an ISO 9660 image with
 * label "cidata". cloud-init reads user-data, meta-data and network-config from it on a first boot;
 * our agent reads the rest on every boot (guest/seed.h lists the files).
 */
#pragma once

#include "base/error.h"
#include "config/config.h"
#include "util/strv.h"

struct cidata_options {
    const struct config *config;
    const struct strv *ssh_keys; /* public keys to authorise */
    const char *guestagent;      /* path of the static binary; NULL in plain mode */
    const char *dir;             /* instance folder */
};

/*
 * Writes cidata.iso (and cloud-config.yaml, for reading) into @dir, atomically.
 * @ret_instance_id: "iid-" and a digest of what cloud-init applies once, so it changes exactly when
 * cloud-init has to run again. Caller frees.
 */
int cidata_write(const struct cidata_options *options, char **ret_instance_id, struct error *err);
