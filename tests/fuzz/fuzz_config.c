/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A text as lima.yaml: whatever it is, the load gives a configuration that can be printed, or an
 * error with a message.
 */
#include <stdlib.h>
#include "base/alloc.h"
#include "config/load.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    scoped(strv_done) struct strv warnings = STRV_INIT;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(config_free) struct config *config = NULL;
    scoped(free) char *text = xstrndup((const char *)data, len);
    const struct config_load_options options = {
        .lima_home = "/nonexistent",
        .instance = "box",
        .warnings = &warnings,
    };
    int r = config_load_text("lima.yaml", text, &options, &config, &err);

    if ((r == 0) != (config != NULL) || (r < 0) != (err.message != NULL)) {
        abort();
    }
    if (config) {
        jv_free(config_dump(config));
    }
    return 0;
}
