# SPDX-License-Identifier: Apache-2.0
"""Figures of tunnels into one running VM, by each way that streams can take, side by side.

bench(lima, row, ways=...) is for vm.py: `lima` has .limactl, .env, .dir and is called with a command's
words; `row` prints one line. The host agent is killed and started again for each way, which takes the
running VM over; vsock by a program of the host ends with the host agent, so it has to be the first.

usage: transports.py LIMACTL INSTANCE      (a running instance; LIMA_HOME in the environment)
"""
import concurrent.futures
import json
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

MIB = 1 << 20
PORTS = {"sink": 7011, "source": 7012, "echo": 7013}

GUEST = r'''
import socket, threading
def serve(port, handler):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", port)); s.listen(256)
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
    while data := c.recv(65536):
        c.sendall(data)
    c.close()
for port, handler in ((7011, sink), (7012, source)):
    threading.Thread(target=serve, args=(port, handler), daemon=True).start()
serve(7013, echo)
'''


def connect(port, patience=60):
    deadline = time.monotonic() + patience
    while True:
        try:
            s = socket.create_connection(("127.0.0.1", port), 30)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return s
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)


def upload(size):
    with connect(PORTS["sink"]) as s:
        data = bytes(1 << 18)
        for _ in range(size // len(data)):
            s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        assert s.recv(1) == b"k"


def download(size):
    with connect(PORTS["source"]) as s:
        buf = bytearray(1 << 18)
        s.sendall(str(size).encode())
        got = 0
        while n := s.recv_into(buf):
            got += n
        assert got == size, (got, size)


def rate(transfer, size, parallel):
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        list(pool.map(transfer, [size // parallel] * parallel))
    return size / MIB / (time.monotonic() - begin)


def round_trip_ms(count=200):
    times = []
    with connect(PORTS["echo"]) as s:
        for _ in range(count):
            begin = time.monotonic()
            s.sendall(b"x")
            s.recv(1)
            times.append((time.monotonic() - begin) * 1000)
    return statistics.median(times)


def one_call(_):
    with connect(PORTS["echo"]) as s:
        s.sendall(b"x")
        assert s.recv(1) == b"x"


def calls_per_s(count, parallel):
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        list(pool.map(one_call, range(count)))
    return count / (time.monotonic() - begin)


def measure():
    size = int(os.environ.get("BENCH_MIB", "32")) * MIB
    runs = 3
    med = statistics.median
    for port in PORTS.values():
        connect(port).close()
    one_call(0)
    return {
        "host to guest, 1 connection, MB/s": med(rate(upload, size, 1) for _ in range(runs)),
        "guest to host, 1 connection, MB/s": med(rate(download, size, 1) for _ in range(runs)),
        "host to guest, 16 connections, MB/s": med(rate(upload, size, 16) for _ in range(runs)),
        "guest to host, 16 connections, MB/s": med(rate(download, size, 16) for _ in range(runs)),
        "round trip of 1 byte, median, ms": med(round_trip_ms() for _ in range(runs)),
        "connections per second, 1 at a time": med(calls_per_s(200, 1) for _ in range(runs)),
        "connections per second, 16 at a time": med(calls_per_s(400, 16) for _ in range(runs)),
    }


def describe(lima):
    text = subprocess.run(["curl", "-fsS", "--unix-socket", os.path.join(lima.dir, "ha.sock"),
                           "http://lima/v1/info"], check=True, capture_output=True, text=True).stdout
    return json.loads(text)["transport"]


def switch(lima, way):
    """Another host agent, told to use @way, takes the VM over."""
    with open(os.path.join(lima.dir, "ha.pid")) as f:
        pid = int(f.read())
    fd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([fd], [], [], 10)
    os.close(fd)
    subprocess.run([lima.limactl, "--tty=false", "start", os.path.basename(lima.dir)], check=True,
                   env=dict(lima.env, LIMA_GUEST_TRANSPORT=way), stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def bench(lima, row):
    """The VM was started with LIMA_GUEST_TRANSPORT=vsock."""
    shell = [lima.limactl, "shell", "--workdir", "/", os.path.basename(lima.dir)]
    server = subprocess.Popen([*shell, "python3", "-c", "exec(__import__('sys').stdin.read())"],
                              env=lima.env, stdin=subprocess.PIPE, text=True)
    try:
        server.stdin.write(GUEST)
        server.stdin.close()
        got = describe(lima)
        if not got["vsock"]:
            row("tunnels by vsock", "none here", str(got))
            return
        row("measured by the host agent", json.dumps(got["measured"]))
        vsock = measure()
        switch(lima, "virtio")
        session = measure()
        for what in vsock:
            row(f"{what}, vsock", f"{vsock[what]:.1f}",
                f"virtio-serial: {session[what]:.1f}, ratio {vsock[what] / session[what]:.2f}")
    finally:
        server.kill()
        server.wait()


class Running:
    def __init__(self, limactl, name):
        self.limactl, self.env = limactl, dict(os.environ)
        self.dir = os.path.join(os.environ["LIMA_HOME"], name)


if __name__ == "__main__":
    bench(Running(sys.argv[1], sys.argv[2]),
          lambda what, value, beside="": print(f"{what:<52} {value:>12}   {beside}", flush=True))
