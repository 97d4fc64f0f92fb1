/* SPDX-License-Identifier: Apache-2.0 */
#include "util/tty.h"

#include <errno.h>
#include <sys/ioctl.h>

static void set_modes(int fd, const struct termios *modes)
{
    while (tcsetattr(fd, TCSADRAIN, modes) < 0 && errno == EINTR) {
    }
}

/* Every byte passes as it is, both ways; IGNPAR because a break is no byte. */
static void make_raw(const struct tty_raw *raw)
{
    struct termios modes = raw->saved;

    modes.c_iflag |= IGNPAR;
    modes.c_iflag &= ~(tcflag_t)(ISTRIP | INLCR | IGNCR | ICRNL | IXON | IXANY | IXOFF);
    modes.c_lflag &= ~(tcflag_t)(ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHONL | IEXTEN);
    modes.c_oflag &= ~(tcflag_t)OPOST;
    modes.c_cc[VMIN] = 1;
    modes.c_cc[VTIME] = 0;
    set_modes(raw->fd, &modes);
}

void tty_raw_enter(struct tty_raw *raw, int fd)
{
    *raw = (struct tty_raw){.fd = fd};
    if (tcgetattr(fd, &raw->saved) == 0) {
        raw->active = true;
        make_raw(raw);
    }
}

void tty_raw_again(struct tty_raw *raw)
{
    if (raw->active) {
        make_raw(raw);
    }
}

void tty_raw_leave(struct tty_raw *raw)
{
    if (raw->active) {
        raw->active = false;
        set_modes(raw->fd, &raw->saved);
    }
}

bool tty_size(int fd, unsigned *ret_rows, unsigned *ret_columns)
{
    struct winsize size;

    if (ioctl(fd, TIOCGWINSZ, &size) < 0) {
        return false;
    }
    *ret_rows = size.ws_row;
    *ret_columns = size.ws_col;
    return true;
}
