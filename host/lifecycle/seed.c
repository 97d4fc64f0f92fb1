/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/seed.h"

#include "base/alloc.h"
#include "cidata/cidata.h"
#include "lifecycle/prepare.h"
#include "ssh/ssh.h"

int lifecycle_write_seed(const struct instance *inst, const char *lima_home, struct error *err)
{
    scoped(strv_done) struct strv keys = STRV_INIT;
    scoped(free) char *guestagent = NULL;
    scoped(free) char *instance_id = NULL;
    struct cidata_options options = {.config = inst->config, .ssh_keys = &keys, .dir = inst->dir};
    int r = ssh_keys_ensure(lima_home, inst->config->ssh.load_dot_ssh_pub_keys, &keys, err);

    if (r < 0) {
        return r;
    }
    r = lifecycle_guestagent(inst->config, &guestagent, err);
    if (r < 0) {
        return r;
    }
    options.guestagent = guestagent;
    r = cidata_write(&options, &instance_id, err);
    return r < 0 ? error_wrap(err, r, "writing the seed of instance '%s'", inst->name) : 0;
}
