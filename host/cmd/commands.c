/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"

#include <stddef.h>

const struct cmd *const cmd_table[] = {
    &cmd_list, &cmd_stop, &cmd_delete, &cmd_validate, &cmd_info, &cmd_hostagent, NULL,
};
