#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A guest's kernel that means harm, against a real file server: mounts_hostile.py LIMA_FILESERVER

It speaks FUSE (linux/fuse.h) to the server's socket itself. Beside the shared folder lies a canary,
which nothing may read, change or remove. TAP on stdout.
"""
import errno
import os
import random
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

LOOKUP, FORGET, GETATTR, SETATTR, READLINK, SYMLINK, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK = (
    1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13)
READ, WRITE, SETXATTR, REMOVEXATTR, INIT = 15, 16, 21, 24, 26
INTERRUPT = 36
READDIR, CREATE, FALLOCATE, READDIRPLUS, RENAME2, COPY, TMPFILE = 28, 35, 43, 44, 45, 47, 51
SECRET = b"the canary sings"
PREAMBLE = b"LIMAMNT\2" + struct.pack("=III", 1000, 1000, 0)
PREAMBLE_EVENTS = b"LIMAMNT\2" + struct.pack("=III", 1000, 1000, 1)
REPLAYED = 0x4C52  # lima/mount.h


class Server:
    def __init__(self, program, writable, cache_ms=1000, uid=0, fds=0):
        """uid: of who runs the server, which root alone can choose; fds: how many files it may have open"""
        self.top = tempfile.mkdtemp()
        self.shared, self.dir = f"{self.top}/shared", f"{self.top}/dir"
        os.mkdir(self.shared)
        os.mkdir(self.dir)
        with open(f"{self.top}/canary", "wb") as f:
            f.write(SECRET)
        with open(f"{self.shared}/file", "wb") as f:
            f.write(b"shared")
        os.mkdir(f"{self.shared}/folder")
        if uid:
            os.chmod(self.top, 0o755)
            for name in ("shared", "shared/file", "shared/folder", "dir"):
                os.chown(f"{self.top}/{name}", uid, uid)
        self.command = [program, "--source", self.shared, "--dir", self.dir, "--id", "00" * 16,
                        "--cache-ms", str(cache_ms)] + (["--writable"] if writable else [])
        self.options = {"user": uid, "group": uid, "extra_groups": []} if uid else {}
        if fds:
            self.options["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (fds, fds))
        self.start()
        self.unique = 0
        self.connect()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        **self.options)
        assert self.process.stdout.readline() == b"ready\n"

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.sock.close()

    def go_on(self, preamble=PREAMBLE):
        """The guest's kernel does not know that the server is another one."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(f"{self.dir}/sock")
        self.sock.sendall(preamble)

    def connect(self, preamble=PREAMBLE):
        self.go_on(preamble)
        error, _ = self.call(INIT, 0, struct.pack("=IIII", 7, 31, 131072, 0xffffffff))
        assert error == 0

    def raw(self, data):
        self.sock.sendall(data)

    def reply(self):
        while True:
            length, error, unique = struct.unpack("=IiQ", self.exactly(16))
            data = self.exactly(length - 16)
            if unique:  # else: news of what the host did
                return unique, -error, data

    def exactly(self, n):
        data = b""
        while len(data) < n:
            part = self.sock.recv(n - len(data))
            if not part:
                raise ConnectionError
            data += part
        return data

    def call(self, opcode, node, body=b"", mark=0):
        self.unique += 2
        self.raw(struct.pack("=IIQQIIII", 40 + len(body), opcode, self.unique, node, 0, 0, 1, mark << 16) + body)
        unique, error, data = self.reply()
        assert unique == self.unique
        return error, data

    def lookup(self, node, name):
        error, data = self.call(LOOKUP, node, name + b"\0")
        return error, struct.unpack_from("=Q", data)[0] if not error else 0

    def read(self, node):
        return self.call(READ, node, struct.pack("=QQIIQII", 0, 0, 65536, 0, 0, 0, 0))

    def alive(self):
        return self.process.poll() is None

    def intact(self):
        with open(f"{self.top}/canary", "rb") as f:
            assert f.read() == SECRET
        assert sorted(os.listdir(self.top)) == ["canary", "dir", "shared"], os.listdir(self.top)
        assert self.alive()

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
        self.sock.close()
        shutil.rmtree(self.top)


TESTS = []


def test(function):
    TESTS.append(function)
    return function


BAD_NAMES = [b"..", b".", b"", b"../canary", b"folder/../../canary", b"/etc/passwd", b"a/b"]


@test
def names_that_lead_elsewhere_are_refused(program):
    s = Server(program, True)
    for name in BAD_NAMES:
        for opcode, body in ((LOOKUP, name + b"\0"), (UNLINK, name + b"\0"), (RMDIR, name + b"\0"),
                             (MKDIR, struct.pack("=II", 0o777, 0) + name + b"\0"),
                             (MKNOD, struct.pack("=IIII", 0o100666, 0, 0, 0) + name + b"\0"),
                             (CREATE, struct.pack("=IIII", 0o1102, 0o666, 0, 0) + name + b"\0"),
                             (SYMLINK, name + b"\0x\0"),
                             (LINK, struct.pack("=Q", 1) + name + b"\0"),
                             (RENAME, struct.pack("=Q", 1) + b"file\0" + name + b"\0"),
                             (RENAME, struct.pack("=Q", 1) + name + b"\0got\0"),
                             (RENAME2, struct.pack("=QII", 1, 2, 0) + b"file\0" + name + b"\0")):
            error, _ = s.call(opcode, 1, body)
            assert error, f"{opcode} {name}"
    s.intact()
    s.end()


@test
def a_symbolic_link_leads_nowhere(program):
    s = Server(program, True)
    for n, target in enumerate((f"{s.top}/canary", "../canary", "/proc/self/root" + s.top + "/canary",
                                f"/proc/{os.getpid()}/root/{s.top}/canary")):
        name = f"link{n}".encode()
        assert s.call(SYMLINK, 1, name + b"\0" + target.encode() + b"\0")[0] == 0
        error, node = s.lookup(1, name)
        assert error == 0
        assert s.call(READLINK, node)[1] == target.encode()
        error, data = s.read(node)
        assert error and SECRET not in data
        assert s.call(WRITE, node, struct.pack("=QQIIQII", 0, 0, 1, 0, 0, 0, 0) + b"x")[0]
        assert s.lookup(node, b"canary")[0]
        error, _ = s.call(CREATE, 1, struct.pack("=IIII", 0o2, 0o666, 0, 0) + name + b"\0")
        s.call(SETATTR, node, struct.pack("=IIQQQQQQIIIIIIII", 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
    s.intact()
    s.end()


@test
def a_name_that_turns_into_a_link_while_it_is_used_leads_nowhere(program):
    s = Server(program, True)
    stop = time.monotonic() + float(os.environ.get("RACE_SECONDS", "3"))
    path = f"{s.shared}/race"

    def swap():
        while time.monotonic() < stop:
            with open(path, "wb") as f:
                f.write(b"shared")
            os.unlink(path)
            os.symlink("../canary", path)
            os.unlink(path)
    thread = threading.Thread(target=swap)
    thread.start()
    reads = 0
    while time.monotonic() < stop:
        error, node = s.lookup(1, b"race")
        if not error:
            error, data = s.read(node)
            assert SECRET not in data
            reads += not error
            s.call(WRITE, node, struct.pack("=QQIIQII", 0, 0, 6, 0, 0, 0, 0) + b"shared")
            s.call(SETATTR, node, struct.pack("=IIQQQQQQIIIIIIII", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0o644, 0, 0, 0, 0))
            s.call(FORGET, node, struct.pack("=Q", 1))
    thread.join()
    assert reads, "the race was never lost"
    s.intact()
    s.end()


@test
def a_folder_that_turns_into_a_link_leads_nowhere(program):
    s = Server(program, True)
    stop = time.monotonic() + float(os.environ.get("RACE_SECONDS", "3"))
    path = f"{s.shared}/turn"

    def swap():
        while time.monotonic() < stop:
            os.makedirs(path, exist_ok=True)
            shutil.rmtree(path, ignore_errors=True)
            if os.path.exists(path):
                continue
            os.symlink("..", path)
            os.unlink(path)
    thread = threading.Thread(target=swap)
    thread.start()
    while time.monotonic() < stop:
        error, node = s.lookup(1, b"turn")
        if error:
            continue
        error, found = s.lookup(node, b"canary")
        assert error, "found beside the share"
        error, _ = s.call(CREATE, node, struct.pack("=IIII", 0o102, 0o666, 0, 0) + b"planted\0")
        s.call(UNLINK, node, b"canary\0")
        s.call(UNLINK, node, b"planted\0")
        s.call(FORGET, node, struct.pack("=Q", 1))
    thread.join()
    s.intact()
    s.end()


@test
def a_folder_moved_out_of_the_share_takes_nobody_along(program):
    s = Server(program, True)
    error, node = s.lookup(1, b"folder")
    with open(f"{s.shared}/folder/inner", "wb") as f:
        f.write(b"inner")
    assert s.lookup(node, b"inner")[0] == 0
    os.rename(f"{s.shared}/folder", f"{s.top}/dir/folder2")
    shutil.move(f"{s.top}/dir/folder2", f"{s.top}/outside")
    with open(f"{s.top}/outside/inner", "wb") as f:
        f.write(SECRET)
    error, inner = s.lookup(node, b"inner")
    if not error:
        error, data = s.read(inner)
        assert SECRET not in data
    error, _ = s.call(CREATE, node, struct.pack("=IIII", 0o102, 0o666, 0, 0) + b"planted\0")
    assert error and not os.path.exists(f"{s.top}/outside/planted")
    shutil.rmtree(f"{s.top}/outside")
    s.intact()
    s.end()


CHANGING = {
    SETATTR: struct.pack("=IIQQQQQQIIIIIIII", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0o777, 0, 0, 0, 0),
    SYMLINK: b"new\0x\0",
    MKNOD: struct.pack("=IIII", 0o100666, 0, 0, 0) + b"new\0",
    MKDIR: struct.pack("=II", 0o777, 0) + b"new\0",
    UNLINK: b"file\0",
    RMDIR: b"folder\0",
    RENAME: struct.pack("=Q", 1) + b"file\0new\0",
    LINK: struct.pack("=Q", 2) + b"new\0",
    WRITE: struct.pack("=QQIIQII", 0, 0, 1, 0, 0, 0, 0) + b"x",
    SETXATTR: struct.pack("=II", 1, 0) + b"user.a\0x",
    REMOVEXATTR: b"user.a\0",
    CREATE: struct.pack("=IIII", 0o102, 0o666, 0, 0) + b"new\0",
    FALLOCATE: struct.pack("=QQQII", 0, 0, 4096, 0, 0),
    RENAME2: struct.pack("=QII", 1, 0, 0) + b"file\0new\0",
    COPY: struct.pack("=QQQQQQQ", 0, 0, 2, 0, 0, 1, 0),
    TMPFILE: struct.pack("=IIII", 0o2, 0o666, 0, 0) + b"\0",
}


@test
def a_read_only_share_refuses_all_that_changes(program):
    s = Server(program, False)
    assert s.lookup(1, b"file") == (0, 2)
    before = os.stat(f"{s.shared}/file")
    for opcode, body in CHANGING.items():
        for node in (1, 2):
            error, _ = s.call(opcode, node, body)
            assert error in (errno.EROFS, errno.EOPNOTSUPP), f"{opcode}: {error}"
    assert sorted(os.listdir(s.shared)) == ["file", "folder"]
    after = os.stat(f"{s.shared}/file")
    assert (before.st_mtime_ns, before.st_mode, before.st_size) == (after.st_mtime_ns, after.st_mode, after.st_size)
    assert s.read(2)[1] == b"shared"
    s.intact()
    s.end()


@test
def requests_that_are_marked_as_replayed_change_nothing(program):
    for writable, cache_ms in ((False, 1000), (True, 1000), (True, 0)):  # 0: it watches nothing
        s = Server(program, writable, cache_ms)
        s.sock.close()
        s.connect(PREAMBLE_EVENTS)
        assert s.lookup(1, b"file") == (0, 2)
        assert s.lookup(1, b"folder") == (0, 3)
        assert s.call(READDIR, 1, struct.pack("=QQIIQII", 0, 0, 4096, 0, 0, 0, 0))[0] == 0
        os.mkdir(f"{s.shared}/folder/inner")  # so that something is on its way
        os.rename(f"{s.shared}/folder/inner", f"{s.shared}/folder/moved")
        before = [os.stat(f"{s.shared}/{name}") for name in ("file", "folder", ".")]
        rng = random.Random(5)
        for opcode, body in CHANGING.items():
            for node in (1, 2, 3, 1 << 40, (1 << 40) + 20):
                s.call(opcode, node, body, REPLAYED)
        for _ in range(5000):
            opcode = rng.choice([*CHANGING, LOOKUP, GETATTR, FORGET])
            node = rng.choice([0, 1, 2, 3, 1 << 40, (1 << 40) + rng.randrange(64), rng.randrange(1 << 64)])
            body = CHANGING.get(opcode, bytes(16))
            if opcode == LOOKUP or rng.randrange(3) == 0:
                body = body[:-9] + rng.choice([b"file\0", b"moved\0", b"..\0", b".lima-elsewhere\0", b"1\0", b"x"])
            s.call(opcode, node, body, REPLAYED)
        assert sorted(os.listdir(s.shared)) == ["file", "folder"] and os.listdir(f"{s.shared}/folder") == ["moved"]
        after = [os.stat(f"{s.shared}/{name}") for name in ("file", "folder", ".")]
        assert [(x.st_mtime_ns, x.st_ctime_ns) for x in before] == [(x.st_mtime_ns, x.st_ctime_ns) for x in after]
        assert s.call(GETATTR, 1, bytes(16))[0] == 0
        s.intact()
        s.end()


@test
def devices_are_neither_made_nor_opened(program):
    if os.getuid():
        return "needs root, to make a device"
    s = Server(program, True)
    assert s.call(MKNOD, 1, struct.pack("=IIII", 0o020666, 0x103, 0, 0) + b"null\0")[0] in (0, errno.EPERM)
    assert not os.path.exists(f"{s.shared}/null") or os.path.isfile(f"{s.shared}/null")
    try:
        os.mknod(f"{s.shared}/zero", 0o020666, os.makedev(1, 5))
    except PermissionError:
        return "this machine lets nobody make a device"
    os.mkfifo(f"{s.shared}/pipe")
    for name in (b"zero", b"pipe"):
        error, node = s.lookup(1, name)
        assert error == 0
        assert s.read(node)[0] == errno.EINVAL
    s.intact()
    s.end()


@test
def what_is_no_message_ends_the_connection_alone(program):
    s = Server(program, True)
    for data in (b"\0" * 64, b"\xff" * 64, struct.pack("=I", 5) + b"x" * 60):
        s.raw(data)
        try:
            while s.sock.recv(65536):
                pass
        except ConnectionError:
            pass
        s.sock.close()
        s.connect()
    s.intact()
    s.end()


@test
def random_requests_get_answers(program):
    s = Server(program, True)
    rng = random.Random(11)
    names = [b"file\0", b"folder\0", b"..\0", b"a\0", b"\0", b"x" * 300 + b"\0", b"no end", b"/\0"]
    for _ in range(20000):
        opcode = rng.choice([rng.randrange(1, 60), rng.randrange(1, 60), rng.randrange(1 << 32)])
        if opcode == INIT:
            continue
        node = rng.choice([0, 1, 2, 3, rng.randrange(1 << 64)])
        body = b""
        for _ in range(rng.randrange(0, 12)):
            body += struct.pack("=I", rng.choice([0, 1, 2, 3, 4096, 0xffffffff, rng.randrange(1 << 32)]))
        body += rng.choice(names) + (rng.choice(names) if rng.randrange(2) else b"")
        s.call(opcode, node, body)
    s.intact()
    assert s.call(GETATTR, 1, bytes(16))[0] == 0
    s.end()


@test
def a_request_that_comes_again_is_not_done_again(program):
    s = Server(program, True)
    body = struct.pack("=II", 0o755, 0) + b"once\0"
    error, first = s.call(MKDIR, 1, body)
    assert error == 0
    s.unique -= 2
    error, second = s.call(MKDIR, 1, body)
    assert error == 0 and first == second
    assert s.call(MKDIR, 1, body)[0] == errno.EEXIST
    s.stop()
    s.start()
    s.go_on()
    s.unique -= 4
    error, third = s.call(MKDIR, 1, body)
    assert error == 0 and third == first, "another process does not know it"
    node = struct.unpack_from("=Q", first)[0]
    assert s.lookup(node, b"none")[0] == errno.ENOENT, "nor the node"
    again = s.unique - 2
    s.sock.close()
    s.connect()  # another boot of the guest, whose requests count from the start
    s.unique = again - 2
    assert s.call(MKDIR, 1, struct.pack("=II", 0o755, 0) + b"later\0")[0] == 0
    assert os.path.isdir(f"{s.shared}/later"), "a request of another boot was taken for an older one"
    s.intact()
    s.end()


@test
def a_change_that_comes_again_does_not_undo_what_the_host_did_since(program):
    for killed in (False, True):
        change_again(Server(program, True), killed)


def change_again(s, killed):
    error, node = s.lookup(1, b"file")
    with open(f"{s.shared}/other", "wb") as f:
        f.write(b"OTHER")
    other = s.lookup(1, b"other")[1]
    for opcode, body, expected in (
            (WRITE, struct.pack("=QQIIQII", 0, 0, 5, 0, 0, 0, 0) + b"guest", b"guestd"),
            (SETATTR, struct.pack("=IIQQQQQQIIIIIIII", 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), b""),
            (FALLOCATE, struct.pack("=QQQII", 0, 0, 3, 3, 0), b"\0\0\0red"),  # PUNCH_HOLE | KEEP_SIZE
            (COPY, struct.pack("=QQQQQQQ", 0, 0, node, 0, 0, 5, 0), b"OTHERd"),
            (SETXATTR, struct.pack("=II", 1, 1) + b"user.a\0x", b"shared")):  # XATTR_CREATE
        about = other if opcode == COPY else node
        error, first = s.call(opcode, about, body)
        if opcode == COPY and error == errno.EXDEV:
            continue  # not on this file system
        assert error == 0, (opcode, error)
        with open(f"{s.shared}/file", "rb") as f:
            assert f.read() == expected
        with open(f"{s.shared}/file", "r+b") as f:
            f.write(b"host's own")
        if killed:
            s.stop()
            s.start()
        else:
            s.sock.close()
        s.go_on()  # the answer was lost with the connection
        s.unique -= 2
        error, again = s.call(opcode, about, body)
        assert error == 0
        if opcode == SETATTR:
            assert struct.unpack_from("=QIIQQ", again)[4] == len(b"host's own")
        else:
            assert again == first
        with open(f"{s.shared}/file", "rb") as f:
            assert f.read() == b"host's own", (opcode, killed)
        if opcode != SETXATTR:
            with open(f"{s.shared}/file", "wb") as f:
                f.write(b"shared")
    s.intact()
    s.end()


@test
def an_interruption_is_answered_too(program):
    s = Server(program, True)
    for _ in range(3):  # what has no answer is kept by the guest agent, which has room for some hundred
        s.unique += 2
        s.raw(struct.pack("=IIQQIIII", 48, INTERRUPT, s.unique | 1, 0, 0, 0, 1, 0) + struct.pack("=Q", s.unique))
        assert s.reply() == (s.unique | 1, errno.ENOSYS, b"")
    s.intact()
    s.end()


@test
def a_folder_that_is_made_again_changes_nothing_behind_a_link(program):
    s = Server(program, True)
    os.mkdir(f"{s.top}/dir/outside", 0o700)
    s.stop()
    unique = 1000
    with open(f"{s.dir}/state", "ab") as f:  # journal.c: that request was begun when the server was killed
        f.write(struct.pack("=IIQ", 4, 8, unique))
    os.symlink("../dir/outside", f"{s.shared}/link")
    s.start()
    s.go_on()
    s.unique = unique - 2
    s.call(MKDIR, 1, struct.pack("=II", 0o1777, 0) + b"link\0")
    assert os.stat(f"{s.top}/dir/outside").st_mode & 0o7777 == 0o700
    assert s.call(MKDIR, 1, struct.pack("=II", 0o1777, 0) + b"sticky\0")[0] == 0
    assert os.stat(f"{s.shared}/sticky").st_mode & 0o7777 == 0o1777
    s.intact()
    s.end()


@test
def a_device_that_is_made_again_is_made_of_nobody_elses_file(program):
    s = Server(program, True)
    device = struct.pack("=IIII", 0o020644, 0x0103, 0, 0)
    if s.call(MKNOD, 1, device + b"probe\0")[0] == errno.EOPNOTSUPP:
        s.end()
        return "no attributes here"
    s.stop()
    with open(f"{s.dir}/state", "ab") as f:
        for unique in (1000, 1002, 1004):
            f.write(struct.pack("=IIQ", 4, 8, unique))
    with open(f"{s.shared}/host", "wb") as f:
        f.write(b"the host's")
    with open(f"{s.shared}/half", "wb"):
        pass
    s.start()
    s.go_on()
    s.unique = 998
    assert s.call(MKNOD, 1, device + b"host\0")[0] == errno.EEXIST
    assert os.listxattr(f"{s.shared}/host") == []
    for name in (b"half\0", b"probe\0"):
        error, data = s.call(MKNOD, 1, device + name)
        assert error == 0
        assert struct.unpack_from("=I", data, 40 + 60)[0] & 0o170000 == 0o020000
    s.intact()
    s.end()


@test
def reading_in_a_read_only_share_changes_no_mode(program):
    if os.getuid():
        return "needs root, to run the server as somebody else"
    for writable in (False, True):
        s = Server(program, writable, uid=65534)
        os.chmod(f"{s.shared}/file", 0)
        before = os.stat(f"{s.shared}/file")
        error, node = s.lookup(1, b"file")
        assert error == 0
        error, _ = s.read(node)
        after = os.stat(f"{s.shared}/file")
        assert error == (0 if writable else errno.EACCES)
        assert after.st_mode == before.st_mode
        assert writable or after.st_ctime_ns == before.st_ctime_ns
        s.intact()
        s.end()


@test
def removed_files_that_stay_open_do_not_use_up_descriptors(program):
    s = Server(program, True, fds=256)
    for n in range(600):
        name = f"removed{n}\0".encode()
        assert s.call(CREATE, 1, struct.pack("=IIII", 0o102, 0o666, 0, 0) + name)[0] == 0
        assert s.call(UNLINK, 1, name)[0] == 0
    assert s.call(READDIR, 1, struct.pack("=QQIIQII", 0, 0, 4096, 0, 0, 0, 0))[0] == 0
    error, node = s.lookup(1, b"file")
    assert error == 0 and s.read(node) == (0, b"shared")
    s.sock.close()
    s.go_on()  # as the next host agent does
    assert s.read(node) == (0, b"shared")
    s.intact()
    s.end()


@test
def no_descriptor_left_neither_spins_nor_keeps_the_next_one_out(program):
    def used():
        with open(f"/proc/{s.process.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    s = Server(program, True)
    error, node = s.lookup(1, b"file")
    assert error == 0
    _, hard = resource.prlimit(s.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(s.process.pid, resource.RLIMIT_NOFILE, (0, hard))
    s.sock.close()
    s.go_on()
    before = used()
    time.sleep(1)  # the time in which it is measured
    assert used() - before < 0.2
    resource.prlimit(s.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert s.read(node) == (0, b"shared")
    s.intact()
    s.end()


@test
def a_guest_that_begins_anew_while_files_are_open_does_no_harm(program):
    s = Server(program, True)
    s.sock.close()
    s.connect(PREAMBLE_EVENTS)
    for _ in range(20):
        error, folder = s.lookup(1, b"folder")
        assert error == 0
        assert s.call(READDIR, folder, struct.pack("=QQIIQII", 0, 0, 4096, 0, 0, 0, 0))[0] == 0
        for n in range(50):
            body = struct.pack("=IIII", 0o2, 0o666, 0, 0) + f"f{n}\0".encode()
            assert s.call(CREATE, folder, body)[0] == 0
        assert s.call(INIT, 0, struct.pack("=IIII", 7, 31, 131072, 0xffffffff))[0] == 0
    assert s.lookup(1, b"file")[0] == 0
    s.intact()
    s.end()


def main():
    program = sys.argv[1]
    print(f"1..{len(TESTS)}")
    for number, function in enumerate(TESTS, 1):
        name = function.__name__.replace("_", " ")
        try:
            skip = function(program)
            print(f"ok {number} - {name}{' # SKIP ' + skip if skip else ''}", flush=True)
        except Exception as e:  # reported
            where = e.__traceback__
            while where.tb_next:
                where = where.tb_next
            print(f"not ok {number} - {name}\n# line {where.tb_lineno}: {type(e).__name__} {e}", flush=True)


main()
