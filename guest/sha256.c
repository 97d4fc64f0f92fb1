/* SPDX-License-Identifier: Apache-2.0 */
#include "sha256.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "base/macros.h"

#define READ_SIZE 16384

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t turn(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static uint32_t load(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void store(uint8_t *p, uint32_t x)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(x >> (24 - 8 * i));
    }
}

/* Letters and functions are named as in the standard. */
static void take_block(struct sha256 *sha, const uint8_t *block)
{
    uint32_t w[64], v[8];

    for (int t = 0; t < 16; t++) {
        w[t] = load(block + 4 * t);
    }
    for (int t = 16; t < 64; t++) {
        uint32_t s0 = turn(w[t - 15], 7) ^ turn(w[t - 15], 18) ^ w[t - 15] >> 3;
        uint32_t s1 = turn(w[t - 2], 17) ^ turn(w[t - 2], 19) ^ w[t - 2] >> 10;

        w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
    memcpy(v, sha->state, sizeof(v));
    for (int t = 0; t < 64; t++) {
        uint32_t a = v[0], e = v[4];
        uint32_t ch = (e & v[5]) ^ (~e & v[6]);
        uint32_t maj = (a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]);
        uint32_t t1 =
            v[7] + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ch + round_constants[t] + w[t];
        uint32_t t2 = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + maj;

        memmove(v + 1, v, sizeof(v) - sizeof(v[0]));
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        sha->state[i] += v[i];
    }
}

void sha256_init(struct sha256 *sha)
{
    *sha = (struct sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                                     0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void sha256_put(struct sha256 *sha, const void *data, size_t len)
{
    const uint8_t *p = data;

    while (len) {
        size_t have = sha->len % sizeof(sha->block);
        size_t n = MIN(sizeof(sha->block) - have, len);

        memcpy(sha->block + have, p, n);
        sha->len += n;
        p += n;
        len -= n;
        if (have + n == sizeof(sha->block)) {
            take_block(sha, sha->block);
        }
    }
}

void sha256_end(struct sha256 *sha, uint8_t ret[SHA256_SIZE])
{
    static const uint8_t mark = 0x80, zero = 0;
    uint64_t bits = sha->len * 8;
    uint8_t tail[8];

    store(tail, (uint32_t)(bits >> 32));
    store(tail + 4, (uint32_t)bits);
    sha256_put(sha, &mark, 1);
    while (sha->len % sizeof(sha->block) != sizeof(sha->block) - sizeof(tail)) {
        sha256_put(sha, &zero, 1);
    }
    sha256_put(sha, tail, sizeof(tail));
    for (size_t i = 0; i < ARRAY_LEN(sha->state); i++) {
        store(ret + 4 * i, sha->state[i]);
    }
}

int sha256_file(int fd, uint8_t ret[SHA256_SIZE])
{
    struct sha256 sha;
    uint8_t data[READ_SIZE];
    ssize_t n;

    sha256_init(&sha);
    while ((n = read(fd, data, sizeof(data))) != 0) {
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        sha256_put(&sha, data, n > 0 ? (size_t)n : 0);
    }
    sha256_end(&sha, ret);
    return 0;
}
