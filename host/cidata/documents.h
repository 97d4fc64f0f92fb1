/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The three documents that cloud-init reads. They are built as trees and written by the YAML
 * emitter, so no string of the user can leave its place; what is the same for all guests comes from
 * cloud-init/.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "config/config.h"
#include "util/strv.h"

/*
 * @base is the text of cloud-init/user-data.yaml or plain.yaml, @name its name in messages.
 * Errors: EINVAL (a value that a guest cannot be given: it is named).
 */
int documents_user_data(const struct config *config, const struct strv *ssh_keys, const char *name,
                        const char *base, struct buf *out, struct error *err);
void documents_meta_data(const char *instance_id, const char *hostname, struct buf *out);
/* @dns: addresses of servers in the place of those that DHCP names; may be empty. */
void documents_network_config(const char *mac, const struct strv *dns, struct buf *out);

/* "iid-" and a digest of what cloud-init applies once per instance. Caller frees. */
char *documents_instance_id(const char *user_data, const char *network_config);
