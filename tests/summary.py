#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts every test of one or more build folders, the subtests of TAP programs included.

usage: summary.py [--need SUITE,...] BUILD...
The last line printed is "N passed, N failed, N skipped". The exit status is 1 if anything failed, a
program promised more subtests than it ran, a folder has no results, or a needed suite did not run.
"""
import glob
import json
import os
import re
import sys

PLAN = re.compile(r"^1\.\.(\d+)(?:\s*#\s*skip\S*\s*(.*))?\s*$", re.I)
RESULT = re.compile(r"^(not )?ok\b\s*\d*(.*?)(?:#\s*(skip|todo)\S*\s*(.*))?$", re.I)


def count_tap(text):
    """(passed, names of failed, reasons of skipped) of a TAP stream."""
    passed, failed, skipped, plan, seen = 0, [], [], None, 0
    for line in text.splitlines():
        if line.lower().startswith("bail out!"):
            failed.append(line)
        plan_line, result = PLAN.match(line), RESULT.match(line)
        if plan_line:
            plan = int(plan_line[1])
            if plan == 0:
                skipped.append(plan_line[2] or "no reason given")
        elif result:
            seen += 1
            directive = (result[3] or "").lower()
            if directive == "skip":
                skipped.append(result[4] or result[2].strip(" -"))
            elif directive == "todo" or not result[1]:
                passed += 1
            else:
                failed.append(result[2].strip(" -"))
    if plan is None:
        failed.append("no plan: the program ended early")
    elif seen != plan:
        failed.extend(["a subtest that never ran"] * max(1, plan - seen))
    return passed, failed, skipped


def count_program(entry):
    """As count_tap(), for one line of meson's log."""
    result, out = entry.get("result", ""), entry.get("stdout") or ""
    if result == "SKIP" and not re.search(r"^1\.\.", out, re.M):
        return 0, [], [out.strip() or "no reason given"]
    if re.search(r"^1\.\.\d+", out, re.M):
        passed, failed, skipped = count_tap(out)
        if result not in ("OK", "SKIP", "EXPECTEDFAIL") and not failed:
            failed.append(f"the program ended with {result}")
        return passed, failed, skipped
    if result in ("OK", "EXPECTEDFAIL"):
        return 1, [], []
    return 0, [f"{result}"], []


def load(folder):
    # The name carries that of the test setup. The newest one is of the run that is being counted.
    logs = glob.glob(os.path.join(folder, "meson-logs", "testlog*.json"))
    if not logs:
        print(f"summary: no test has run in {folder}", file=sys.stderr)
        return []
    path = max(logs, key=os.path.getmtime)
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return [json.loads(line) for line in f if line.strip()]
    except OSError as e:
        print(f"summary: {e}", file=sys.stderr)
        return []


def suites_of(folder):
    """Name of a test -> its first suite."""
    path = os.path.join(folder, "meson-info", "intro-tests.json")
    with open(path, encoding="utf-8") as f:
        return {t["name"]: (t["suite"] or ["other"])[0].split(":")[-1] for t in json.load(f)}


def main(folders, needed):
    total, ran, broken = [0, 0, 0], set(), not folders
    for folder in folders:
        entries, suites, sums = load(folder), suites_of(folder), {}
        broken = broken or not entries
        for entry in entries:
            passed, failed, skipped = count_program(entry)
            name = entry["name"].split(" / ")[-1]
            counts = sums.setdefault(suites.get(name, "other"), [0, 0, 0])
            for i, n in enumerate((passed, len(failed), len(skipped))):
                counts[i] += n
                total[i] += n
            for text in failed:
                print(f"FAILED  {folder}: {name}: {text}")
            for text in skipped:
                print(f"skipped {folder}: {name}: {text}")
        ran.update(sums)
        for name, counts in sorted(sums.items()):
            print(f"{folder}, {name}: {counts[0]} passed, {counts[1]} failed, {counts[2]} skipped")
    for name in sorted(needed - ran):
        print(f"FAILED  suite '{name}' did not run")
        total[1] += 1
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    return 1 if broken or total[1] else 0


def parse(argv):
    if len(argv) > 1 and argv[0] == "--need":
        return argv[2:], set(argv[1].split(","))
    return argv, set()


if __name__ == "__main__":
    sys.exit(main(*parse(sys.argv[1:])))
