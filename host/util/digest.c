/* SPDX-License-Identifier: Apache-2.0 */
#include "util/digest.h"

#include <assert.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/buf.h"

static const struct {
    const char *name;
    size_t hex_len;
    const EVP_MD *(*md)(void);
} algorithms[] = {
    {"sha256", 64, EVP_sha256},
    {"sha384", 96, EVP_sha384},
    {"sha512", 128, EVP_sha512},
};

struct digest {
    const char *algo;
    EVP_MD_CTX *ctx;
};

static char *to_hex(const unsigned char *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    char *hex = xmalloc(2 * len + 1);

    for (size_t i = 0; i < len; i++) {
        hex[2 * i] = digits[bytes[i] >> 4];
        hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    hex[2 * len] = '\0';
    return hex;
}

void digest_sha256(const void *data, size_t len, unsigned char *out, size_t out_len)
{
    unsigned char full[EVP_MAX_MD_SIZE];
    int ok = EVP_Digest(data, len, full, NULL, EVP_sha256(), NULL);

    assert(ok == 1 && out_len <= 32);
    memcpy(out, full, out_len);
}

char *digest_sha256_hex(const void *data, size_t len)
{
    unsigned char full[32];

    digest_sha256(data, len, full, sizeof(full));
    return to_hex(full, sizeof(full));
}

int digest_validate(const char *digest, struct error *err)
{
    const char *colon = strchr(digest, ':');

    if (!colon) {
        return error_set(err, EINVAL, "digest '%s' is not of the form 'algorithm:hex'", digest);
    }
    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
        size_t name_len = strlen(algorithms[i].name);

        if ((size_t)(colon - digest) != name_len ||
            memcmp(digest, algorithms[i].name, name_len) != 0) {
            continue;
        }
        if (strlen(colon + 1) != algorithms[i].hex_len) {
            return error_set(err, EINVAL, "digest '%s' needs %zu hex digits, has %zu", digest,
                             algorithms[i].hex_len, strlen(colon + 1));
        }
        if (strspn(colon + 1, "0123456789abcdef") != algorithms[i].hex_len) {
            return error_set(err, EINVAL, "digest '%s' has other characters than 0-9 and a-f",
                             digest);
        }
        return 0;
    }
    return error_set(err, EINVAL, "digest '%s': the algorithm must be sha256, sha384 or sha512",
                     digest);
}

struct digest *digest_new(const char *algo)
{
    for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
        if (strcmp(algo, algorithms[i].name) == 0) {
            struct digest *d = xnew(struct digest);
            int ok;

            d->algo = algorithms[i].name;
            d->ctx = EVP_MD_CTX_new();
            ok = d->ctx && EVP_DigestInit_ex(d->ctx, algorithms[i].md(), NULL);
            assert(ok);
            return d;
        }
    }
    return NULL;
}

void digest_update(struct digest *d, const void *data, size_t len)
{
    int ok = EVP_DigestUpdate(d->ctx, data, len);

    assert(ok == 1);
}

char *digest_finish(struct digest *d)
{
    unsigned char full[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    int ok = EVP_DigestFinal_ex(d->ctx, full, &len);
    scoped(free) char *hex = to_hex(full, len);

    assert(ok == 1);
    return xasprintf("%s:%s", d->algo, hex);
}

void digest_free(struct digest *d)
{
    if (d) {
        EVP_MD_CTX_free(d->ctx);
        free(d);
    }
}

int digest_check_file(const char *path, const char *digest, struct error *err)
{
    scoped(digest_free) struct digest *d = NULL;
    scoped(fd_close) int fd = -1;
    scoped(free) char *algo = NULL, *found = NULL, *chunk = NULL;
    int r = digest_validate(digest, err);

    if (r < 0) {
        return r;
    }
    algo = xstrndup(digest, strcspn(digest, ":"));
    d = digest_new(algo);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return error_errno(err, errno, "reading '%s'", path);
    }
    chunk = xmalloc(1u << 20);
    for (;;) {
        ssize_t n = read(fd, chunk, 1u << 20);

        if (n < 0 && errno != EINTR) {
            return error_errno(err, errno, "reading '%s'", path);
        }
        if (n == 0) {
            break;
        }
        if (n > 0) {
            digest_update(d, chunk, (size_t)n);
        }
    }
    found = digest_finish(d);
    if (strcmp(found, digest) != 0) {
        return error_set(err, EBADMSG, "'%s' has digest %s, expected %s", path, found, digest);
    }
    return 0;
}
