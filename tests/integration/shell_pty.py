#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`limactl shell` on a terminal: for shell.sh. usage: shell_pty.py LIMACTL LOGIN-SHELL"""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

LIMIT = 15


class Terminal:
    """limactl on a terminal of its own."""

    def __init__(self, *words):
        argv = [sys.argv[1], "shell", "--shell", sys.argv[2], "x", *words]
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave, self.master, self.seen = slave, master, b""
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for fd in range(3):
                os.dup2(slave, fd)
            os.environ["TERM"] = "xterm-test"
            os.execv(argv[0], argv)

    def type(self, text):
        os.write(self.master, text.encode())

    def expect(self, pattern):
        """Waits for output, which is dropped up to its end."""
        deadline = time.monotonic() + LIMIT
        while not (match := re.search(pattern.encode(), self.seen)):
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self.master], [], [], left)[0]:
                raise SystemExit(f"no {pattern!r} in {self.seen!r}")
            self.seen += os.read(self.master, 65536)
        self.seen = self.seen[match.end():]
        return match

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self, status):
        got = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert got == status, f"status {got}, not {status}: {self.seen!r}"
        assert termios.tcgetattr(self.slave) == self.before, "the terminal's modes differ"
        os.close(self.master)
        os.close(self.slave)


def size_and_name():
    t = Terminal("sh", "-c", "stty size; echo $TERM; tty; exit 7")
    t.expect(r"33 99\r\n")
    t.expect(r"xterm-test\r\n")
    t.expect(r"/dev/pts/\d+\r\n")
    t.end(7)


def resized():
    t = Terminal("bash", "-c", "trap 'stty size' WINCH; echo ready; while :; do read -t 0.1 x; "
                 "[ \"$x\" != end ] || exit 0; done")
    t.expect("ready")
    t.resize(44, 111)
    t.expect(r"44 111\r\n")
    t.type("end\n")
    t.end(0)


def keys_interrupt():
    t = Terminal("sh", "-c", "trap 'echo caught; exit 9' INT; echo ready; sleep 60 & wait")
    t.expect("ready")
    t.type("\x03")
    t.expect("caught")
    t.end(9)


def keys_reach_a_reader():
    t = Terminal("sh", "-c", "stty -echo; echo ready; read a; echo \"<$a>\"; cat; echo over")
    t.expect("ready")
    t.type("täst\x7f\x7fxt\n")
    t.expect("<täxt>\r\n")
    t.type("\x04")
    t.expect("over")
    t.end(0)


def interactive():
    t = Terminal()
    t.type("PS1='p''s> '\n")
    t.expect("ps> ")
    t.type("echo $((6 * 7)) $- ; tty -s && echo te''rminal\n")
    t.expect("42 .*i.*\r\n")
    t.expect("terminal")
    t.type("sh -c 'echo start''ed; exec sleep 60'\n")
    t.expect("started")
    t.type("\x1a")  # job control works
    t.expect("Stopped")
    t.type("kill -KILL %1; exit 5\nexit 5\n")  # the first may be told of a stopped job
    t.end(5)


def way_out():
    t = Terminal("sh", "-c", "echo ready; exec cat")
    t.expect("ready")
    t.type("a~.\n")
    t.expect(r"a~\.\r\n")
    t.type("~~b\n")
    t.expect(r"~b\r\n")
    t.type("~.")
    t.end(255)


def killed():
    t = Terminal("sh", "-c", "echo \"pid $$.\"; exec sleep 60")
    pid = int(t.expect(r"pid (\d+)\.")[1])
    command = os.pidfd_open(pid)
    os.kill(t.pid, signal.SIGTERM)
    t.end(-signal.SIGTERM)
    assert select.select([command], [], [], LIMIT)[0], "the command runs on"


def lost_terminal():
    t = Terminal("sh", "-c", "echo \"pid $$.\"; exec sleep 60")
    command = os.pidfd_open(int(t.expect(r"pid (\d+)\.")[1]))
    os.close(t.master)
    os.close(t.slave)
    os.waitpid(t.pid, 0)
    assert select.select([command], [], [], LIMIT)[0], "the command runs on"


for test in (size_and_name, resized, keys_interrupt, keys_reach_a_reader, interactive, way_out, killed,
             lost_terminal):
    print(test.__name__, flush=True)
    test()
