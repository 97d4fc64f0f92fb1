#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Benchmark of shared folders in a real VM: prints figures, asserts nothing.

Boots the Debian 12 image built by `limactl image build` once, with the same kind of folder mounted
by each kind of mount, and prints what mounts_guest.py measures in each, side by side, median of 3
rounds; then how long a mount takes to come to a running VM.

usage: vm_mounts.py LIMACTL IMAGES   (environment: ROUNDS, 3 by default; KINDS)
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

from vm import Lima, NAME, row

KINDS = os.environ.get("KINDS", "agent 9p virtiofs reverse-sshfs").split()
ROUNDS = int(os.environ.get("ROUNDS", "3"))
ADDS = 20


def fill(folder):
    for i in range(40):
        os.makedirs(f"{folder}/tree/d{i}")
        for j in range(50):
            with open(f"{folder}/tree/d{i}/f{j}", "wb") as f:
                f.write(os.urandom(1024))
    with tarfile.open(f"{folder}/files.tar", "w") as tar:
        for i in range(5000):
            info = tarfile.TarInfo(f"d{i // 100}/f{i}")
            info.size = 1024
            with open(f"{folder}/tree/d0/f0", "rb") as f:
                tar.addfile(info, f)
    if shutil.which("git"):
        repo = f"{folder}/repo"
        for i in range(20000):
            os.makedirs(f"{repo}/d{i // 100}", exist_ok=True)
            with open(f"{repo}/d{i // 100}/f{i}", "w") as f:
                f.write(str(i))
        git = ["git", "-C", repo, "-c", "user.name=x", "-c", "user.email=x@example.org"]
        for argv in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
            subprocess.run(git + argv, check=True, stdin=subprocess.DEVNULL)
    here = os.path.dirname(os.path.abspath(__file__))
    shutil.copy(f"{here}/mounts_guest.py", folder)


def measure(lima):
    rounds = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind in KINDS:
            out = lima.shell("sudo", "python3", f"/mnt/{kind}/mounts_guest.py", f"/mnt/{kind}")
            rounds[kind].append(json.loads(out))
    row("", "   ".join(f"{kind:>13}" for kind in KINDS))
    for what in rounds[KINDS[0]][0]:
        row(what, "   ".join(f"{statistics.median(one[what] for one in rounds[kind]):13.1f}" for kind in KINDS))


def time_adds(lima, work):
    folder = f"{work}/added"
    os.mkdir(folder)
    times = []
    for _ in range(ADDS):
        begin = time.monotonic()
        lima("mounts", "add", NAME, f"{folder}:/mnt/added", "--temporary")
        lima.shell("ls", "/mnt/added")
        times.append(time.monotonic() - begin)
        lima("mounts", "remove", NAME, "/mnt/added")
    times.sort()
    row("mounts add until ls has ended, ms", f"{times[len(times) // 2] * 1000:.0f}",
        f"longest of {ADDS}: {times[-1] * 1000:.0f} (aim: 500)")


def main():
    limactl, images = sys.argv[1], os.path.abspath(sys.argv[2])
    work = tempfile.mkdtemp(prefix="lima-bench-")
    home = os.path.join(work, "home")
    os.mkdir(home, mode=0o700)
    os.makedirs(images, exist_ok=True)
    os.symlink(images, os.path.join(home, "_images"))
    lima = Lima(limactl, home)
    with open(os.path.join(work, "bench.yaml"), "w") as f:
        f.write("images: [{location: 'image:debian-12', arch: x86_64}]\ncpus: 2\nmemory: 1GiB\ndisk: 8GiB\nmounts:\n")
        for kind in KINDS:
            fill(f"{work}/{kind}")
            f.write(f"- {{location: {work}/{kind}, mountPoint: /mnt/{kind}, type: {kind}, writable: true}}\n")
    try:
        if not os.path.exists(os.path.join(images, "debian-12", "disk")):
            lima("image", "build", "debian-12", "--package", "git,fio")
        lima("--tty=false", "start", "--name", NAME, os.path.join(work, "bench.yaml"))
        print(lima("mounts", NAME))
        measure(lima)
        time_adds(lima, work)
    finally:
        subprocess.run([limactl, "delete", "-f", NAME], env=lima.env, stdin=subprocess.DEVNULL)
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
