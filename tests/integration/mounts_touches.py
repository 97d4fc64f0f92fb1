# SPDX-License-Identifier: Apache-2.0
"""Watches a folder with all below it, also what appears, and prints what it is shown: "ATTRIB old/file". Ends
when it is shown a file "end"."""

import ctypes
import os
import select
import struct
import sys
import time

ATTRIB, IS_DIR, MASK = 0x4, 0x40000000, 0xFC6  # modify, attributes, both halves of a move, create, delete, gone
NAMES = {0x2: "MODIFY", 0x4: "ATTRIB", 0x40: "MOVED_FROM", 0x80: "MOVED_TO", 0x100: "CREATE", 0x200: "DELETE"}
DEADLINE_S = 60

libc = ctypes.CDLL(None, use_errno=True)
top = sys.argv[1]
fd = libc.inotify_init1(0)
watched = {}


def watch(folder):
    for path, _, _ in os.walk(folder):
        name = os.path.relpath(path, top)
        wd = libc.inotify_add_watch(fd, path.encode(), MASK)
        if wd < 0:
            sys.exit(f"watching {path}: {os.strerror(ctypes.get_errno())}")
        if watched.get(wd) != name:
            watched[wd] = name
            print("watching", name, flush=True)


def events():
    data, at = os.read(fd, 65536), 0
    while at < len(data):
        wd, mask, _, size = struct.unpack_from("iIII", data, at)
        name = data[at + 16:at + 16 + size].rstrip(b"\0").decode()
        at += 16 + size
        yield mask, os.path.normpath(os.path.join(watched.get(wd, "?"), name))


watch(top)
end = time.monotonic() + DEADLINE_S
while select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
    for mask, name in events():
        print("|".join(text for bit, text in NAMES.items() if mask & bit), name, flush=True)
        if name == "end":
            sys.exit(0)
        if mask & IS_DIR and mask & ATTRIB and name not in watched.values():
            watch(os.path.join(top, name))
sys.exit("no end came")
