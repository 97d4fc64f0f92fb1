/* SPDX-License-Identifier: Apache-2.0 */
#include "pty.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
#include "base/alloc.h"

/* As mesg(1) and write(1) want it: the group may write. */
static int give_away(int slave, uid_t uid)
{
    const struct group *tty = getgrnam("tty");
    struct stat st;

    if (fstat(slave, &st) < 0) {
        return -errno;
    }
    if (st.st_uid == uid && !tty) {
        return 0;
    }
    return fchown(slave, uid, tty ? tty->gr_gid : st.st_gid) < 0 ||
                   fchmod(slave, tty ? 0620 : 0600) < 0
               ? -errno
               : 0;
}

static int open_slave(int master)
{
    char name[32];
    int fd;

    if (grantpt(master) < 0 || unlockpt(master) < 0) {
        return -errno;
    }
    if (ptsname_r(master, name, sizeof(name)) != 0) {
        return -ENOTTY;
    }
    fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Input is UTF-8: so erasing a character takes all of its bytes. */
static void set_modes(int slave)
{
    struct termios modes;

    if (tcgetattr(slave, &modes) == 0) {
        modes.c_iflag |= IUTF8;
        tcsetattr(slave, TCSANOW, &modes);
    }
}

int pty_open(uid_t uid, unsigned rows, unsigned columns, int *ret_master, int *ret_slave,
             struct error *err)
{
    scoped(fd_close) int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    scoped(fd_close) int slave = -1;
    int r;

    if (master < 0) {
        return error_errno(err, errno, "opening a terminal");
    }
    slave = open_slave(master);
    if (slave < 0) {
        return error_errno(err, -slave, "opening a terminal");
    }
    r = geteuid() == 0 ? give_away(slave, uid) : 0;
    if (r < 0) {
        return error_errno(err, -r, "giving a terminal to user %lu", (unsigned long)uid);
    }
    set_modes(slave);
    pty_resize(master, rows, columns);
    *ret_master = steal_fd(&master);
    *ret_slave = steal_fd(&slave);
    return 0;
}

void pty_resize(int master, unsigned rows, unsigned columns)
{
    const struct winsize size = {.ws_row = (unsigned short)MIN(rows, UINT16_MAX),
                                 .ws_col = (unsigned short)MIN(columns, UINT16_MAX)};

    ioctl(master, TIOCSWINSZ, &size);
}

bool pty_signal(int master, int signal)
{
    pid_t group = tcgetpgrp(master);

    return group > 0 && kill(-group, signal) == 0;
}

char pty_end_of_input(int master)
{
    struct termios modes;

    return tcgetattr(master, &modes) == 0 && modes.c_lflag & ICANON ? (char)modes.c_cc[VEOF] : '\0';
}
