#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Traffic and trouble for a running VM, for a long time: soak.py LIMACTL INSTANCE SECONDS

The VM has python3. Connections of every kind go through a forwarded port: some are half-closed and
get everything back behind its SHA-256, some are reset in the middle, some hang idle. Meanwhile, in
turn: the guest agent is killed, the host agent is killed and taken over, QEMU is stopped for two
seconds. What a cut has caught may fail, by an error, but never arrive wrong or hang; and after each
the forward has to be back. In the end descriptors, streams and memory are compared with the
beginning. Exit status 1: something was wrong.
"""
import hashlib
import json
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

PORT = 7300
PAUSE_S = 15      # between two cuts
PATIENCE_S = 60   # for one connection; nothing may hang longer
BACK_S = 30       # for the forward to be back; how long it took is printed
WORKERS = 8
SERVER = r"""
import hashlib, socketserver
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        parts = []
        while part := self.request.recv(65536):
            parts.append(part)
        data = b"".join(parts)
        self.request.sendall(hashlib.sha256(data).digest() + data)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512
    def handle_error(self, request, address):
        pass
Server(("127.0.0.1", %d), Handler).serve_forever()
"""


class Vm:
    def __init__(self, limactl, name):
        self.limactl, self.name = limactl, name
        self.folder = pathlib.Path(os.environ.get("LIMA_HOME", os.path.expanduser("~/.lima"))) / name

    def guest(self, *words, check=True):
        done = subprocess.run([self.limactl, "shell", "--workdir", "/", self.name, *words],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{words}: {done.stderr}")
        return done.stdout

    def pid(self, file):
        return int((self.folder / file).read_text())

    def serve(self):
        subprocess.run([self.limactl, "shell", "--workdir", "/", self.name, "sudo", "tee", "/run/soak.py"],
                       input=SERVER % PORT, text=True, stdout=subprocess.DEVNULL, check=True)
        self.guest("sudo", "systemd-run", "--quiet", "--unit=soak", "-p", "LimitNOFILE=8192",
                   "python3", "/run/soak.py")

    def counts(self):
        """What must not grow."""
        host = self.pid("ha.pid")
        agent = self.guest("pidof", "lima-guestagent").split()[0]
        status = self.guest("sudo", "cat", f"/proc/{agent}/status")
        guest_fds = self.guest("sudo", "ls", f"/proc/{agent}/fd").split()
        rollup = pathlib.Path(f"/proc/{host}/smaps_rollup").read_text()
        return {
            "host descriptors": len(os.listdir(f"/proc/{host}/fd")),
            "host PSS kB": int(next(l for l in rollup.splitlines() if l.startswith("Pss:")).split()[1]),
            "guest descriptors": len(guest_fds),
            "guest RSS kB": int(next(l for l in status.splitlines() if l.startswith("VmRSS:")).split()[1]),
        }


class Traffic:
    def __init__(self):
        self.lock = threading.Lock()
        self.end = threading.Event()
        self.good = self.cut = self.reset = self.bytes = 0
        self.faults = []
        self.disturbed_until = 0.0  # failures before it are the cut's

    def fault(self, text):
        with self.lock:
            self.faults.append(text)
        print("FAULT:", text, flush=True)

    def exchange(self, rng):
        data = rng.randbytes(rng.choice((0, 1, 300, 20_000, 400_000)))
        with socket.create_connection(("127.0.0.1", PORT), PATIENCE_S) as sock:
            if rng.random() < 0.15:  # reset in the middle
                sock.sendall(data[:len(data) // 2])
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with self.lock:
                    self.reset += 1
                return
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            parts = []
            while part := sock.recv(65536):
                parts.append(part)
        back = b"".join(parts)
        if back != hashlib.sha256(data).digest() + data:
            raise ConnectionError(f"{len(data)} bytes sent, {len(back)} came back")
        with self.lock:
            self.good += 1
            self.bytes += 2 * len(data)

    def work(self, seed):
        rng = random.Random(seed)
        while not self.end.is_set():
            begin = time.monotonic()
            try:
                self.exchange(rng)
            except TimeoutError:
                self.fault(f"a connection hung for {PATIENCE_S} s")
            except OSError as error:
                with self.lock:
                    self.cut += 1
                if begin > self.disturbed_until and time.monotonic() > self.disturbed_until:
                    self.fault(f"undisturbed connection: {error!r}")
                self.end.wait(0.05)


def wait_back(traffic, what):
    begin = time.monotonic()
    while time.monotonic() - begin < BACK_S:
        try:
            with socket.create_connection(("127.0.0.1", PORT), 5) as sock:
                sock.shutdown(socket.SHUT_WR)
                sock.settimeout(5)
                if sock.recv(1):
                    print(f"{what}: back after {(time.monotonic() - begin) * 1000:.0f} ms", flush=True)
                    return
        except OSError:
            time.sleep(0.01)  # nobody tells of it
    traffic.fault(f"{what}: not back after {BACK_S} s")


def kill_guest_agent(vm):
    vm.guest("sudo", "pkill", "-KILL", "-x", "lima-guestagent", check=False)


def kill_host_agent(vm):
    os.kill(vm.pid("ha.pid"), signal.SIGKILL)
    subprocess.run([vm.limactl, "--tty=false", "start", vm.name], check=True, capture_output=True)


def stop_qemu(vm):
    os.kill(vm.pid("qemu.pid"), signal.SIGSTOP)
    time.sleep(2)
    os.kill(vm.pid("qemu.pid"), signal.SIGCONT)


def trouble(vm, traffic, deadline):
    cuts = [kill_guest_agent, stop_qemu, kill_host_agent]
    while time.monotonic() + PAUSE_S < deadline:
        time.sleep(PAUSE_S)
        cut = cuts[0]
        cuts = cuts[1:] + cuts[:1]
        traffic.disturbed_until = time.monotonic() + PATIENCE_S
        cut(vm)
        wait_back(traffic, cut.__name__)
        traffic.disturbed_until = time.monotonic() + 0.5


def main():
    vm = Vm(sys.argv[1], sys.argv[2])
    deadline = time.monotonic() + float(sys.argv[3])
    traffic = Traffic()
    vm.serve()
    wait_back(traffic, "server")
    for seed in range(50):
        traffic.exchange(random.Random(seed))
    before = vm.counts()
    workers = [threading.Thread(target=traffic.work, args=(seed,)) for seed in range(WORKERS)]
    for worker in workers:
        worker.start()
    trouble(vm, traffic, deadline)
    traffic.end.set()
    for worker in workers:
        worker.join()
    time.sleep(1)
    after = vm.counts()
    vm.guest("sudo", "systemctl", "stop", "soak")
    print(json.dumps({"good": traffic.good, "cut": traffic.cut, "reset": traffic.reset,
                      "megabytes": traffic.bytes // 10**6, "faults": len(traffic.faults)}))
    for key in before:
        print(f"{key}: {before[key]} -> {after[key]}")
        if "descriptors" in key and after[key] > before[key]:
            traffic.fault(f"{key} grew")
    return 1 if traffic.faults else 0


if __name__ == "__main__":
    sys.exit(main())
