/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"

#include <stddef.h>

const struct cmd *const cmd_table[] = {
    NULL,
};
