#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A guest that means harm, against a real file server's SFTP: mounts_hostile_sftp.py LIMA_FILESERVER

It speaks the protocol (draft-ietf-secsh-filexfer-02) to the server's socket itself. Beside the
shared folder lies a canary, which nothing may read, change or remove. TAP on stdout; RACE_SECONDS
says how long the race goes on.
"""
import os
import random
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time

INIT, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR, REMOVE = 1, *range(3, 14)
MKDIR, RMDIR, REALPATH, STAT, RENAME, READLINK, SYMLINK, EXTENDED = 14, 15, 16, 17, 18, 19, 20, 200
STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, UNSUPPORTED = 0, 1, 2, 3, 4, 5, 8
R, W, APPEND, CREAT, TRUNC, EXCL = 1, 2, 4, 8, 16, 32
SECRET = b"the canary sings"
PREAMBLE = b"LIMAMNT\2" + struct.pack("=III", 1000, 1000, 0)
NO_ATTRS = struct.pack(">I", 0)
SIZE_0 = struct.pack(">IQ", 1, 0)


def text(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">I", len(data)) + data


class Server:
    def __init__(self, program, writable, follow=False):
        self.top = tempfile.mkdtemp()
        self.shared, self.dir = f"{self.top}/shared", f"{self.top}/dir"
        os.mkdir(self.shared)
        os.mkdir(self.dir)
        for path, data in (("canary", SECRET), ("shared/file", b"shared")):
            with open(f"{self.top}/{path}", "wb") as f:
                f.write(data)
        os.mkdir(f"{self.shared}/folder")
        os.symlink("../canary", f"{self.shared}/up")
        os.symlink(f"{self.top}/canary", f"{self.shared}/absolute")
        os.symlink("..", f"{self.shared}/above")
        os.symlink("/proc/self/root", f"{self.shared}/proc")
        os.symlink(f"/proc/self/cwd{self.top}", f"{self.shared}/cwd")
        os.symlink(self.top, f"{self.shared}/folder/out")
        self.process = subprocess.Popen(
            [program, "--source", self.shared, "--dir", self.dir, "--id", "00" * 16, "--sftp"]
            + (["--writable"] if writable else []) + (["--follow-symlinks"] if follow else []),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout.readline() == b"ready\n"
        self.connect()

    def connect(self, begin=True):
        self.number = 0
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(f"{self.dir}/sock")
        self.sock.sendall(PREAMBLE)
        if begin:
            self.send(INIT, struct.pack(">I", 3))
            assert self.reply()[0] == 2

    def send(self, kind, body):
        self.sock.sendall(struct.pack(">IB", len(body) + 1, kind) + body)

    def exactly(self, n):
        data = b""
        while len(data) < n:
            part = self.sock.recv(n - len(data))
            if not part:
                raise ConnectionError
            data += part
        return data

    def reply(self):
        length, = struct.unpack(">I", self.exactly(4))
        assert 1 <= length <= 262144
        data = self.exactly(length)
        return data[0], data[1:]

    def call(self, kind, *fields):
        """The answer's type and body; of a status: its number."""
        self.number += 1
        self.send(kind, struct.pack(">I", self.number) + b"".join(fields))
        kind, data = self.reply()
        assert struct.unpack_from(">I", data)[0] == self.number
        return (kind, struct.unpack_from(">I", data, 4)[0]) if kind == STATUS else (kind, data[4:])

    def extended(self, name, *fields):
        return self.call(EXTENDED, text(name), *fields)

    def open(self, path, flags):
        kind, data = self.call(OPEN, text(path), struct.pack(">I", flags), NO_ATTRS)
        return (kind, data[4:]) if kind == HANDLE else (kind, data)

    def read(self, handle, length=65536):
        return self.call(READ, text(handle), struct.pack(">QI", 0, length))

    def contents(self, handle):
        kind, data = self.read(handle)
        return data[4:] if kind == DATA else b""

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


# Ways to the canary, or to its folder, from within.
WAYS = ["up", "absolute", "above/canary", "folder/out/canary", "../canary", "folder/../../canary", "/../../canary",
        "proc{top}/canary", "cwd/canary", "folder/./out/../canary", "//..//canary", "{top}/canary",
        "above/shared/../canary", "/proc/self/cwd{top}/canary", "folder/out/shared/up"]


def attack(server):
    for way in WAYS:
        way = way.replace("{top}", server.top)
        for flags in (R, R | W, W, W | CREAT, W | CREAT | TRUNC, W | CREAT | EXCL, W | APPEND, R | W | CREAT | APPEND):
            kind, handle = server.open(way, flags)
            if kind == HANDLE:  # a name that was made within the folder
                assert SECRET not in server.contents(handle), (way, flags)
                server.call(WRITE, text(handle), struct.pack(">Q", 0), text("x"))
                server.call(CLOSE, text(handle))
        for kind in (STAT, LSTAT):
            answer, data = server.call(kind, text(way))
            if answer == ATTRS:
                mode, size = struct.unpack_from(">I", data, 20)[0], struct.unpack_from(">Q", data, 4)[0]
                assert stat.S_ISLNK(mode) or size != len(SECRET), way
        server.call(SETSTAT, text(way), SIZE_0)
        server.call(SETSTAT, text(way), struct.pack(">II", 4, 0o777))
        server.call(SETSTAT, text(way), struct.pack(">III", 8, 1, 1))
        server.extended("lsetstat@openssh.com", text(way), struct.pack(">III", 8, 1, 1))
        server.call(RENAME, text(way), text("stolen"))
        server.call(RENAME, text("file"), text(way))
        server.extended("posix-rename@openssh.com", text(way), text("stolen2"))
        server.extended("hardlink@openssh.com", text(way), text("stolen3"))
        server.extended("hardlink@openssh.com", text("folder"), text(way))
        server.extended("statvfs@openssh.com", text(way))
        server.call(SYMLINK, text("x"), text(way))
        server.call(REMOVE, text(way))
        server.call(RMDIR, text(way))
        server.call(MKDIR, text(way), NO_ATTRS)
        for name in ("stolen", "stolen2", "stolen3"):
            kind, handle = server.open(name, R)
            if kind == HANDLE:
                assert SECRET not in server.contents(handle)
                server.call(CLOSE, text(handle))
        server.intact()


@test
def no_path_leads_out(program):
    server = Server(program, True)
    attack(server)
    server.end()


@test
def no_link_that_is_followed_leads_out(program):
    server = Server(program, True, follow=True)
    os.symlink("file", f"{server.shared}/inner")
    kind, handle = server.open("inner", R)
    assert kind == HANDLE and server.contents(handle) == b"shared"
    attack(server)
    server.end()


@test
def nothing_is_opened_that_waits_or_acts(program):
    server = Server(program, True)
    os.mkfifo(f"{server.shared}/pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{server.shared}/socket")
        os.mknod(f"{server.shared}/device", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
        for name in ("pipe", "socket", "device", "folder", "", "."):
            for flags in (R, W, R | W, W | CREAT, W | TRUNC):
                assert server.open(name, flags)[0] == STATUS, name
            if name not in ("folder", "", "."):
                assert server.call(SETSTAT, text(name), SIZE_0)[1] != OK
    server.intact()
    server.end()


def tree(top):
    return [(path, sorted(dirs), sorted(files), [os.lstat(f"{path}/{name}")[:9] for name in sorted(files)])
            for path, dirs, files in sorted(os.walk(top))]


@test
def a_read_only_folder_refuses_all_that_changes_it(program):
    server = Server(program, False)
    before = tree(server.shared)
    for flags in (W, R | W, CREAT, R | CREAT, W | CREAT, R | TRUNC, R | APPEND, R | EXCL, W | CREAT | EXCL):
        assert server.open("file", flags) == (STATUS, PERMISSION_DENIED), flags
        assert server.open("new", flags) == (STATUS, PERMISSION_DENIED), flags
    kind, handle = server.open("file", R)
    assert kind == HANDLE
    for answer in (
            server.call(WRITE, text(handle), struct.pack(">Q", 0), text("x")),
            server.call(SETSTAT, text("file"), SIZE_0),
            server.call(SETSTAT, text("file"), struct.pack(">II", 4, 0o777)),
            server.call(SETSTAT, text("file"), struct.pack(">III", 8, 1, 1)),
            server.call(SETSTAT, text("file"), struct.pack(">III", 2, 1, 1)),
            server.call(FSETSTAT, text(handle), SIZE_0),
            server.call(FSETSTAT, text(handle), struct.pack(">II", 4, 0o777)),
            server.call(REMOVE, text("file")), server.call(RMDIR, text("folder")),
            server.call(MKDIR, text("new"), NO_ATTRS), server.call(RENAME, text("file"), text("new")),
            server.call(SYMLINK, text("x"), text("new")),
            server.extended("posix-rename@openssh.com", text("file"), text("new")),
            server.extended("hardlink@openssh.com", text("file"), text("new")),
            server.extended("lsetstat@openssh.com", text("file"), struct.pack(">III", 8, 1, 1))):
        assert answer == (STATUS, PERMISSION_DENIED), answer
    assert server.contents(handle) == b"shared"
    assert tree(server.shared) == before
    server.end()


@test
def folders_that_are_swapped_for_links_lead_nowhere(program):
    server = Server(program, True)
    stop = threading.Event()
    inside, link, away = (f"{server.shared}/{name}" for name in ("swap", "link", "away"))
    os.mkdir(inside)
    os.symlink(server.top, link)

    def swap():
        while not stop.is_set():
            os.rename(inside, away)
            os.rename(link, inside)
            os.rename(inside, link)
            os.rename(away, inside)

    swapper = threading.Thread(target=swap, daemon=True)
    swapper.start()
    end = time.monotonic() + float(os.environ.get("RACE_SECONDS", "3"))
    while time.monotonic() < end:
        kind, handle = server.open("swap/canary", random.choice((R, R | W, W | CREAT)))
        if kind == HANDLE:
            assert SECRET not in server.contents(handle)
            server.call(WRITE, text(handle), struct.pack(">Q", 0), text("x"))
            server.call(CLOSE, text(handle))
        server.call(SETSTAT, text("swap/canary"), SIZE_0)
        server.call(REMOVE, text("swap/canary"))
        server.call(MKDIR, text("swap/made"), NO_ATTRS)
        server.call(RMDIR, text("swap/made"))
        server.call(RENAME, text("swap/canary"), text("stolen"))
    stop.set()
    swapper.join()
    server.intact()
    server.end()


@test
def handles_are_bounded_and_not_to_be_guessed(program):
    server = Server(program, True)
    handles = []
    while True:
        kind, handle = server.open("file", R) if len(handles) % 2 else server.call(OPENDIR, text("folder"))
        if kind == STATUS:
            break
        handles.append(handle if len(handles) % 2 else handle[4:])
        assert len(handles) <= 1024
    assert handle == FAILURE and len(handles) == 1024
    for made_up in (b"", b"\0" * 8, b"\xff" * 8, b"\0" * 7, b"\0" * 9, os.urandom(8), handles[0][:4] + b"\xff" * 4):
        for answer in (server.read(made_up), server.call(CLOSE, text(made_up)), server.call(READDIR, text(made_up)),
                       server.call(FSTAT, text(made_up)), server.extended("fsync@openssh.com", text(made_up))):
            assert answer[0] == STATUS and answer[1] in (FAILURE, BAD_MESSAGE) or made_up in handles, answer
    assert server.call(CLOSE, text(handles[5])) == (STATUS, OK)
    assert server.read(handles[5]) == (STATUS, FAILURE)
    assert server.open("file", R)[0] == HANDLE
    assert server.read(handles[5]) == (STATUS, FAILURE)
    server.connect()  # what the last one had open is closed
    assert server.read(handles[7]) == (STATUS, FAILURE)
    assert len(os.listdir(f"/proc/{server.process.pid}/fd")) < 32
    server.end()


@test
def a_file_that_comes_and_goes_can_always_be_made(program):
    server = Server(program, True)
    come_and_go = ("import os, sys\nwhile True:\n    try:\n        open(sys.argv[1], 'w').close()\n"
                   "        os.unlink(sys.argv[1])\n    except FileNotFoundError:\n        pass")
    others = [subprocess.Popen([sys.executable, "-c", come_and_go, f"{server.shared}/brief"]) for _ in range(2)]
    try:
        ends = time.monotonic() + 2
        while time.monotonic() < ends:
            kind, handle = server.open("brief", W | CREAT)
            assert kind == HANDLE, handle
            assert server.call(CLOSE, text(handle)) == (STATUS, OK)
    finally:
        for other in others:
            other.kill()
            other.wait()
    server.intact()
    server.end()


@test
def nothing_is_answered_before_the_beginning(program):
    server = Server(program, True)
    server.connect(begin=False)
    server.send(LSTAT, struct.pack(">I", 1) + text("file"))
    try:
        server.reply()
        raise AssertionError("answered")
    except ConnectionError:
        pass
    server.connect()
    assert server.call(LSTAT, text("file"))[0] == ATTRS
    server.end()


@test
def names_and_paths_of_any_kind_are_errors_at_most(program):
    server = Server(program, True)
    for path in ("x" * 256, "x" * 4095, "x/" * 2047, "x" * 5000, "a\0b", b"\xff\xfe", "\n", "*", "folder/" + "../" * 2000,
                 "/" * 4000 + "file", "." * 255, ".../x", "file/", "file/.", "file/x"):
        for kind in (LSTAT, STAT, OPENDIR, REMOVE if "file" not in str(path) else READLINK, RMDIR, REALPATH):
            server.call(kind, text(path))
        server.call(MKDIR, text(path), NO_ATTRS)
        server.call(SYMLINK, text(path), text("link"))
        server.intact()
    server.end()


@test
def bytes_that_make_no_sense_end_the_connection_alone(program):
    server = Server(program, True)
    random.seed(7)
    for junk in (b"\0\0\0\0", b"\xff\xff\xff\xff", struct.pack(">IB", 262145, READ), struct.pack(">I", 1) + b"\x05" * 3):
        server.connect()
        server.sock.sendall(junk)
        server.sock.shutdown(socket.SHUT_WR)
        while server.sock.recv(65536):
            pass
        assert server.alive()
    server.connect()
    for _ in range(3000):
        kind = random.choice([*range(0, 22), EXTENDED, 100, 201, 255])
        body = bytes(random.choice((0, 0, 0, 1, 4, 8, 255, random.randrange(256))) for _ in range(random.randrange(60)))
        if random.random() < 0.5:
            body = struct.pack(">I", 7) + text(random.choice(("file", "folder", "up", "statvfs@openssh.com"))) + body
        if kind == INIT:
            continue
        server.send(kind, body)
        answer, data = server.reply()
        assert answer in (STATUS, HANDLE, DATA, NAME, ATTRS, 201), answer
    server.intact()
    server.end()


@test
def reads_and_writes_at_the_ends_of_numbers_are_errors_at_most(program):
    server = Server(program, True)
    kind, handle = server.open("file", R | W)
    for offset in (0, 1 << 31, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
        for length in (0, 1, 1 << 18, (1 << 32) - 1):
            server.call(READ, text(handle), struct.pack(">QI", offset, length))
        if offset != 0:
            server.call(WRITE, text(handle), struct.pack(">Q", offset), text(""))
    server.call(SETSTAT, text("file"), struct.pack(">IQ", 1, (1 << 64) - 1))
    server.call(FSETSTAT, text(handle), struct.pack(">IQ", 1, 1 << 63))
    server.call(SETSTAT, text("file"), struct.pack(">II", 0x80000000, 0xffffffff))
    assert os.path.getsize(f"{server.shared}/file") == 6
    server.intact()
    server.end()


def main():
    print(f"1..{len(TESTS)}")
    for number, function in enumerate(TESTS, 1):
        name = function.__name__.replace("_", " ")
        try:
            function(sys.argv[1])
            print(f"ok {number} - {name}", flush=True)
        except Exception as e:
            import traceback
            print("# " + traceback.format_exc().replace("\n", "\n# "))
            print(f"not ok {number} - {name}", flush=True)


main()
