#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A disk that hangs: slowfs.py FOLDER mounts one there (needs root and /dev/fuse), until it is unmounted.

It has two files, "quick" and "held". READ of "held" and each FSYNC are answered only once SIGUSR1 has
come; FSYNC then fails with EIO. What is held is told on standard output, a line each.
"""
import ctypes
import errno
import os
import signal
import struct
import sys

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC = 1, 2, 3, 4, 14, 15, 16, 17, 18, 20
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 25, 26, 27, 28, 29, 36, 38, 42
ROOT, HELD, QUICK = 1, 2, 3
NAMES = {b"held": HELD, b"quick": QUICK}
CONTENT = {HELD: b"held" * 1024, QUICK: b"quick"}


def attr(node):
    folder = node == ROOT
    size = 0 if folder else len(CONTENT[node])
    return struct.pack("=QQQQQQIIIIIIIIII", node, size, 8, 0, 0, 0, 0, 0, 0,
                       0o40755 if folder else 0o100666, 2 if folder else 1, 0, 0, 0, 4096, 0)


def listing(offset):
    if offset:
        return b""
    out = b""
    for at, (name, node) in enumerate(NAMES.items(), 1):
        entry = struct.pack("=QQII", node, at, len(name), 8) + name
        out += entry + bytes(-len(entry) % 8)
    return out


def serve(opcode, node, body):
    """The body of the answer, or an errno."""
    if opcode == INIT:
        return struct.pack("=IIIIHHIIHH", 7, 31, 0, 0, 16, 12, 65536, 1, 16, 0) + bytes(32)
    if opcode == LOOKUP:
        found = NAMES.get(body.rstrip(b"\0"))
        return struct.pack("=QQQQII", found, 0, 0, 0, 0, 0) + attr(found) if found else errno.ENOENT
    if opcode in (GETATTR, SETATTR):
        return struct.pack("=QII", 0, 0, 0) + attr(node)
    if opcode in (OPEN, OPENDIR):
        return struct.pack("=QII", 0, 0, 0)
    if opcode == READDIR:
        return listing(struct.unpack_from("=QQ", body)[1])
    if opcode == READ:
        _, offset, size = struct.unpack_from("=QQI", body)
        return CONTENT[node][offset:offset + size]
    if opcode == WRITE:
        return struct.pack("=II", struct.unpack_from("=QQI", body)[2], 0)
    if opcode == STATFS:
        return struct.pack("=QQQQQIIII", 1000, 1000, 1000, 10, 10, 4096, 255, 4096, 0) + bytes(24)
    if opcode == FSYNC:
        return errno.EIO
    return b"" if opcode in (FLUSH, RELEASE, RELEASEDIR) else errno.ENOSYS


def main():
    folder = os.path.realpath(sys.argv[1])
    dev = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={dev},rootmode=40000,user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"slowfs", folder.encode(), b"fuse.slowfs", 0, options.encode()) < 0:
        sys.exit(f"mounting at {folder}: {os.strerror(ctypes.get_errno())}")
    held = []
    free = False

    def answer(opcode, unique, node, body):
        result = serve(opcode, node, body)
        if isinstance(result, int):
            os.write(dev, struct.pack("=IiQ", 16, -result, unique))
        else:
            os.write(dev, struct.pack("=IiQ", 16 + len(result), 0, unique) + result)

    def release(signo, frame):
        nonlocal free
        free = True
        while held:
            answer(*held.pop(0))

    signal.signal(signal.SIGUSR1, release)
    if os.fork():  # the folder is usable from now on
        os._exit(0)
    print(f"pid {os.getpid()}", flush=True)
    while True:
        try:
            request = os.read(dev, 1 << 20)
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.EINTR):
                continue
            return
        _, opcode, unique, node = struct.unpack_from("=IIQQ", request)
        job = (opcode, unique, node, request[40:])
        if opcode in (FORGET, BATCH_FORGET, INTERRUPT, DESTROY):
            continue
        if not free and (opcode == FSYNC or (opcode == READ and node == HELD)):
            print(f"holds {'FSYNC' if opcode == FSYNC else 'READ'}", flush=True)
            held.append(job)
        else:
            answer(*job)


main()
