#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Benchmark of forwards into a real VM: prints figures, asserts nothing.

Boots the Debian 12 image built by `limactl image build` once and measures four ways into it side by
side: the agent's tunnels, QEMU's hostfwd, ssh -L, and a bare reader and writer on a virtio-serial
port of its own. Throughput each way with one and sixteen connections, connections a second, the
round trip of a byte, datagrams lost at 100 Mbit/s, memory with a thousand stalled connections.

usage: vm_tunnel.py LIMACTL IMAGES
"""
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from vm import Lima, MIB, NAME, free_port, row, run, wait_connect

RUNS = int(os.environ.get("BENCH_RUNS", "5"))
SIZE = 64 * MIB  # bytes of one throughput run, over all connections
MANY = 16
CONNECTIONS = 100
ROUND_TRIPS = 500
STALLED = 1000
DATAGRAM = 1200
DATAGRAM_RATE = 100e6 / 8
DATAGRAM_SECONDS = 5
SINK, SOURCE, ECHO, STALL, COUNT, RAW = range(7001, 7007)

TEMPLATE = """\
images:
- location: "image:debian-12"
  arch: x86_64
cpus: 2
memory: 1GiB
disk: 8GiB
"""

# Runs in the guest. The raw port is read and written by dd, which is as bare as it gets.
GUEST = r'''
import os, socket, subprocess, threading
SINK, SOURCE, ECHO, STALL, COUNT, RAW = range(7001, 7007)
PORT = "/dev/virtio-ports/bench.raw"
stalled = []
def serve(port, handler):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0", port)); s.listen(2048)
    while True:
        c, _ = s.accept()
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=handler, args=(c,), daemon=True).start()
def sink(c):
    buf = bytearray(1 << 18); n = 1
    while n:
        n = c.recv_into(buf)
    c.sendall(b"k"); c.close()
def source(c):
    left = int(c.recv(32) or 0); data = bytes(1 << 18)
    while left > 0:
        n = min(left, len(data)); c.sendall(data[:n]); left -= n
    c.close()
def echo(c):
    while data := c.recv(1):
        c.sendall(data)
    c.close()
def raw(c):
    for line in c.makefile("r"):
        verb, size = line.split(); blocks = int(size) // 32768
        if verb == "read":
            c.sendall(b"k")
            subprocess.run(["dd", "if=" + PORT, "of=/dev/null", "bs=32k", "iflag=fullblock", f"count={blocks}"],
                           stderr=subprocess.DEVNULL)
            c.sendall(b"k")
        else:
            subprocess.run(["dd", "if=/dev/zero", "of=" + PORT, "bs=32k", f"count={blocks}"],
                           stderr=subprocess.DEVNULL)
counts = {"n": 0}
def datagrams():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
    s.bind(("0.0.0.0", COUNT)); buf = bytearray(65536)
    while True:
        s.recv_into(buf); counts["n"] += 1
def count(c):
    for line in c.makefile("r"):
        c.sendall(b"%d\n" % counts["n"])
threading.stack_size(256 << 10)
threading.Thread(target=datagrams, daemon=True).start()
for port, handler in ((SINK, sink), (SOURCE, source), (ECHO, echo), (STALL, stalled.append),
                      (COUNT, count)):
    threading.Thread(target=serve, args=(port, handler), daemon=True).start()
serve(RAW, raw)
'''

# Stands in for QEMU: the same with one more port and more forwards of its own network.
WRAPPER = """\
#!/usr/bin/env python3
import os, sys
args = sys.argv[1:]
for i, arg in enumerate(args):
    if arg.startswith("user,") and i and args[i - 1] == "-netdev":
        args[i] = arg + "{forwards}"
        args += ["-chardev", "socket,id=benchraw,path={raw},server=on,wait=off",
                 "-device", "virtio-serial-pci,id=bench-bus",
                 "-device", "virtserialport,bus=bench-bus.0,chardev=benchraw,name=bench.raw"]
        break
os.execvp("qemu-system-x86_64", ["qemu-system-x86_64"] + args)
"""


def median_of(measure):
    return statistics.median(measure() for _ in range(RUNS))


def in_parallel(work, count):
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def to_guest(port, connections):
    def one():
        with wait_connect(port) as s:
            data = bytes(1 << 18)
            for _ in range(SIZE // connections // len(data)):
                s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            s.recv(1)
    begin = time.monotonic()
    in_parallel(one, connections)
    return SIZE / 1e6 / (time.monotonic() - begin)


def to_host(port, connections):
    def one():
        with wait_connect(port) as s:
            buf = bytearray(1 << 18)
            s.sendall(str(SIZE // connections).encode())
            while s.recv_into(buf):
                pass
    begin = time.monotonic()
    in_parallel(one, connections)
    return SIZE / 1e6 / (time.monotonic() - begin)


def round_trip_us(port):
    with wait_connect(port) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = []
        for _ in range(ROUND_TRIPS):
            begin = time.monotonic()
            s.sendall(b"x")
            s.recv(1)
            times.append(time.monotonic() - begin)
    return statistics.median(times) * 1e6


def connections_a_second(port):
    begin = time.monotonic()
    for _ in range(CONNECTIONS):
        with wait_connect(port) as s:
            s.sendall(b"x")
            s.recv(1)
    return CONNECTIONS / (time.monotonic() - begin)


class Raw:
    """The port of its own, with dd at the guest's end."""

    def __init__(self, path):
        self.data = socket.socket(socket.AF_UNIX)
        self.data.connect(path)
        self.control = wait_connect(RAW)

    def to_guest(self):
        self.control.sendall(f"read {SIZE}\n".encode())
        self.control.recv(1)
        data = bytes(1 << 18)
        begin = time.monotonic()
        for _ in range(SIZE // len(data)):
            self.data.sendall(data)
        self.control.recv(1)
        return SIZE / 1e6 / (time.monotonic() - begin)

    def to_host(self):
        buf = bytearray(1 << 18)
        self.control.sendall(f"write {SIZE}\n".encode())
        got = self.data.recv_into(buf)
        begin = time.monotonic()  # dd has begun
        while got < SIZE:
            got += self.data.recv_into(buf)
        return SIZE / 1e6 / (time.monotonic() - begin)


def loss(port):
    """Percent of datagrams that the guest did not get."""
    def seen():
        control.sendall(b"n\n")
        return int(control.makefile("r").readline())
    total = int(DATAGRAM_RATE * DATAGRAM_SECONDS / DATAGRAM)
    with wait_connect(COUNT) as control, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect(("127.0.0.1", port))
        before, begin = seen(), time.monotonic()
        for i in range(total):
            while time.monotonic() < begin + i * DATAGRAM / DATAGRAM_RATE:
                time.sleep(0.0005)
            s.send(bytes(DATAGRAM))
        now = seen()
        while True:  # until two looks agree
            time.sleep(1)
            last, now = now, seen()
            if last == now:
                return 100 * (total - (now - before)) / total


def rss(text):
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1])


def stalled(lima):
    def look():
        with open(f"/proc/{lima.agent_pid()}/status") as f:
            host = rss(f.read())
        return host, rss(lima.shell("sh", "-c", "sudo cat /proc/$(pidof lima-guestagent)/status"))
    before = look()
    socks = [wait_connect(STALL) for _ in range(STALLED)]
    for s in socks:
        s.setblocking(False)
    sent, last = 1, 0
    while sent != last:  # until a whole second brings no more
        last = sent
        for s in socks:
            try:
                while n := s.send(bytes(1 << 16)):
                    sent += n
            except BlockingIOError:
                pass
        time.sleep(1)
    after = look()
    for s in socks:
        s.close()
    row(f"{STALLED} stalled connections: host agent, RSS", f"{before[0]} -> {after[0]} KiB")
    row(f"{STALLED} stalled connections: guest agent, RSS", f"{before[1]} -> {after[1]} KiB")


def compare(what, unit, measure, ways):
    row(what, "", "   ".join(f"{name}: {median_of(lambda: measure(*args)):.1f}"
                             for name, args in ways) + f" {unit}")


def measure_all(lima, raw, slirp, ssh):
    for what, measure, sink, bare in (("host to guest", to_guest, SINK, raw.to_guest),
                                      ("guest to host", to_host, SOURCE, raw.to_host)):
        port = median_of(bare)
        row(f"bare virtio-serial, {what}", f"{port:.1f} MB/s")
        for count in (1, MANY):
            ours = median_of(lambda: measure(sink, count))
            theirs = [median_of(lambda: measure(ports[sink], count)) for ports in (slirp, ssh)]
            row(f"{what}, {count} connections", f"{ours:.1f} MB/s",
                f"{100 * ours / port:.0f} % of the bare port (aim: 80)   hostfwd: {theirs[0]:.1f}   "
                f"ssh -L: {theirs[1]:.1f}")
    ways = (("tunnel", (ECHO,)), ("hostfwd", (slirp[ECHO],)), ("ssh -L", (ssh[ECHO],)))
    compare("connections", "a second", connections_a_second, ways)
    compare("round trip of a byte", "us", round_trip_us, ways)
    row("datagrams lost at 100 Mbit/s", f"{loss(COUNT):.2f} %")
    stalled(lima)


def main():
    limactl, images = sys.argv[1], os.path.abspath(sys.argv[2])
    work = tempfile.mkdtemp(prefix="lima-bench-")
    home = os.path.join(work, "home")
    os.mkdir(home, mode=0o700)
    os.makedirs(images, exist_ok=True)
    os.symlink(images, os.path.join(home, "_images"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    lima = Lima(limactl, home)
    slirp = {port: free_port() for port in (SINK, SOURCE, ECHO)}
    ssh = {port: free_port() for port in (SINK, SOURCE, ECHO)}
    wrapper, raw = os.path.join(work, "qemu"), os.path.join(work, "raw.sock")
    with open(wrapper, "w") as f:
        f.write(WRAPPER.format(raw=raw, forwards="".join(
            f",hostfwd=tcp:127.0.0.1:{slirp[port]}-:{port}" for port in slirp)))
    os.chmod(wrapper, 0o755)
    lima.env["QEMU_SYSTEM_X86_64"] = wrapper
    with open(os.path.join(work, "bench.yaml"), "w") as f:
        f.write(TEMPLATE)
    children = []
    try:
        if not os.path.exists(os.path.join(images, "debian-12", "disk")):
            lima("image", "build", "debian-12")
        lima("--tty=false", "start", "--name", NAME, os.path.join(work, "bench.yaml"))
        children.append(subprocess.Popen(
            [limactl, "shell", "--workdir", "/", NAME, "sudo", "python3", "-c",
             "exec(__import__('sys').stdin.read())"], env=lima.env, stdin=subprocess.PIPE, text=True))
        children[0].stdin.write(GUEST)
        children[0].stdin.close()
        argv = ["ssh", "-F", os.path.join(lima.dir, "ssh.config"), "-o", "ControlPath=none", "-N"]
        for port in ssh:
            wait_connect(port).close()
            argv += ["-L", f"127.0.0.1:{ssh[port]}:127.0.0.1:{port}"]
        children.append(subprocess.Popen(argv + ["lima-" + NAME], stdin=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL))
        measure_all(lima, Raw(raw), slirp, ssh)
    finally:
        for child in children:
            child.kill()
            child.wait()
        subprocess.run([limactl, "delete", "-f", NAME], env=lima.env, stdin=subprocess.DEVNULL)
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
