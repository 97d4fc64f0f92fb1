#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a file system must do, on a mounted folder: mounts_posix.py MOUNTED SHARED

MOUNTED is the folder as the guest sees it, SHARED the same as the host has it. TAP on stdout.
"""
import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import random
import socket
import stat
import sys
import threading

ROOT, SHARED = sys.argv[1:3]
libc = ctypes.CDLL(None, use_errno=True)
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def at(*names):
    return os.path.join(ROOT, *names)


def host(*names):
    return os.path.join(SHARED, *names)


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def raises(code, function, *args):
    try:
        function(*args)
    except OSError as e:
        assert e.errno == code, f"{errno.errorcode[e.errno]}, not {errno.errorcode[code]}"
        return
    raise AssertionError(f"no {errno.errorcode[code]}")


@test
def a_file_written_here_is_on_the_host():
    data = os.urandom(3 * 1024 * 1024 + 17)
    write(at("a"), data)
    assert read(host("a")) == data and read(at("a")) == data
    assert os.stat(at("a")).st_size == len(data)


@test
def modes_and_times_pass():
    write(at("m"), b"x")
    os.chmod(at("m"), 0o4751)
    assert stat.S_IMODE(os.stat(host("m")).st_mode) == 0o4751
    os.utime(at("m"), ns=(1234567890123456789, 987654321012345678))
    s = os.stat(host("m"))
    assert (s.st_atime_ns, s.st_mtime_ns) == (1234567890123456789, 987654321012345678)
    assert os.stat(at("m")).st_mtime_ns == 987654321012345678


@test
def a_write_takes_the_set_user_bit_away_from_who_is_not_root():
    write(at("s"), b"x")
    os.chmod(at("s"), 0o6777)
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(54321)
            os.setuid(54321)
            with open(at("s"), "r+b", buffering=0) as f:
                f.write(b"y")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0, "the other user could not write"
    assert stat.S_IMODE(os.stat(host("s")).st_mode) == 0o777, oct(os.stat(host("s")).st_mode)


@test
def links_of_both_kinds():
    write(at("l1"), b"1")
    os.link(at("l1"), at("l2"))
    s1, s2 = os.stat(at("l1")), os.stat(at("l2"))
    assert s1.st_ino == s2.st_ino and s1.st_nlink == 2 and os.stat(host("l1")).st_nlink == 2
    write(at("l2"), b"22")
    assert read(at("l1")) == b"22"
    os.unlink(at("l1"))
    assert os.stat(at("l2")).st_nlink == 1 and read(at("l2")) == b"22"
    os.symlink("/etc/passwd", at("absolute"))
    assert os.readlink(at("absolute")) == "/etc/passwd" == os.readlink(host("absolute"))
    assert stat.S_ISLNK(os.lstat(at("absolute")).st_mode)
    os.symlink("x" * 4095, at("long"))
    assert os.readlink(at("long")) == "x" * 4095


@test
def rename_with_and_without_flags():
    os.mkdir(at("r"))
    write(at("r", "a"), b"a")
    write(at("r", "b"), b"b")
    number = os.stat(at("r", "a")).st_ino
    os.rename(at("r", "a"), at("r", "c"))
    assert os.stat(at("r", "c")).st_ino == number
    os.rename(at("r", "c"), at("r", "b"))
    assert os.listdir(at("r")) == ["b"] and read(host("r", "b")) == b"a"
    write(at("r", "d"), b"d")
    assert libc.renameat2(-100, at("r", "d").encode(), -100, at("r", "b").encode(), 1) == -1
    assert ctypes.get_errno() == errno.EEXIST
    assert libc.renameat2(-100, at("r", "d").encode(), -100, at("r", "b").encode(), 2) == 0
    assert read(at("r", "d")) == b"a" and read(at("r", "b")) == b"d"
    os.mkdir(at("r", "sub"))
    write(at("r", "sub", "f"), b"f")
    with open(at("r", "sub", "f"), "rb") as f:
        os.rename(at("r", "sub"), at("moved"))
        assert f.read() == b"f"
    assert read(at("moved", "f")) == b"f"
    raises(errno.EINVAL, os.rename, at("moved"), at("moved", "in"))
    raises(errno.ENOTEMPTY, os.rename, at("r"), at("moved"))


@test
def an_unlinked_file_lives_while_it_is_open():
    f = open(at("u"), "w+b", buffering=0)
    f.write(b"before")
    os.unlink(at("u"))
    assert not os.path.exists(host("u"))
    f.write(b" and after")
    f.seek(0)
    assert f.read() == b"before and after"
    assert os.fstat(f.fileno()).st_nlink == 0
    write(at("u"), b"another")
    f.seek(0)
    assert f.read(6) == b"before"
    f.close()


@test
def a_file_replaced_by_rename_lives_while_it_is_open():
    write(at("v"), b"old")
    f = open(at("v"), "rb", buffering=0)
    write(at("w"), b"new")
    os.rename(at("w"), at("v"))
    assert f.read() == b"old" and read(at("v")) == b"new"
    f.close()


@test
def a_file_replaced_by_the_host_lives_while_it_is_open():
    write(at("vh"), b"old")
    f = open(at("vh"), "rb", buffering=0)
    assert f.read(1) == b"o"
    write(host("vh.new"), b"new")
    os.rename(host("vh.new"), host("vh"))
    assert f.read() == b"ld"
    f.close()


@test
def who_cannot_write_a_file_any_more_can_through_the_open_one():
    fd = os.open(at("ro"), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o444)
    os.write(fd, b"x" * 100)
    os.fsync(fd)
    os.write(fd, b"y" * 100)
    os.close(fd)
    assert read(host("ro")) == b"x" * 100 + b"y" * 100
    assert stat.S_IMODE(os.stat(host("ro")).st_mode) == 0o444


@test
def holes_and_allocation():
    with open(at("h"), "w+b", buffering=0) as f:
        f.truncate(1 << 20)
        os.pwrite(f.fileno(), b"x" * 4096, 512 * 1024)
        assert os.lseek(f.fileno(), 0, os.SEEK_DATA) == 512 * 1024
        assert os.lseek(f.fileno(), 512 * 1024, os.SEEK_HOLE) == 512 * 1024 + 4096
        os.posix_fallocate(f.fileno(), 0, 2 << 20)
        assert os.fstat(f.fileno()).st_size == 2 << 20
        assert libc.fallocate(f.fileno(), 3, ctypes.c_long(512 * 1024), ctypes.c_long(4096)) == 0
        assert os.pread(f.fileno(), 10, 512 * 1024) == bytes(10)


@test
def a_sparse_file_above_4_gib():
    with open(at("large"), "w+b", buffering=0) as f:
        os.pwrite(f.fileno(), b"end", 5 << 30)
        assert os.fstat(f.fileno()).st_size == (5 << 30) + 3
        assert os.pread(f.fileno(), 3, 5 << 30) == b"end"
    assert os.stat(host("large")).st_blocks < 1000
    os.unlink(at("large"))


@test
def copying_on_the_host():
    data = os.urandom(300000)
    write(at("c1"), data)
    with open(at("c1"), "rb") as a, open(at("c2"), "wb") as b:
        left = len(data)
        while left:
            n = os.copy_file_range(a.fileno(), b.fileno(), left)
            assert n > 0
            left -= n
    assert read(host("c2")) == data and read(at("c2")) == data


@test
def appending_and_truncating():
    for word in (b"one", b"two", b"three"):
        with open(at("ap"), "ab", buffering=0) as f:
            f.write(word)
    assert read(at("ap")) == b"onetwothree"
    os.truncate(at("ap"), 4)
    assert read(host("ap")) == b"onet"
    write(at("ap"), b"")
    assert os.stat(host("ap")).st_size == 0


def has_attributes():
    write(host("probe"), b"")
    try:
        os.setxattr(host("probe"), "user.probe", b"1")
    except OSError:
        return False
    return True


@test
def extended_attributes_of_users():
    write(at("x"), b"")
    try:
        os.setxattr(host("x"), "user.probe", b"1")
    except OSError:
        return "the host's file system has none"
    os.removexattr(host("x"), "user.probe")
    os.setxattr(at("x"), "user.a", b"value")
    os.setxattr(at("x"), "user.b", b"")
    assert os.getxattr(host("x"), "user.a") == b"value"
    assert sorted(os.listxattr(at("x"))) == ["user.a", "user.b"]
    raises(errno.EEXIST, os.setxattr, at("x"), "user.a", b"", os.XATTR_CREATE)
    os.removexattr(at("x"), "user.a")
    raises(errno.ENODATA, os.getxattr, at("x"), "user.a")


@test
def attributes_that_mean_something_to_the_host_are_none_of_the_guests_business():
    write(at("t"), b"")
    for name in ("trusted.a", "security.selinux"):
        raises(errno.EOPNOTSUPP, os.setxattr, at("t"), name, b"x")


@test
def shared_memory_maps():
    write(at("mm"), bytes(65536))
    with open(at("mm"), "r+b") as f, mmap.mmap(f.fileno(), 65536) as m:
        m[1000:1005] = b"hello"
        m.flush()
        assert read(at("mm"))[1000:1005] == b"hello"
    assert read(host("mm"))[1000:1005] == b"hello"


@test
def locks_within_the_guest():
    write(at("lock"), b"")
    with open(at("lock"), "r+b") as a, open(at("lock"), "r+b") as b:
        fcntl.flock(a, fcntl.LOCK_EX)
        raises(errno.EAGAIN, fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(a, fcntl.LOCK_UN)
        fcntl.lockf(a, fcntl.LOCK_EX)


@test
def pipes_and_sockets_are_the_guests_own():
    os.mkfifo(at("fifo"))
    assert stat.S_ISFIFO(os.stat(host("fifo")).st_mode)

    def send():
        write(at("fifo"), b"through")
    t = threading.Thread(target=send)
    t.start()
    assert read(at("fifo")) == b"through"
    t.join()
    s = socket.socket(socket.AF_UNIX)
    s.bind(at("sock"))
    assert stat.S_ISSOCK(os.stat(host("sock")).st_mode)
    s.close()
    if not has_attributes():
        raises(errno.EPERM, os.mknod, at("device"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
        return None
    os.mknod(at("device"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    s = os.stat(at("device"))
    assert stat.S_ISCHR(s.st_mode) and s.st_rdev == os.makedev(1, 3)
    raises(errno.EACCES, open, at("device"), "rb")
    assert stat.S_ISREG(os.stat(host("device")).st_mode) or at("device") == host("device")
    os.unlink(at("device"))


@test
def a_folder_is_read_while_it_changes():
    os.mkdir(at("many"))
    for i in range(1000):
        write(at("many", f"{i:04}"), b"")
    seen = set()
    with os.scandir(at("many")) as entries:
        for n, entry in enumerate(entries):
            assert entry.name not in seen, "twice"
            seen.add(entry.name)
            if n < 300:
                os.unlink(at("many", entry.name))
    assert len(seen) == 1000
    assert len(os.listdir(at("many"))) == 700 == len(os.listdir(host("many")))


@test
def names_of_all_kinds():
    for name in ("with space", "quo'te\"s", "new\nline", "grüße", "-dash", "a" * 255, "\\back", "\x7f"):
        write(at(name), name.encode())
        assert read(host(name)) == name.encode() and name in os.listdir(ROOT)
        os.unlink(at(name))
    raises(errno.ENAMETOOLONG, write, at("a" * 256), b"")
    raw = os.path.join(ROOT.encode(), b"\xff\xfe")
    os.close(os.open(raw, os.O_CREAT))
    os.unlink(raw)


@test
def errors_are_those_of_a_file_system():
    raises(errno.ENOENT, os.stat, at("missing"))
    raises(errno.ENOTDIR, os.stat, at("a", "x"))
    os.mkdir(at("dir"))
    raises(errno.EEXIST, os.mkdir, at("dir"))
    write(at("dir", "f"), b"")
    raises(errno.ENOTEMPTY, os.rmdir, at("dir"))
    raises(errno.EISDIR, os.unlink, at("dir"))
    raises(errno.ENOTDIR, os.rmdir, at("dir", "f"))
    raises(errno.EISDIR, os.open, at("dir"), os.O_WRONLY)
    raises(errno.EEXIST, os.open, at("dir", "f"), os.O_CREAT | os.O_EXCL)
    raises(errno.EXDEV, os.link, at("a"), "/tmp/elsewhere") if os.stat("/tmp").st_dev != os.stat(ROOT).st_dev else None
    raises(errno.ELOOP, os.open, at("absolute"), os.O_NOFOLLOW)


@test
def owners_are_the_guests_user_until_they_are_changed():
    s = os.stat(at("a"))
    before = os.stat(host("a"))
    if not has_attributes():
        return "the host's file system has no attributes"
    os.chown(at("a"), s.st_uid, s.st_gid)
    os.chown(at("a"), s.st_uid + 1, s.st_gid + 2)
    os.chmod(at("a"), 0o6755)
    os.chown(at("a"), s.st_uid + 1, s.st_gid + 3)
    now = os.stat(at("a"))
    assert (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == (s.st_uid + 1, s.st_gid + 3, 0o755)
    assert at("a") == host("a") or os.stat(host("a")).st_uid == before.st_uid
    assert os.listxattr(at("a")) == []
    raises(errno.EOPNOTSUPP, os.setxattr, at("a"), "user.lima.owner", b"0:0")
    os.mkdir(at("theirs"), 0o777)
    os.chmod(at("theirs"), 0o2777)
    os.chown(at("theirs"), 12345, 23456)
    os.chmod(at("theirs"), 0o2777)
    assert os.stat(at("theirs")).st_gid == 23456
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(54321)
        os.setuid(54321)
        try:
            write(at("theirs/new"), b"")
            os.chmod(at("theirs/new"), 0o600)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    now = os.stat(at("theirs/new"))
    assert (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == (54321, 23456, 0o600), now
    os.chown(at("a"), s.st_uid, s.st_gid)
    assert os.stat(at("a")).st_uid == s.st_uid


@test
def statfs_is_the_hosts():
    a, b = os.statvfs(ROOT), os.statvfs(SHARED)
    assert a.f_blocks * a.f_frsize == b.f_blocks * b.f_frsize and a.f_namemax == b.f_namemax


@test
def random_operations_match_a_model():
    rng = random.Random(7)
    model = bytearray()
    f = open(at("fsx"), "w+b", buffering=0)
    for _ in range(3000):
        offset, size = rng.randrange(200000), rng.randrange(1, 70000)
        what = rng.randrange(6)
        if what <= 1:
            data = rng.randbytes(size)
            assert os.pwrite(f.fileno(), data, offset) == size
            if len(model) < offset:
                model.extend(bytes(offset - len(model)))
            model[offset:offset + size] = data
        elif what == 2:
            os.ftruncate(f.fileno(), offset)
            del model[offset:]
            model.extend(bytes(offset - len(model)))
        elif what == 3 and model:
            with mmap.mmap(f.fileno(), len(model)) as m:
                where = rng.randrange(len(model))
                data = rng.randbytes(min(size, len(model) - where))
                m[where:where + len(data)] = data
                model[where:where + len(data)] = data
        elif what == 4 and rng.randrange(10) == 0:
            f.close()
            f = open(at("fsx"), "r+b", buffering=0)
        else:
            assert os.pread(f.fileno(), size, offset) == model[offset:offset + size]
        assert os.fstat(f.fileno()).st_size == len(model)
    f.close()
    assert hashlib.sha256(read(host("fsx"))).digest() == hashlib.sha256(model).digest()


@test
def many_at_once():
    os.mkdir(at("threads"))
    problems = []

    def work(n):
        try:
            for i in range(60):
                path = at("threads", f"{n}-{i}")
                data = os.urandom(5000)
                write(path, data)
                assert read(path) == data
                os.rename(path, path + "x")
                os.unlink(path + "x")
        except Exception as e:  # of a thread: reported below
            problems.append(e)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not problems, problems
    assert os.listdir(at("threads")) == []


def main():
    print(f"1..{len(TESTS)}")
    for number, function in enumerate(TESTS, 1):
        name = function.__name__.replace("_", " ")
        try:
            skip = function()
            print(f"ok {number} - {name}{' # SKIP ' + skip if skip else ''}")
        except Exception as e:  # reported
            where = e.__traceback__
            while where.tb_next:
                where = where.tb_next
            print(f"not ok {number} - {name}\n# line {where.tb_lineno}: {type(e).__name__} {e}")


main()
