/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 (FIPS 180-4). Our own, because this program is static and links nothing but libc; the
 * kernel's (AF_ALG) is missing or closed in many guests. For checking what the host sends, where
 * nothing secret is hashed.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32

struct sha256 {
    uint32_t state[8];
    uint64_t len; /* bytes so far */
    uint8_t block[64];
};

void sha256_init(struct sha256 *sha);
void sha256_put(struct sha256 *sha, const void *data, size_t len);
/* The digest of all that was put; @sha has to be initialised anew afterwards. */
void sha256_end(struct sha256 *sha, uint8_t ret[SHA256_SIZE]);
/* Of what can be read from @fd, from where it stands; -errno. */
int sha256_file(int fd, uint8_t ret[SHA256_SIZE]);
