/* SPDX-License-Identifier: Apache-2.0 */
#include "instance/mac.h"

#include <string.h>
#include "base/alloc.h"
#include "util/digest.h"
#include "util/sys.h"

char *instance_mac(const char *dir)
{
    scoped(free) char *machine = sys_machine_id();
    scoped(free) char *seed = xasprintf("%s%s", machine, dir);
    unsigned char hash[3];

    digest_sha256(seed, strlen(seed), hash, sizeof(hash));
    return xasprintf("52:55:55:%02x:%02x:%02x", hash[0], hash[1], hash[2]);
}
