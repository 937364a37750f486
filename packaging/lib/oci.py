#!/usr/bin/env python3
"""Writes the image as an OCI archive: what the Dockerfile makes, for one or more machines, the same bytes each time.

    packaging/lib/oci.py --version 0.1.0 --commit 0123456789ab --output image.oci.tar x86_64=PATH aarch64=PATH
"""

import argparse
import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shlex
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MACHINES = {"x86_64": {"architecture": "amd64"}, "aarch64": {"architecture": "arm64", "variant": "v8"}}
BINARY = "usr/local/bin/wechat-sidecar"
# Volumes that are mounted there belong to the image's user then.
FOLDERS = ("var/lib/wechat-sidecar", "var/lib/wechat-trust")
USER = 65532
MEDIA = "application/vnd.oci.image"


class Archive:
    """A tar whose members have the time, and the order of their names."""

    def __init__(self, time):
        self.time, self.members = time, {}

    def folder(self, name, owner=0):
        parts = name.split("/")
        for at in range(1, len(parts)):
            self.members.setdefault("/".join(parts[:at]), self.member("/".join(parts[:at]), 0o755, tarfile.DIRTYPE))
        self.members[name] = self.member(name, 0o755, tarfile.DIRTYPE, owner)

    def file(self, name, content, mode=0o644):
        if "/" in name:
            self.folder(name.rpartition("/")[0])
        info, _ = self.member(name, mode, tarfile.REGTYPE)
        info.size = len(content)
        self.members[name] = (info, content)

    def member(self, name, mode, kind, owner=0):
        info = tarfile.TarInfo(name)
        info.mode, info.type, info.mtime, info.uid, info.gid = mode, kind, self.time, owner, owner
        return info, b""

    def bytes(self):
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name in sorted(self.members):
                info, content = self.members[name]
                tar.addfile(info, io.BytesIO(content))
        return written.getvalue()


class Layout:
    """An OCI layout: blobs under their sums."""

    def __init__(self, time):
        self.files = Archive(time)
        self.files.file("oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())

    def blob(self, kind, content):
        """Adds one, and describes it."""
        digest = hashlib.sha256(content).hexdigest()
        self.files.file(f"blobs/sha256/{digest}", content)
        return {"mediaType": f"{MEDIA}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    def document(self, kind, value):
        return self.blob(kind, json.dumps(value, sort_keys=True).encode())


def dockerfile():
    """What the Dockerfile says of the image: its labels, and how to run it."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    last = text[text.rindex("\nFROM ") :]
    labels = dict(word.split("=", 1) for word in shlex.split(re.search(r"^LABEL (.*)$", last, re.M)[1]))
    health = re.search(r"^HEALTHCHECK (.*?) +CMD (\[.*\])$", last, re.M)
    options = dict(word.removeprefix("--").split("=") for word in health[1].split())
    healthcheck = {"Test": ["CMD", *json.loads(health[2])], "Retries": int(options["retries"])}
    for name, key in (("interval", "Interval"), ("timeout", "Timeout"), ("start-period", "StartPeriod")):
        healthcheck[key] = int(options[name].removesuffix("s")) * 10**9
    entrypoint = json.loads(re.search(r"^ENTRYPOINT (.*)$", last, re.M)[1])
    user = re.search(r"^USER (.*)$", last, re.M)[1]
    # Of Docker alone, which reads it here as well.
    return {"Labels": labels, "Entrypoint": entrypoint, "User": user, "Healthcheck": healthcheck, "WorkingDir": "/"}


def image(layout, binary, machine, config, time):
    """The image of one machine, described."""
    root = Archive(time)
    root.file(BINARY, pathlib.Path(binary).read_bytes(), 0o755)
    for folder in FOLDERS:
        root.folder(folder, USER)
    layer = root.bytes()
    created = datetime.datetime.fromtimestamp(time, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    described = {
        **MACHINES[machine],
        "os": "linux",
        "created": created,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created": created, "created_by": "packaging/image"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}.manifest.v1+json",
        "config": layout.document("config.v1+json", described),
        "layers": [layout.blob("layer.v1.tar+gzip", gzip.compress(layer, 9, mtime=0))],
        "annotations": config["Labels"],
    }
    return layout.document("manifest.v1+json", manifest) | {"platform": {**MACHINES[machine], "os": "linux"}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("version", "commit", "output"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("binary", nargs="+", help="MACHINE=PATH")
    asked = parser.parse_args()
    time = int(os.environ["SOURCE_DATE_EPOCH"])
    config = dockerfile()
    config["Labels"] = {
        name: value.replace("${SIDECAR_BUILD_COMMIT}", asked.commit) for name, value in config["Labels"].items()
    }
    layout = Layout(time)
    images = []
    for given in asked.binary:
        machine, _, path = given.partition("=")
        images.append(image(layout, path, machine, config, time))
    index = {"schemaVersion": 2, "mediaType": f"{MEDIA}.index.v1+json", "manifests": images}
    named = layout.document("index.v1+json", index)
    named["annotations"] = {
        "org.opencontainers.image.ref.name": asked.version,
        "io.containerd.image.name": f"docker.io/library/wechat-sidecar:{asked.version}",
    }
    layout.files.file("index.json", json.dumps({"schemaVersion": 2, "manifests": [named]}, sort_keys=True).encode())
    pathlib.Path(asked.output).write_bytes(layout.files.bytes())


if __name__ == "__main__":
    main()
