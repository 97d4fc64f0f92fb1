#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks who includes whom.

A file includes headers of its own folder or of one with a strictly lower rank; equal ranks never. The
guest agent sees proto/ alone. Usage: layers.py SOURCE_ROOT
"""

import pathlib
import re
import sys

# Each folder of sources, its rank, and how its headers are named in an #include.
RANKS = {
    "proto/lima": (0, "lima/"),  # for programs of others; nobody here includes it
    "proto/base": (0, "base/"),
    "proto/mux": (1, "mux/"),
    "guest": (2, ""),
    "host/util": (1, "util/"),
    "host/config": (2, "config/"),
    "host/image": (3, "image/"),
    "host/ssh": (3, "ssh/"),
    "host/dns": (3, "dns/"),
    "host/api": (3, "api/"),
    "host/peer": (3, "peer/"),
    "host/instance": (4, "instance/"),
    "host/template": (4, "template/"),
    "host/forward": (4, "forward/"),
    "host/mount": (4, "mount/"),
    "host/net": (4, "net/"),
    "host/cidata": (5, "cidata/"),
    "host/driver": (5, "driver/"),
    "host/agent": (6, "agent/"),
    "host/lifecycle": (7, "lifecycle/"),
    "host/cmd": (8, "cmd/"),
}

# Folders that only some files of others may enter, whatever the ranks say.
DOORS = {
    "driver/qemu/": ["host/driver/registry.c"],
    "driver/vz/": ["host/driver/registry.c"],
    "driver/wsl2/": ["host/driver/registry.c"],
    "agent/": ["host/cmd/hostagent.c"],
    "mux/internal.h": [],
    "agent/mounts_internal.h": [],
    "agent/internal.h": [],
    "image/build_internal.h": [],
    "mount/coherence_internal.h": [],
    "mount/fuse_internal.h": [],
    "mount/nodes_internal.h": [],
}

# What the build makes, and who may see it.
GENERATED = {
    "guest.pb-c.h": "host/peer",
    "guest.pb.h": "guest",
    "pb_encode.h": "guest",
    "pb_decode.h": "guest",
}

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')


def folder_of(path):
    """The entry of RANKS that @path (relative, posix) belongs to, or None."""
    fits = [f for f in RANKS if path.startswith(f + "/")]
    return max(fits, key=len) if fits else None


def target_of(root, source, name):
    """(folder, path below the include root) of the header @name that @source includes, or None."""
    for folder, (_, prefix) in RANKS.items():
        if prefix and name.startswith(prefix):
            return folder, name
    if (root / source).parent.joinpath(name).is_file():  # a bare name: beside the source
        return folder_of(source), name
    return None


def check_include(root, source, line, quoted, name):
    """One message, or None."""
    where = f"{source}:{line}"
    own = folder_of(source)
    if name in GENERATED:
        if own != GENERATED[name]:
            return f"{where}: {name} belongs to {GENERATED[name]} alone"
        return None
    target = target_of(root, source, name)
    if target is None:
        return f"{where}: \"{name}\" is in no folder of the table" if quoted else None
    if not quoted and "/" not in name:
        return None  # a library's, whatever lies beside
    folder, name = target
    prefix = RANKS[folder][1]
    if not (root / folder / name.removeprefix(prefix)).is_file():
        return None if not quoted else f"{where}: \"{name}\" does not exist"
    for door, entrants in DOORS.items():
        inside = prefix and source.startswith(folder + "/") and (
            door == prefix or source.startswith(folder + "/" + door.removeprefix(prefix)) or
            door.endswith(".h"))
        if name.startswith(door) and not inside and source not in entrants:
            return f"{where}: \"{name}\" is for {', '.join(entrants) or 'its own folder'} alone"
    if folder == own:
        return None
    if own == "guest" and not folder.startswith("proto/"):
        return f"{where}: the guest agent sees proto/ alone, not \"{name}\""
    if RANKS[folder][0] >= RANKS[own][0]:
        return (f"{where}: {own} [{RANKS[own][0]}] may not include \"{name}\" "
                f"of {folder} [{RANKS[folder][0]}]")
    return None


def main():
    root = pathlib.Path(sys.argv[1])
    problems, files = [], 0
    for top in ("proto", "guest", "host"):
        for path in sorted((root / top).rglob("*.[chm]")):
            source = path.relative_to(root).as_posix()
            if folder_of(source) is None:
                problems.append(f"{source}: its folder is not in the table of tests/lint/layers.py")
                continue
            files += 1
            for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                match = INCLUDE.match(text)
                if match:
                    problem = check_include(root, source, number, match[1] == '"', match[2])
                    if problem:
                        problems.append(problem)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{files} files, {len(problems)} includes that the layers forbid")
    return 1 if problems or not files else 0


if __name__ == "__main__":
    sys.exit(main())
