#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Benchmark of a real VM: prints figures, asserts nothing.

Boots the Debian 12 image built by `limactl image build` with 2 CPUs and 1 GiB and prints, side by
side from one run: starts and stop beside the bare floor of the same disk and kernel, port latency,
tunnel throughput beside ssh -L, memory, and the cost of `limactl shell`.

usage: vm.py LIMACTL IMAGES [RUNS]
IMAGES is a folder that keeps the built image for the next run; BENCH_RUNS sets RUNS too.
"""
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

NAME = "bench"
TEMPLATE = """\
images:
- location: "image:debian-12"
  arch: x86_64
cpus: 2
memory: 1GiB
disk: 8GiB
"""
MIB = 1 << 20

# Runs in the guest: listens and closes on command, and moves bytes.
GUEST = r'''
import select, socket, sys, threading
def serve(port, handler):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", port)); s.listen(64)
    while True:
        c, _ = s.accept()
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
def control(c):
    held = {}
    while True:
        ready = select.select([c] + [s for s in held.values() if s.type == socket.SOCK_DGRAM], [], [])[0]
        for s in ready:
            if s is not c:
                s.sendto(*s.recvfrom(64))
        if c not in ready:
            continue
        line = c.recv(64)
        if not line:
            return
        verb, port = line.split(); port = int(port)
        if verb == b"close":
            held.pop(port).close()
        else:
            s = socket.socket(type=socket.SOCK_DGRAM if verb == b"udp" else socket.SOCK_STREAM)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", port)); held[port] = s
            if verb == b"listen":
                s.listen(4)
        c.sendall(b"k")
for port, handler in ((7001, sink), (7002, source)):
    threading.Thread(target=serve, args=(port, handler), daemon=True).start()
serve(7003, control)
'''


def run(argv, **kw):
    return subprocess.run(argv, check=True, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, **kw).stdout


def timed(argv, **kw):
    begin = time.monotonic()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **kw)
    return time.monotonic() - begin


def row(what, value, beside=""):
    print(f"{what:<52} {value:>22}   {beside}", flush=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p / 100))]


class Floor:
    """QEMU alone on a copy of the same disk and kernel, until sshd's banner."""

    def __init__(self, image, work):
        self.image, self.work = image, work
        self.seed = os.path.join(work, "seed.img")
        with open(os.path.join(work, "user-data"), "w") as f:
            f.write("#cloud-config\nusers:\n- name: u\n  lock_passwd: true\n")
        with open(os.path.join(work, "meta-data"), "w") as f:
            f.write("instance-id: floor\nlocal-hostname: floor\n")
        run(["mkfs.vfat", "-n", "CIDATA", "-C", self.seed, "1024"])
        run(["mcopy", "-i", self.seed, os.path.join(work, "user-data"),
             os.path.join(work, "meta-data"), "::"])

        self.disk = os.path.join(work, "floor.disk")

    def first(self):
        """A fresh disk, with cloud-init."""
        if os.path.exists(self.disk):
            os.unlink(self.disk)
        source = os.path.join(self.image, "disk")
        fmt = json.loads(run(["qemu-img", "info", "--output=json", source]))["format"]
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", source, "-F", fmt, self.disk])
        return self.boot("")

    def later(self):
        """The disk of first(), with cloud-init disabled."""
        return self.boot(" cloud-init=disabled")

    def boot(self, extra):
        port = free_port()
        with open(os.path.join(self.image, "cmdline")) as f:
            cmdline = f.read().strip() + extra
        argv = ["qemu-system-x86_64", "-nodefaults", "-m", "1024", "-smp", "2", "-cpu", "max",
                "-machine", "q35,vmport=off", "-accel", "tcg,thread=multi,tb-size=512",
                "-kernel", os.path.join(self.image, "kernel"), "-append", cmdline,
                "-initrd", os.path.join(self.image, "initrd"),
                "-drive", f"file={self.disk},if=virtio,discard=unmap", "-drive",
                f"file={self.seed},if=virtio,format=raw,readonly=on",
                "-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{port}-:22",
                "-device", "virtio-net-pci,netdev=n,romfile=", "-device", "virtio-rng-pci",
                "-display", "none", "-vga", "none", "-serial",
                f"file:{self.work}/floor.log", "-monitor", "stdio"]
        begin = time.monotonic()
        vm = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            while not banner(port):
                if vm.poll() is not None or time.monotonic() - begin > 600:
                    shutil.copy(f"{self.work}/floor.log", "/tmp/lima-floor.log")
                    raise SystemExit("the floor's VM did not come up: see /tmp/lima-floor.log")
            took = time.monotonic() - begin
            vm.stdin.write("system_powerdown\n")
            vm.stdin.flush()
            vm.wait(180)
            return took
        finally:
            vm.kill()
            vm.wait()


def banner(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as s:
            s.settimeout(5)
            if s.recv(4) == b"SSH-":
                return True
    except OSError:
        pass
    time.sleep(0.1)  # QEMU accepts before the guest listens: nothing to wait for
    return False


class Lima:
    def __init__(self, limactl, home):
        self.limactl, self.home = limactl, home
        self.dir = os.path.join(home, NAME)
        self.env = dict(os.environ, LIMA_HOME=home)

    def __call__(self, *args):
        return run([self.limactl, *args], env=self.env)

    def timed(self, *args):
        return timed([self.limactl, *args], env=self.env)

    def shell(self, *args):
        return self("shell", "--workdir", "/", NAME, *args)

    def restart_agent(self, script):
        """By ssh: a command of the agent's would end with it."""
        self("shell", "--transport", "ssh", "--workdir", "/", NAME, "sudo", "sh", "-c",
             script + "; systemctl daemon-reload; systemctl restart lima-guestagent")

    def agent_pid(self):
        with open(os.path.join(self.dir, "ha.pid")) as f:
            return int(f.read())

    def events(self):
        with open(os.path.join(self.dir, "ha.stdout.log")) as f:
            return [json.loads(line) for line in f]


def bench_starts(lima, floor, runs):
    floors, bare, firsts, laters, stops = [], [], [], [], []
    for _ in range(runs):
        lima("delete", "-f", NAME)
        floors.append(floor.first())
        template = os.path.join(floor.work, "bench.yaml")
        with open(template, "w") as f:
            f.write(TEMPLATE)
        firsts.append(lima.timed("--tty=false", "create", "--name", NAME, template) +
                      lima.timed("--tty=false", "start", NAME))
        print_stages(lima, "first start")
        stops.append(lima.timed("stop", NAME))
        bare.append(floor.later())
        laters.append(lima.timed("--tty=false", "start", NAME))
        print_stages(lima, "later start")
    med = statistics.median
    row("floor: QEMU alone to sshd's banner, with cloud-init", f"{med(floors):.1f} s")
    row("create + first start until READY", f"{med(firsts):.1f} s",
        f"floor + {med(firsts) - med(floors):.1f} s (aim: 10; reference: 111 s)")
    row("floor: the same, cloud-init disabled", f"{med(bare):.1f} s")
    row("later start until READY", f"{med(laters):.1f} s",
        f"floor + {med(laters) - med(bare):.1f} s (aim: 4; reference: 86-93 s)")
    row("stop", f"{med(stops):.1f} s", "(reference: 2.9 s)")


def print_stages(lima, title):
    begin = None
    print(f"# {title}: what the host agent saw")
    for event in lima.events():
        when = time.mktime(time.strptime(event["time"][:19], "%Y-%m-%dT%H:%M:%S"))
        when += float("0" + re.match(r"[^.]*(\.\d+)?", event["time"])[1][:7])
        begin = when if begin is None else begin
        progress = event["status"].get("progress")
        if progress and not (progress["stage"] == "booting" and "detail" in progress):
            print(f"#   {when - begin:7.2f} s  {progress['stage']} {progress.get('detail', '')}")
        elif event["status"].get("running"):
            print(f"#   {when - begin:7.2f} s  READY")
            break
    for argv in (("systemd-analyze",), ("systemd-analyze", "blame"), ("cloud-init", "analyze", "blame")):
        text = subprocess.run([lima.limactl, "shell", "--workdir", "/", NAME, *argv], env=lima.env,
                              text=True, capture_output=True, stdin=subprocess.DEVNULL).stdout
        print("\n".join("#   " + line for line in text.splitlines()[:6]))


def start_guest_server(lima):
    # By ssh: it has to outlive the guest agent.
    proc = subprocess.Popen([lima.limactl, "shell", "--transport", "ssh", "--workdir", "/", NAME,
                             "python3", "-c", "exec(__import__('sys').stdin.read())"],
                            env=lima.env, stdin=subprocess.PIPE, text=True)
    proc.stdin.write(GUEST)
    proc.stdin.close()
    for port in (7001, 7002, 7003):
        wait_connect(port).close()
    return proc


def wait_connect(port, patience=60):
    deadline = time.monotonic() + patience
    while True:
        try:
            s = socket.create_connection(("127.0.0.1", port), 5)
            s.settimeout(120)  # the slowest of sixteen over ssh
            return s
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.0005)  # leave the cores to the VM


def wait_refused(port):
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except ConnectionRefusedError:
            return
        except (ConnectionResetError, socket.timeout):
            pass  # the host listened, the guest did not any more; or had no time for us
        time.sleep(0.0005)


def wait_control(patience=60):
    """The guest's server answers through a forward of the session that runs now."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            with wait_connect(7003) as control:
                control.settimeout(5)
                for line in (b"listen 19999\n", b"close 19999\n"):
                    control.sendall(line)
                    if control.recv(1) != b"k":
                        raise OSError("no answer")
            return
        except OSError:
            time.sleep(0.1)  # the old session's end is nothing that can be waited for here
    raise SystemExit("the guest's server does not answer")


def udp_answers(s):
    """The forward is there and leads to the guest's echo; at once or not at all."""
    try:
        s.send(b"x")
        return s.recv(64) == b"x"
    except (ConnectionRefusedError, socket.timeout):
        return False


def wait_udp(port, there):
    while True:
        with socket.socket(type=socket.SOCK_DGRAM) as s:
            s.settimeout(0.05)
            s.connect(("127.0.0.1", port))
            if there and udp_answers(s):
                return
            if not there:
                try:  # an error of the first comes with the second
                    s.send(b"x")
                    s.send(b"x")
                except ConnectionRefusedError:
                    return
        time.sleep(0.0005)


def time_ports(verb, base, count):
    """Milliseconds until each port is there and gone again."""
    shown, gone = [], []
    wait_there = wait_connect if verb == "listen" else lambda port: wait_udp(port, True)
    wait_gone = wait_refused if verb == "listen" else lambda port: wait_udp(port, False)
    with wait_connect(7003) as control:
        control.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(count + 1):
            port = base + i
            begin = time.monotonic()
            control.sendall(f"{verb} {port}\n".encode())
            connection = wait_there(port)
            if connection:
                connection.close()
            shown.append((time.monotonic() - begin) * 1000)
            control.recv(1)
            begin = time.monotonic()
            control.sendall(f"close {port}\n".encode())
            wait_gone(port)
            gone.append((time.monotonic() - begin) * 1000)
            control.recv(1)
    return shown, gone


def bench_ports(method, verb="listen", base=20000, count=100, aim="aim: 20"):
    shown, gone = time_ports(verb, base, count)
    what = "listen() to host connect" if verb == "listen" else "bind() of UDP to host's answer"
    for what, values, reference in ((what, shown, "5-16 ms, at times 2300"),
                                    ("close() to host port released", gone, "250-2700 ms")):
        first, values = values[0], values[1:]  # an emulator translates code when it first runs
        row(f"{what}, {method}, median / p99 of {count}",
            f"{statistics.median(values):.1f} / {percentile(values, 99):.1f} ms",
            f"the very first: {first:.1f} ms (with the command's way in; {aim}; reference: {reference})")


# In the guest: 100 listeners a second come and go; what the agent used of one core meanwhile.
STORM = r'''
import os, socket, subprocess, sys, time
seconds, netns = float(sys.argv[1]), sys.argv[2] == "netns"
pid = int(subprocess.check_output(["pidof", "lima-guestagent"]).split()[0])
def used():
    f = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")
if netns:
    os.unshare(0x40000000) if hasattr(os, "unshare") else __import__("ctypes").CDLL(None).unshare(0x40000000)
begin, before, n = time.monotonic(), used(), 0
while time.monotonic() - begin < seconds:
    s = socket.socket(); s.bind(("", 21000 + n % 100)); s.listen(4); s.close(); n += 1
    time.sleep(max(0, begin + n / 100 - time.monotonic()))
took = time.monotonic() - begin
print(n / took, 100 * (used() - before) / took)
'''


def bench_storm(lima):
    for where, arg in (("", "here"), (" in a container", "netns")):
        out = run([lima.limactl, "shell", "--workdir", "/", NAME, "sudo", "python3", "-c", STORM, "20",
                   arg], env=lima.env)
        rate, share = out.split()
        row(f"guest agent at {float(rate):.0f} binds a second{where}", f"{float(share):.1f} %",
            "of one core (aim: 2)")


def bench_port_discovery(lima):
    """With BPF, then without, which needs another start of the agent."""
    bench_ports("BPF")
    bench_ports("BPF", "udp", 20200, aim="settles for 100 ms")
    bench_storm(lima)
    lima.restart_agent("d=/run/systemd/system/lima-guestagent.service.d; mkdir -p $d;"
                       "printf '[Service]\\nExecStart=\\nExecStart=%s run --no-bpf\\n' "
                       "$(command -v lima-guestagent) >$d/no-bpf.conf")
    wait_control()
    bench_ports("fallback", base=20400, aim="the fallback has none")
    bench_ports("fallback", "udp", 20600, count=20, aim="the fallback has none")
    lima.restart_agent("rm -r /run/systemd/system/lima-guestagent.service.d")
    wait_control()


def throughput(sink_port, source_port, size):
    with wait_connect(sink_port) as s:
        data = bytes(1 << 18)
        begin = time.monotonic()
        for _ in range(size // len(data)):
            s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        s.recv(1)
        up = size / MIB / (time.monotonic() - begin)
    with wait_connect(source_port) as s:
        buf = bytearray(1 << 18)
        begin = time.monotonic()
        s.sendall(str(size).encode())
        got = n = s.recv_into(buf)
        while n:
            n = s.recv_into(buf)
            got += n
        down = got / MIB / (time.monotonic() - begin)
    return up, down


def bench_throughput(lima):
    sink, source = free_port(), free_port()
    ssh = subprocess.Popen(["ssh", "-F", os.path.join(lima.dir, "ssh.config"), "-o",
                            "ControlPath=none", "-N", "-L", f"127.0.0.1:{sink}:127.0.0.1:7001",
                            "-L", f"127.0.0.1:{source}:127.0.0.1:7002", "lima-" + NAME],
                           stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        tunnel = [throughput(7001, 7002, 64 * MIB) for _ in range(3)]
        with_ssh = [throughput(sink, source, 16 * MIB) for _ in range(3)]
    finally:
        ssh.kill()
        ssh.wait()
    for i, way in enumerate(("host to guest", "guest to host")):
        ours = statistics.median(t[i] for t in tunnel)
        theirs = statistics.median(t[i] for t in with_ssh)
        row(f"tunnel, {way}", f"{ours:.1f} MB/s",
            f"ssh -L: {theirs:.1f} MB/s, ratio {ours / theirs:.1f} (aim: 8; reference: 0.7)")


def bench_memory(lima):
    with open(f"/proc/{lima.agent_pid()}/smaps_rollup") as f:
        pss = int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M)[1])
    row("host agent, PSS", f"{pss / 1024:.1f} MB", "(aim: 6; reference: 49 + 3 of ssh)")
    text = lima.shell("sh", "-c", "sudo grep VmRSS /proc/$(pidof lima-guestagent)/status;"
                      "stat -c %s /usr/local/bin/lima-guestagent")
    rss, size = re.findall(r"(\d+)", text)
    row("guest agent, RSS / file", f"{int(rss) / 1024:.1f} MB / {int(size) / 1000:.0f} kB",
        "(aim: 1.5 MB / 400 kB; reference: 28 MB / 21 MB)")


def bench_shell(lima, count=50):
    """Ours beside what a user could do without us; own share: the same with no program behind it."""
    ssh = ["ssh", "-F", os.path.join(lima.dir, "ssh.config"), "lima-" + NAME]
    ours = [lima.limactl, "shell", "--workdir", "/", "--transport"]
    ways = {
        "ssh true": ssh + ["true"],
        "ssh bash -l -c true": ssh + ["bash -l -c true"],
        "agent": ours + ["agent", NAME, "true"],
        "ssh": ours + ["ssh", NAME, "true"],
        "bare": ours + ["agent", "--shell", "/bin/true", NAME],
        "own": [lima.limactl, "--version"],
    }
    took = {name: [] for name in ways}
    for argv in ways.values():
        timed(argv, env=lima.env)
    for _ in range(count):  # in turn: they share what else the host does
        for name, argv in ways.items():
            took[name].append(timed(argv, env=lima.env) * 1000)
    p50 = {name: statistics.median(values) for name, values in took.items()}
    row(f"multiplexed ssh true, p50 of {count}", f"{p50['ssh true']:.0f} ms",
        f"with a login shell as ours: {p50['ssh bash -l -c true']:.0f} ms (reference: 108 ms)")
    row(f"limactl shell true by the agent, p50 of {count}", f"{p50['agent']:.0f} ms",
        f"ssh + {p50['agent'] - p50['ssh true']:.0f} ms, login shell by ssh "
        f"{p50['agent'] - p50['ssh bash -l -c true']:+.0f} ms (aim: below ssh; reference: 283 ms)")
    row("  the same without the login shell's profile", f"{p50['bare']:.0f} ms",
        f"our process that does nothing: {p50['own']:.0f} ms")
    row(f"limactl shell true by ssh, p50 of {count}", f"{p50['ssh']:.0f} ms")


def main():
    limactl, images = sys.argv[1], os.path.abspath(sys.argv[2])
    runs = int(sys.argv[3] if len(sys.argv) > 3 else os.environ.get("BENCH_RUNS", "1"))
    work = tempfile.mkdtemp(prefix="lima-bench-")
    home = os.path.join(work, "home")
    os.makedirs(images, exist_ok=True)
    os.mkdir(home, mode=0o700)
    os.symlink(images, os.path.join(home, "_images"))
    lima = Lima(limactl, home)
    image = os.path.join(images, "debian-12")
    if not os.path.exists(os.path.join(image, "disk")):
        row("image build debian-12", f"{lima.timed('image', 'build', 'debian-12'):.0f} s")
    server = None
    try:
        bench_starts(lima, Floor(image, work), runs)
        # What the boot has left to do belongs to the starts, not to what comes now.
        subprocess.run([limactl, "shell", "--workdir", "/", NAME, "systemctl", "is-system-running",
                        "--wait"], env=lima.env, stdin=subprocess.DEVNULL, check=False)
        server = start_guest_server(lima)
        bench_port_discovery(lima)
        bench_throughput(lima)
        bench_shell(lima)
        server.kill()
        bench_memory(lima)
    finally:
        if server:
            server.kill()
        subprocess.run([limactl, "delete", "-f", NAME], env=lima.env, stdin=subprocess.DEVNULL)
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
