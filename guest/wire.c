/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <assert.h>
#include <errno.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include <string.h>

int wire_split(const uint8_t *data, size_t len, size_t max, const uint8_t **ret_body,
               size_t *ret_body_len, size_t *ret_used)
{
    uint64_t length = 0;
    size_t at = 0;

    do {
        if (at == WIRE_LENGTH_MAX) {
            return -EBADMSG;
        }
        if (at == len) {
            return 0;
        }
        length |= (uint64_t)(data[at] & 0x7f) << (7 * at);
    } while (data[at++] & 0x80);

    if (length > max) {
        return -EBADMSG;
    }
    if (length > len - at) {
        return 0;
    }
    *ret_body = data + at;
    *ret_body_len = (size_t)length;
    *ret_used = at + (size_t)length;
    return 1;
}

bool wire_decode(const uint8_t *body, size_t len, const pb_msgdesc_t *fields, void *ret)
{
    pb_istream_t in = pb_istream_from_buffer(body, len);

    return pb_decode(&in, fields, ret);
}

size_t wire_encode(const pb_msgdesc_t *fields, const void *message, uint8_t *out)
{
    pb_ostream_t stream = pb_ostream_from_buffer(out, WIRE_MAX);
    bool fits = pb_encode_delimited(&stream, fields, message);

    assert(fits);
    return fits ? stream.bytes_written : 0;
}

void wire_text(char *out, size_t size, const char *text)
{
    size_t len = strnlen(text, size);

    if (len == size) {
        len--;
        while (len && ((unsigned char)text[len] & 0xc0) == 0x80) {
            len--;
        }
    }
    memcpy(out, text, len);
    out[len] = '\0';
}
