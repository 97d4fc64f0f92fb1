#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What watchers in the guest see of what the host does: mounts_events.py SEEN SHARED LOCAL [COMMAND...]

SHARED is a folder of the host, SEEN the same in the guest, LOCAL an ordinary folder. COMMAND runs this program
in the guest; without it the guest is here. A script of operations
is run in SHARED and in LOCAL; a recursive watcher, as "inotifywait -m -r" is one, in SEEN and one in LOCAL have
to see the same. Left out are IN_OPEN, IN_ACCESS and IN_CLOSE_NOWRITE, which the documentation says are not
passed on. Prints TAP."""

import ctypes
import os
import select
import shutil
import struct
import subprocess
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
NAMES = {
    0x2: "MODIFY",
    0x4: "ATTRIB",
    0x8: "CLOSE_WRITE",
    0x40: "MOVED_FROM",
    0x80: "MOVED_TO",
    0x100: "CREATE",
    0x200: "DELETE",
    0x400: "DELETE_SELF",
}
MASK = sum(NAMES)
ISDIR, OVERFLOW, IGNORED = 0x40000000, 0x4000, 0x8000


class Watcher:
    def __init__(self, top):
        self.top = top
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self.fd >= 0
        self.paths = {}
        self.events = []
        self.moves = {}
        self.add(top)

    def add(self, path):
        wd = libc.inotify_add_watch(self.fd, os.fsencode(path), MASK | 0x1000000)  # IN_ONLYDIR
        if wd < 0:
            return
        self.paths[wd] = path
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        self.add(entry.path)
        except FileNotFoundError:
            pass

    def take(self):
        try:
            data = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return False
        at = 0
        while at < len(data):
            wd, mask, cookie, length = struct.unpack_from("iIII", data, at)
            name = data[at + 16 : at + 16 + length].rstrip(b"\0").decode()
            at += 16 + length
            self.one(wd, mask, cookie, name)
        return True

    def one(self, wd, mask, cookie, name):
        if mask & OVERFLOW:  # what watchers do then: look themselves
            for folder, _, names in os.walk(self.top):
                self.events += [f"CREATE {os.path.relpath(os.path.join(folder, name), self.top)}" for name in names]
            return
        if mask & IGNORED or wd not in self.paths:
            return
        path = os.path.join(self.paths[wd], name) if name else self.paths[wd]
        kind = NAMES[mask & MASK]
        shown = os.path.relpath(path, self.top) + ("/" if mask & ISDIR else "")
        if kind == "MOVED_FROM":
            self.moves[cookie] = path
        self.events.append(f"{kind} {shown}" + (" pair" if kind == "MOVED_TO" and cookie in self.moves else ""))
        if mask & ISDIR and kind in ("CREATE", "MOVED_TO"):
            if kind == "MOVED_TO" and cookie in self.moves:
                old = self.moves[cookie]
                for wd, known in self.paths.items():
                    if known == old or known.startswith(old + "/"):
                        self.paths[wd] = path + known[len(old) :]
            else:
                self.add(path)

    def settle(self, quiet, count=0):
        """What comes until nothing more does; at least @count events, for which it waits longer."""
        until = time.monotonic() + 3
        while len(set(self.events)) < count and select.select([self.fd], [], [], max(0, until - time.monotonic()))[0]:
            self.take()
        while select.select([self.fd], [], [], quiet)[0] and self.take():
            pass
        events, self.events = self.events, []
        return events

    def end(self):
        os.close(self.fd)


class GuestWatcher(Watcher):
    """One that runs in the guest, and prints a line for each event."""

    def __init__(self, top, command):
        self.process = subprocess.Popen([*command, "--watch", top], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.fd = self.process.stdout.fileno()
        self.part = ""
        self.events = []
        assert self.process.stdout.readline() == b"ready\n"

    def take(self):
        data = os.read(self.fd, 1 << 16)
        assert data, "the watcher in the guest has ended"
        *lines, self.part = (self.part + data.decode()).split("\n")
        self.events += lines
        return True

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def watch_for_host(top):
    watcher = Watcher(top)
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([watcher.fd, 0], [], [])
        if 0 in readable:
            return
        watcher.take()
        if watcher.events:
            print("\n".join(watcher.events), flush=True)
            watcher.events.clear()


def write(path, text, mode="w"):
    with open(path, mode) as f:
        f.write(text)


def operations(top, outside):
    """Pairs of words and a function; each is given time to be seen before the next."""
    p = lambda *parts: os.path.join(top, *parts)
    yield "make a file", lambda: os.close(os.open(p("a"), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    yield "write it", lambda: write(p("a"), "x" * 10, "r+")
    yield "append", lambda: write(p("a"), "more", "a")
    yield "truncate", lambda: os.truncate(p("a"), 3)
    yield "chmod", lambda: os.chmod(p("a"), 0o600)
    yield "times", lambda: os.utime(p("a"), (1, 2))
    yield "write anew", lambda: write(p("b"), "bbb")
    yield "rename", lambda: os.rename(p("a"), p("c"))
    yield "rename over", lambda: os.rename(p("b"), p("c"))
    yield "unlink", lambda: os.unlink(p("c"))
    yield "make a folder", lambda: os.mkdir(p("d"))
    yield "chmod it", lambda: os.chmod(p("d"), 0o700)
    yield "file in it", lambda: write(p("d", "f"), "1")
    yield "folder in it", lambda: os.mkdir(p("d", "e"))
    yield "file deeper", lambda: write(p("d", "e", "g"), "2")
    yield "third level", lambda: os.mkdir(p("d", "e", "h"))
    yield "file in the third level", lambda: write(p("d", "e", "h", "i"), "3")
    yield "move up", lambda: os.rename(p("d", "e", "h", "i"), p("i"))
    yield "move down", lambda: os.rename(p("i"), p("d", "i"))
    yield "link", lambda: os.link(p("d", "i"), p("d", "j"))
    yield "change a linked file", lambda: write(p("d", "j"), "4", "a")
    yield "unlink one name", lambda: os.unlink(p("d", "i"))
    yield "symbolic link", lambda: os.symlink("d/j", p("s"))
    yield "unlink it", lambda: os.unlink(p("s"))
    yield "fifo", lambda: os.mkfifo(p("fifo"))
    yield "unlink the fifo", lambda: os.unlink(p("fifo"))
    yield "rename a folder", lambda: os.rename(p("d", "e"), p("d", "k"))
    yield "file in the renamed", lambda: write(p("d", "k", "l"), "5")
    yield "folder in the renamed", lambda: os.mkdir(p("d", "k", "m"))
    yield "file there", lambda: write(p("d", "k", "m", "n"), "6")
    yield "move a folder up", lambda: os.rename(p("d", "k", "m"), p("m"))
    yield "write in it", lambda: write(p("m", "n"), "7", "a")
    yield "chmod there", lambda: os.chmod(p("m", "n"), 0o640)
    yield "move out", lambda: os.rename(p("m", "n"), os.path.join(outside, "n"))
    yield "move in", lambda: os.rename(os.path.join(outside, "n"), p("m", "o"))
    yield "write what came", lambda: write(p("m", "o"), "8", "a")
    yield "move a folder out", lambda: os.rename(p("m"), os.path.join(outside, "m"))
    yield "move a folder in", lambda: os.rename(os.path.join(outside, "m"), p("q"))
    yield "file in what came", lambda: write(p("q", "r"), "9")
    yield "unlink in what came", lambda: os.unlink(p("q", "o"))
    yield "save as editors do", lambda: (write(p("d", ".f.tmp"), "10"), os.rename(p("d", ".f.tmp"), p("d", "f")))
    yield "save again", lambda: (write(p("d", ".f.tmp"), "11"), os.rename(p("d", ".f.tmp"), p("d", "f")))
    yield "name with spaces", lambda: write(p("a b\tc"), "12")
    yield "name in UTF-8", lambda: write(p("ä€😀"), "13")
    yield "long name", lambda: write(p("n" * 255), "14")
    yield "rename the long one", lambda: os.rename(p("n" * 255), p("m" * 255))
    yield "unlink the long one", lambda: os.unlink(p("m" * 255))
    yield "make and remove", lambda: (write(p("t"), ""), os.unlink(p("t")))
    yield "folder, made and removed", lambda: (os.mkdir(p("u")), os.rmdir(p("u")))
    yield "file of nothing", lambda: write(p("v"), "")
    yield "one more", lambda: write(p("w"), "15")
    yield "swap by three renames", lambda: (
        os.rename(p("v"), p("x")),
        os.rename(p("w"), p("v")),
        os.rename(p("x"), p("w")),
    )
    yield "write the swapped", lambda: write(p("v"), "16", "a")
    yield "large file", lambda: write(p("large"), "y" * 100000)
    yield "unlink the large", lambda: os.unlink(p("large"))
    yield "unlink deeper", lambda: os.unlink(p("d", "k", "l"))
    yield "unlink deepest", lambda: os.unlink(p("d", "k", "g"))
    yield "rmdir", lambda: os.rmdir(p("d", "k", "h"))
    yield "rmdir above", lambda: os.rmdir(p("d", "k"))
    yield "remove a tree", lambda: shutil.rmtree(p("q"))
    yield "the last", lambda: write(p("last"), "17")


def compare(report, watch_seen, shared, local, quiet):
    os.makedirs(local)
    outsides = [shared + ".outside", local + ".outside"]
    for folder in outsides:
        os.makedirs(folder)
    watch_local = Watcher(local)
    here = list(operations(shared, outsides[0]))
    there = list(operations(local, outsides[1]))
    for (words, in_shared), (_, in_local) in zip(here, there):
        in_local()
        want = watch_local.settle(0.02)
        in_shared()
        # What happens at once may be told as one.
        merged = [e for i, e in enumerate(want) if not (e.startswith("MODIFY") and e in want[:i])]
        got = watch_seen.settle(quiet, len(set(want)))
        got = [e for i, e in enumerate(got) if not (e.startswith("MODIFY") and e in got[:i])]
        report(words, merged == got, f"want {merged}, got {got}")
    for folder in outsides:
        shutil.rmtree(folder, ignore_errors=True)


def latency(watcher, shared, count):
    took = []
    for i in range(count):
        began = time.monotonic()
        write(os.path.join(shared, f"late{i}"), "x")
        while f"CREATE late{i}" not in watcher.events and time.monotonic() - began < 5:
            select.select([watcher.fd], [], [], 5)
            watcher.take()
        if f"CREATE late{i}" not in watcher.events:
            return None, None
        took.append(time.monotonic() - began)
        os.unlink(os.path.join(shared, f"late{i}"))
        watcher.settle(0.01)
    took.sort()
    return took[len(took) // 2], took[len(took) * 99 // 100]


def burst(watcher, shared, count, patience):
    """All files of a burst are known in the end: by their events, or by what is listed after an overflow."""
    folder = os.path.join(shared, "burst")
    os.mkdir(folder)
    watcher.settle(0.5)
    began = time.monotonic()
    for i in range(count):
        with open(os.path.join(folder, str(i)), "w"):
            pass
    known = set()
    while len(known) < count and time.monotonic() - began < patience:
        select.select([watcher.fd], [], [], 1)
        watcher.take()
        known |= {e.split("/")[-1] for e in watcher.events if e.startswith("CREATE burst/")}
        watcher.events = []
    took = time.monotonic() - began
    shutil.rmtree(folder)
    watcher.settle(1)
    return len(known), took


def no_echo(seen, shared):
    """What is done in the guest itself is seen once there."""
    watcher = Watcher(seen)
    write(os.path.join(seen, "own"), "x")
    os.chmod(os.path.join(seen, "own"), 0o600)
    os.rename(os.path.join(seen, "own"), os.path.join(seen, "own2"))
    os.unlink(os.path.join(seen, "own2"))
    # What the host did before may still be on its way.
    got = [event for event in watcher.settle(0.5) if event.split()[1].startswith("own")]
    want = ["CREATE own", "MODIFY own", "CLOSE_WRITE own", "ATTRIB own", "MOVED_FROM own", "MOVED_TO own2 pair", "DELETE own2"]
    return got == want, f"want {want}, got {got}"


def main():
    if sys.argv[1] == "--watch":
        watch_for_host(sys.argv[2])
        return
    seen, shared, local, *command = sys.argv[1:]
    count = int(os.environ.get("EVENTS_BURST", "2000"))
    outcomes = []

    def report(words, good, why):
        outcomes.append(good)
        print(f"{'ok' if good else 'not ok'} {len(outcomes)} - {words}" + ("" if good else f" # {why}"), flush=True)

    watcher = GuestWatcher(seen, command) if command else Watcher(seen)
    compare(report, watcher, shared, local, float(os.environ.get("EVENTS_QUIET", "0.05")))
    known, took = burst(watcher, shared, count, 60)
    report(f"burst of {count}", known == count, f"{known} are known")
    print(f"# burst of {count}: {took:.1f} s")
    median, p99 = latency(watcher, shared, 200)
    report("latency", median is not None, "no event within 5 s")
    if median is not None:
        print(f"# latency of 200: median {median * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms")
    watcher.end()
    if not command and os.access(seen, os.W_OK):
        report("no echo", *no_echo(seen, shared))
    print(f"1..{len(outcomes)}")
    sys.exit(not all(outcomes))


main()
