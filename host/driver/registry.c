/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/driver.h"

#include "base/alloc.h"
#include "driver/qemu/driver.h"
#include "util/strv.h"

/* The drivers of this build. */
static const struct driver_ops *const drivers[] = {
    &qemu_driver_ops,
};

int driver_find(const char *name, const struct driver_ops **ret, struct error *err)
{
    scoped(strv_done) struct strv known = STRV_INIT;
    scoped(free) char *list = NULL;

    for (size_t i = 0; i < ARRAY_LEN(drivers); i++) {
        if (str_eq(drivers[i]->name, name)) {
            *ret = drivers[i];
            return 0;
        }
        strv_add(&known, drivers[i]->name);
    }
    list = strv_join(&known, ", ");
    error_set(err, ENOTSUP, "vmType '%s' is not supported on this host", name);
    error_hint(err, "set vmType to %s", list);
    return -ENOTSUP;
}
