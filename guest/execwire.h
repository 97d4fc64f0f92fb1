/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the service "Exec". Done by hand on nanopb's primitives, so that data is neither
 * copied nor bounded by a struct. No I/O.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/macros.h"
#include "envlist.h"

#define EXEC_REQUEST_MAX (256u << 10)
#define EXEC_ENV_MAX     4096
#define EXEC_CHUNK_MAX   16384
#define EXEC_INPUT_MAX   (EXEC_CHUNK_MAX + 64) /* bytes of an ExecInput */
#define EXEC_WINDOW      (128u << 10) /* of data that may be under way, see ExecOutput.taken */
#define EXEC_HEADER_MAX  16           /* bytes before the data of an ExecOutput */
#define EXEC_CONTROL_MAX 32           /* bytes of any other ExecOutput, with its length */

struct exec_request {
    char **argv; /* NULL-terminated; NULL when there is none */
    size_t argc, argv_cap;
    char **env;
    size_t env_count, env_cap;
    char *user, *dir; /* never NULL */
    bool pty;
    uint32_t rows, columns;
};

void exec_request_done(struct exec_request *request);
SCOPED_VAL(struct exec_request, exec_request_done)
/* Errors: EBADMSG; EINVAL (a zero byte in a text, a variable without name); E2BIG. */
int exec_request_decode(const uint8_t *body, size_t len, struct exec_request *ret,
                        struct error *err);

enum exec_input_kind {
    EXEC_INPUT_NOTHING, /* a kind that we do not know */
    EXEC_INPUT_DATA,
    EXEC_INPUT_END,
    EXEC_INPUT_SIGNAL,
    EXEC_INPUT_SIZE,
};

struct exec_input {
    enum exec_input_kind kind;
    const uint8_t *data; /* inside the message */
    size_t len;
    uint32_t signal;
    uint32_t rows, columns;
};

/* False: malformed. */
bool exec_input_decode(const uint8_t *body, size_t len, struct exec_input *ret);

enum exec_output_kind {
    EXEC_OUTPUT_OUT = 1,
    EXEC_OUTPUT_ERR = 2,
};

/*
 * An ExecOutput with @len bytes of data that lie at @data, where EXEC_HEADER_MAX bytes are free
 * before them. Returns its first byte; *ret_len gets its length.
 */
const uint8_t *exec_output_frame(enum exec_output_kind kind, uint8_t *data, size_t len,
                                 size_t *ret_len);
/* The other kinds; each returns how many bytes of @out it took, EXEC_CONTROL_MAX at most. */
size_t exec_taken_encode(uint64_t taken, uint8_t *out);
size_t exec_closed_encode(uint8_t *out);
size_t exec_exit_encode(uint32_t status, uint32_t signal, bool core, uint8_t *out);
