#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The host's resolver under dnsperf, beside what the reference did: 64,000 queries a second for its own names;
11 a second and 22 % lost for "localhost", which it sent to a server that did not answer.

Usage: dns.py SERVE_DNS
Client and server share the machine's CPUs, so the rate says what is left of them; the server's own time for a
query says what it costs. The machine's files are not used: the table has 10,000 names, resolv.conf no server.
Medians of 5 runs. Ends with 1 if anything was lost or wrong, not for being slow.
"""

import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

RUNS = 5
SECONDS = 3
NAMES = 10000
CASES = [  # what it is, queries, options of dnsperf, the reference's figure
    ("own names, UDP", ["host.lima.internal A", "lima-default.internal A"], [], "64,000/s"),
    ("own names, TCP", ["host.lima.internal A", "lima-default.internal A"], ["-m", "tcp"], "-"),
    ("localhost, UDP", ["localhost A"], [], "11/s, 22 % lost"),
    ("10,000 names of /etc/hosts, UDP", [f"host{i}.lan A" for i in range(NAMES)], [], "-"),
    ("AAAA without IPv6, UDP", ["host.lima.internal AAAA", "localhost AAAA"], [], "-"),
]
FIGURES = {
    "rate": r"Queries per second:\s+([\d.]+)",
    "lost": r"Queries lost:\s+(\d+)",
    "latency": r"Average Latency \(s\):\s+([\d.]+)",
    "codes": r"Response codes:\s+(.*)",
}


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def state(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]), len(os.listdir(f"/proc/{pid}/fd"))


def run(port, data, options, pid):
    before = cpu_seconds(pid)
    text = subprocess.run(["dnsperf", "-s", "127.0.0.1", "-p", port, "-d", data, "-l", str(SECONDS), "-c", "8", "-q",
                           "200", *options], capture_output=True, text=True, check=True).stdout
    got = {name: re.search(pattern, text)[1] for name, pattern in FIGURES.items()}
    sent = float(re.search(r"Queries completed:\s+(\d+)", text)[1])
    return {"rate": float(got["rate"]), "latency": float(got["latency"]) * 1e6, "lost": int(got["lost"]),
            "cost": (cpu_seconds(pid) - before) / sent * 1e6, "good": got["codes"].startswith("NOERROR") and
            "(100.00%)" in got["codes"]}


def measure(folder, ports, pid):
    good = True
    print(f"{'':34}{'queries/s':>12}{'latency':>10}{'our CPU':>10}{'lost':>6}  reference")
    for title, queries, options, reference in CASES:
        data = folder / "queries"
        data.write_text("\n".join(queries) + "\n")
        runs = [run(ports["-m" in options], data, options, pid) for _ in range(RUNS)]
        rate, latency, cost = (statistics.median(r[k] for r in runs) for k in ("rate", "latency", "cost"))
        lost = sum(r["lost"] for r in runs)
        good = good and lost == 0 and all(r["good"] for r in runs)
        print(f"{title:34}{rate:>12,.0f}{latency:>7,.0f} us{cost:>7.1f} us{lost:>6}  {reference}", flush=True)
    return good


def main():
    if not shutil.which("dnsperf"):
        print("dnsperf is not installed")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="lima-dns.") as name:
        folder = pathlib.Path(name)
        (folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(
            f"10.0.{i // 250}.{i % 250 + 1} host{i}.lan\n" for i in range(NAMES)))
        (folder / "nsswitch.conf").write_text("hosts: files dns\n")
        (folder / "resolv.conf").write_text("")
        server = subprocess.Popen(
            [sys.argv[1], "-H", folder / "hosts", "-N", folder / "nsswitch.conf", "-r", folder / "resolv.conf",
             "host.lima.internal=192.168.5.2", "lima-default.internal=192.168.5.15"],
            stdout=subprocess.PIPE, text=True)
        try:
            ports = server.stdout.readline().split()
            before = state(server.pid)
            good = measure(folder, ports, server.pid)
            after = state(server.pid)
        finally:
            server.terminate()
            server.wait()
    print(f"memory {before[0]} -> {after[0]} KiB, descriptors {before[1]} -> {after[1]}")
    sys.exit(0 if good else 1)


main()
