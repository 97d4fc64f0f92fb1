#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest, as root: figures of one mounted folder, one JSON object on standard output.

usage: mounts_guest.py FOLDER   (writable; has a folder "tree" of 40 folders with 50 files each)
"""
import json
import os
import shutil
import subprocess
import sys
import time

MIB = 1 << 20
folder = sys.argv[1]
rows = {}


def cold():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")


def timed(work):
    begin = time.monotonic()
    count = work()
    return count / (time.monotonic() - begin)


def write_big():
    data = os.urandom(MIB)
    with open(f"{folder}/big", "wb", buffering=0) as f:
        for _ in range(64):
            f.write(data)
        os.fsync(f.fileno())
    return 64


def read_big():
    with open(f"{folder}/big", "rb", buffering=0) as f:
        while f.read(MIB):
            pass
    return 64


def walk():
    count = 0
    for path, _, names in os.walk(f"{folder}/tree"):
        for name in names:
            os.lstat(os.path.join(path, name))
            count += 1
    return count


def read_small():
    count = 0
    for path, _, names in os.walk(f"{folder}/tree"):
        for name in names:
            with open(os.path.join(path, name), "rb", buffering=0) as f:
                f.read()
            count += 1
    return count


def create():
    os.mkdir(f"{folder}/new")
    data = b"x" * 1024
    for i in range(500):
        with open(f"{folder}/new/{i}", "wb", buffering=0) as f:
            f.write(data)
    return 500


def unlink():
    for i in range(500):
        os.unlink(f"{folder}/new/{i}")
    os.rmdir(f"{folder}/new")
    return 500


def have(program):
    return shutil.which(program) is not None


def seconds(argv, **kw):
    begin = time.monotonic()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **kw)
    return time.monotonic() - begin


rows["write 64 MiB + fsync, MB/s"] = timed(write_big) * 1.048576
cold()
rows["read 64 MiB, MB/s"] = timed(read_big) * 1.048576
cold()
rows["walk + lstat, files/s"] = timed(walk)
rows["the same, warm, files/s"] = timed(walk)
cold()
rows["read small files, files/s"] = timed(read_small)
cold()
rows["create 1 kB files, files/s"] = timed(create)
rows["unlink them, files/s"] = timed(unlink)
os.unlink(f"{folder}/big")
if os.path.exists(f"{folder}/files.tar"):
    os.mkdir(f"{folder}/untar")
    cold()
    rows["untar 5,000 files, s"] = seconds(["tar", "--no-same-owner", "-xf", f"{folder}/files.tar", "-C", f"{folder}/untar"])
    shutil.rmtree(f"{folder}/untar")
if have("git") and os.path.exists(f"{folder}/repo"):
    git = ["git", "-c", "safe.directory=*", "-C", f"{folder}/repo", "status", "--porcelain"]
    cold()
    rows["git status of 20,000 files, s"] = seconds(git)
    rows["the same, warm, s"] = seconds(git)
if have("fio"):
    for what, kind in (("randread", "read"), ("randwrite", "write")):
        cold()
        out = subprocess.run(
            ["fio", "--name=x", f"--directory={folder}", f"--rw={what}", "--bs=4k", "--size=16m",
             "--ioengine=psync", "--output-format=json", "--end_fsync=1"],
            check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout
        rows[f"fio {what} 4 kB, per s"] = json.loads(out)["jobs"][0][kind]["iops"]
    for name in os.listdir(folder):
        if name.startswith("x."):
            os.unlink(f"{folder}/{name}")
print(json.dumps(rows))
