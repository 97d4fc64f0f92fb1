/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-2 over OpenSSL's EVP, and "algo:hex" strings as images carry them. */
#pragma once

#include <stddef.h>
#include "base/error.h"
#include "base/macros.h"

/* Lower-case hex of SHA-256. Caller frees. */
char *digest_sha256_hex(const void *data, size_t len);
/* First @out_len (at most 32) bytes of SHA-256. */
void digest_sha256(const void *data, size_t len, unsigned char *out, size_t out_len);

/* Checks the form "sha256|sha384|sha512:lower-case hex of the right length". */
int digest_validate(const char *digest, struct error *err);

struct digest; /* running computation */
/* @algo: "sha256", "sha384" or "sha512". NULL if unknown. */
struct digest *digest_new(const char *algo);
void digest_update(struct digest *d, const void *data, size_t len);
/* "algo:hex"; caller frees. The object can only be freed afterwards. */
char *digest_finish(struct digest *d);
void digest_free(struct digest *d);
SCOPED_PTR(struct digest, digest_free)

/* Hashes a file and compares. Errors: EBADMSG (differs; the message has both), I/O errors. */
int digest_check_file(const char *path, const char *digest, struct error *err);
