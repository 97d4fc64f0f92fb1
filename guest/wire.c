/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <assert.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include <string.h>

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
