#!/usr/bin/env python3
"""Lists what is linked into the program for a target, as CycloneDX: each crate with its licence and its sum.

    packaging/lib/sbom.py x86_64-unknown-linux-musl > wechat-sidecar.cdx.json

SOURCE_DATE_EPOCH is the time that it tells. Crates that only build others are not in it.
"""

import datetime
import json
import os
import pathlib
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]


def metadata(triple):
    """What cargo says of all packages, and of who needs whom for the target."""
    command = ["cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={triple}"]
    return json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)


def linked(known):
    """The packages that are linked in, each with those that it needs itself, from the program on."""
    packages = {package["id"]: package for package in known["packages"]}
    nodes = {node["id"]: node for node in known["resolve"]["nodes"]}
    found, left = {}, [known["resolve"]["root"]]
    while left:
        one = left.pop()
        if one in found:
            continue
        normal = [dep["pkg"] for dep in nodes[one]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
        # What a macro is made of runs at build time alone.
        found[one] = [package for package in normal if not is_macro(packages[package])]
        left += found[one]
    return packages, found


def is_macro(package):
    return any("proc-macro" in target["kind"] for target in package["targets"])


def component(package, sums):
    """One crate."""
    name, version = package["name"], package["version"]
    said = {
        "type": "library",
        "bom-ref": reference(package),
        "name": name,
        "version": version,
        "purl": reference(package),
        "licenses": [{"expression": package["license"].replace("/", " OR ")}],
    }
    if (name, version) in sums:
        said["hashes"] = [{"alg": "SHA-256", "content": sums[name, version]}]
    if package["repository"]:
        said["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return said


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def main():
    (triple,) = sys.argv[1:]
    known = metadata(triple)
    packages, found = linked(known)
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    sums = {(one["name"], one["version"]): one["checksum"] for one in locked if "checksum" in one}
    root = packages[known["resolve"]["root"]]
    when = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.UTC)
    program = component(root, sums) | {"type": "application"}
    libraries = [component(packages[one], sums) for one in found if one != root["id"]]
    needs = [
        {"ref": reference(packages[one]), "dependsOn": sorted(reference(packages[other]) for other in others)}
        for one, others in found.items()
    ]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": program,
            "properties": [{"name": "target", "value": triple}],
        },
        "components": sorted(libraries, key=lambda one: one["bom-ref"]),
        "dependencies": sorted(needs, key=lambda one: one["ref"]),
    }
    json.dump(bill, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
