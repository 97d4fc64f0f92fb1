/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"

#include <stddef.h>

/* In the order of the help. */
const struct cmd *const cmd_table[] = {
    &cmd_create,   &cmd_start,  &cmd_stop,          &cmd_restart,   &cmd_shell,
    &cmd_list,     &cmd_delete, &cmd_mounts,        &cmd_ports,     &cmd_image,
    &cmd_validate, &cmd_info,   &cmd_guest_install, &cmd_hostagent, NULL,
};
