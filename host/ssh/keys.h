/* SPDX-License-Identifier: Apache-2.0 */
/* Key files: what is authorised is also what ssh offers, and the host agent logs in with. */
#pragma once

#include "util/strv.h"

/* Path of our private key. Caller frees. */
char *keys_user_path(const char *lima_home);
/* Paths of ~/.ssh/\*.pub, in byte order; none when there is no home folder. */
void keys_list_dot_ssh(struct strv *ret);
