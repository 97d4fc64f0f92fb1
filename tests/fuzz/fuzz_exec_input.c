/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first byte chooses: the body of an ExecRequest, or of an ExecInput. What must hold: what is
 * accepted is within bounds, and data lies inside the message.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "execwire.h"
#include "fuzz.h"

static void read_request(const uint8_t *data, size_t size)
{
    scoped(exec_request_done) struct exec_request request = {0};

    if (exec_request_decode(data, size, &request, NULL) < 0) {
        CHECK(!request.argv && !request.env && !request.user);
        return;
    }
    CHECK(request.user && request.dir && request.env_count <= EXEC_ENV_MAX);
    for (size_t i = 0; i < request.argc; i++) {
        CHECK(strlen(request.argv[i]) < size);
    }
    for (size_t i = 0; i < request.env_count; i++) {
        CHECK(strchr(request.env[i], '=') > request.env[i]);
    }
}

static void read_input(const uint8_t *data, size_t size)
{
    struct exec_input input;

    if (exec_input_decode(data, size, &input) && input.kind == EXEC_INPUT_DATA) {
        CHECK(input.len <= EXEC_CHUNK_MAX);
        CHECK(input.data >= data && input.data + input.len <= data + size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0) {
        (data[0] & 1 ? read_request : read_input)(data + 1, size - 1);
    }
    return 0;
}
