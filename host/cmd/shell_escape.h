/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way out of a terminal whose every key goes to the guest, as in ssh: "~." at the beginning of
 * a line ends the connection, "~~" sends one '~'. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct shell_escape {
    bool inside_line; /* so that the first key of all may be a '~' */
    bool held;        /* a '~' that is not yet sent */
};

/*
 * Filters the @len keys at @in into @out, which has room for @len + 1; *ret_len tells how many.
 * True: the user wants out, and keys behind that were dropped.
 */
bool shell_escape_filter(struct shell_escape *escape, const char *in, size_t len, char *out,
                         size_t *ret_len);
