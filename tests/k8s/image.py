#!/usr/bin/env python3
"""The image's build without an engine: with the files that .dockerignore lets in, the Dockerfile's commands in a clean folder.

Where the Dockerfile builds, cargo only checks, for this machine and without optimising, and the program that is not there
is not moved.
"""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


class Broken(Exception):
    """Why the image cannot be built: a sentence."""


def rules(text):
    """The patterns of a .dockerignore, each with whether it lets in what it matches."""
    found = []
    for line in text.splitlines():
        line = "" if line.startswith("#") else line.strip()
        if line:
            found.append((pattern(line.removeprefix("!").strip("/")), line.startswith("!")))
    return found


def pattern(text):
    """A regular expression for a pattern, in which one star stays inside a folder and two do not."""
    if "[" in text or "\\" in text:
        raise Broken(f".dockerignore: image.py does not know the pattern {text}")
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", text)
    return re.compile("".join(words.get(part) or re.escape(part) for part in parts))


def ignored(path, known):
    """Whether a .dockerignore leaves out a path: the last pattern that matches it or a folder above decides."""
    parts = path.split("/")
    above = ["/".join(parts[: at + 1]) for at in range(len(parts))]
    out = False
    for matches, lets_in in known:
        if any(matches.fullmatch(one) for one in above):
            out = not lets_in
    return out


def context(root):
    """The files that an engine gets, as paths below `root`."""
    known = rules((root / ".dockerignore").read_text())
    found = []
    for folder, folders, files in os.walk(root):
        here = pathlib.Path(folder).relative_to(root)
        # Hundreds of thousands of files may be in these, and no pattern is about them.
        folders[:] = [one for one in folders if (here / one).as_posix() not in ("target", ".git")]
        links = [one for one in folders if (pathlib.Path(folder) / one).is_symlink()]
        found += [(here / one).as_posix() for one in files + links]
    return sorted(path for path in found if not ignored(path, known))


def stage(text):
    """The instructions of a Dockerfile's first stage: a word and the rest of each."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n", " ", "\n".join(lines))
    pairs = [line.strip().partition(" ")[::2] for line in whole.splitlines() if line.strip()]
    starts = [at for at, (word, _) in enumerate(pairs) if word == "FROM"]
    return pairs[starts[0] + 1 : (starts + [None])[1]]


# What packaging/build does, without a binary; that file and those it reads have to be there.
BUILD = "packaging/build"
NEEDED = (BUILD, "pgo/rustc", "pgo/rustc.version", "pgo/calls.musl.profdata")
CHECK = " && ".join([f"test -e {name}" for name in NEEDED] + ["cargo check --locked --bin wechat-sidecar"])


class Build:
    """A build in `folder`, as far as it has come."""

    def __init__(self, root, folder, target):
        self.root, self.folder = root, folder
        self.files = context(root)
        settings = {"CARGO_TARGET_DIR": str(target), "CARGO_TERM_COLOR": "never"}
        self.environment = {**os.environ, **settings}
        self.checks = 0

    def follow(self, word, rest):
        """One instruction."""
        match word:
            case "WORKDIR":
                pass
            case "ARG":
                name, _, value = rest.partition("=")
                self.environment[name] = value
            case "COPY":
                *sources, destination = shlex.split(rest)
                for source in sources:
                    self.copy(source, destination)
            case "RUN":
                self.run(rest)
            case _:
                raise Broken(f"Dockerfile: image.py does not know {word}")

    def copy(self, source, destination):
        """A file, or what is in a folder."""
        if source.startswith("--") or re.search(r"[*?\[]", source):
            raise Broken(f"Dockerfile: image.py does not know COPY {source}")
        found = [path for path in self.files if path == source or path.startswith(f"{source}/")]
        if not found:
            raise Broken(f"COPY {source}: no such file, or .dockerignore leaves it out")
        for path in found:
            inner = path.removeprefix(source).lstrip("/") or (pathlib.Path(path).name if destination.endswith("/") else "")
            there = self.folder / destination / inner
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.root / path, there, follow_symlinks=False)

    def run(self, commands):
        """The commands of a RUN, but for the builder's own tools and the program that was not built."""
        steps = [step.strip() for step in commands.split("&&")]
        steps = [step for step in steps if not step.startswith(("rustup ", 'mv "target/'))]
        if not steps:
            return
        steps = [CHECK if step == BUILD else step for step in steps]
        line = " && ".join(steps)
        done = subprocess.run(
            ["/bin/sh", "-c", line], cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise Broken(f"{line}\n{done.stderr}")
        self.checks += CHECK in line


def main():
    """Builds, with the target directory of the checkout, where cargo doc has checked the dependencies already."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
    # Not below the project, whose Cargo.toml cargo would find as well.
    with tempfile.TemporaryDirectory(prefix="wechat-sidecar-image-") as folder:
        build = Build(ROOT, pathlib.Path(folder), target)
        try:
            for word, rest in stage((ROOT / "Dockerfile").read_text()):
                build.follow(word, rest)
            if not build.checks:
                raise Broken(f"Dockerfile: image.py finds no {BUILD} in it")
        except Broken as problem:
            print(f"the image cannot be built: {problem}", file=sys.stderr)
            return 1
    print(f"the image's build: {len(build.files)} files, {build.checks} times cargo check")
    return 0


if __name__ == "__main__":
    sys.exit(main())
