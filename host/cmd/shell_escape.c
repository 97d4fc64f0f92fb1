/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/shell_escape.h"

bool shell_escape_filter(struct shell_escape *escape, const char *in, size_t len, char *out,
                         size_t *ret_len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        char c = in[i];

        if (escape->held) {
            escape->held = false;
            if (c == '.') {
                *ret_len = n;
                return true;
            }
            out[n++] = '~';
            if (c == '~') {
                continue;
            }
        } else if (c == '~' && !escape->inside_line) {
            escape->held = true;
            escape->inside_line = true;
            continue;
        }
        out[n++] = c;
        escape->inside_line = c != '\r' && c != '\n';
    }
    *ret_len = n;
    return false;
}
