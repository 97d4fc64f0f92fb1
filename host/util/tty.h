/* SPDX-License-Identifier: Apache-2.0 */
/* A terminal that a program on another machine is to see through: raw mode and size. */
#pragma once

#include <stdbool.h>
#include <termios.h>

struct tty_raw {
    int fd;
    bool active;
    struct termios saved;
};

/* Nothing happens when @fd is no terminal. Modes that were raw already stay what they were. */
void tty_raw_enter(struct tty_raw *raw, int fd);
/* Again, after somebody else had the terminal: a shell in whose background we were. */
void tty_raw_again(struct tty_raw *raw);
void tty_raw_leave(struct tty_raw *raw);
/* False: unknown. */
bool tty_size(int fd, unsigned *ret_rows, unsigned *ret_columns);
