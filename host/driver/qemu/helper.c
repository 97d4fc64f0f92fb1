/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/qemu/helper.h"

#include <stdlib.h>
#include "base/alloc.h"
#include "util/path.h"
#include "util/process.h"

char *qemu_helper_find(const char *name)
{
    static const char *const folders[] = {"/usr/libexec", "/usr/local/libexec", "/usr/lib/qemu"};
    const char *home = getenv("HOME");
    scoped(free) char *cargo = path_join(home ? home : "/", ".cargo/bin", name);
    char *found = process_find_program(name);

    if (!found) {
        found = process_find_program(cargo);
    }
    for (size_t i = 0; !found && i < ARRAY_LEN(folders); i++) {
        scoped(free) char *path = path_join(folders[i], name);

        found = process_find_program(path);
    }
    return found;
}
