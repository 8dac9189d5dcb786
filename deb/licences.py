#!/usr/bin/env python3
"""The crates that are built into the program, each with its licence and the texts that come with it.

usage: deb/licences.py TARGET     TARGET: the triple that is built for
"""

import functools
import json
import pathlib
import subprocess
import sys

# Fewer mean that something is not seen.
FEWEST = 50
TEXTS = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")


@functools.cache
def metadata(target):
    """What cargo knows of the crates for this target."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={target}"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def root_of(target):
    """The crate of this source tree."""
    found = metadata(target)
    return next(package for package in found["packages"] if package["id"] == found["resolve"]["root"])


def built_in(target):
    """The crates, in order of their names; not what tests and builds alone need."""
    found = metadata(target)
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    wanted, waiting = set(), [found["resolve"]["root"]]
    while waiting:
        node = waiting.pop()
        if node in wanted:
            continue
        wanted.add(node)
        for dependency in nodes[node]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    packages = [package for package in found["packages"] if package["id"] in wanted and package["source"]]
    if len(packages) < FEWEST:
        sys.exit(f"licences: only {len(packages)} crates seen")
    return sorted(packages, key=lambda package: (package["name"], package["version"]))


def main(target):
    """Prints them."""
    for package in built_in(target):
        print(f"==== {package['name']} {package['version']}: {package['license']}")
        folder = pathlib.Path(package["manifest_path"]).parent
        texts = [path for path in folder.iterdir() if path.name.upper().startswith(TEXTS) and path.is_file()]
        for path in sorted(texts):
            print(f"---- {path.name}")
            print(path.read_text(errors="replace").strip())


if __name__ == "__main__":
    main(*sys.argv[1:])
