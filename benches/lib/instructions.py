"""Counts the user instructions of a call: POST of 200 B, reply of 62 B, TLS 1.3 upstream."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.count import instructions
from lib.processes import raise_file_limit
from lib.upstream import Upstream

PGO = Path(__file__).parents[2] / "pgo"
WITHOUT_PROFILE = 1.4


def has_profile():
    """Whether pgo/build uses the profile: the compiler is the one that it is for."""
    if any(os.environ.get(name) for name in ("CARGO_BUILD_TARGET", "SIDECAR_PGO")):
        return False
    asked = subprocess.run(["rustc", "-vV"], cwd=PGO, stdout=subprocess.PIPE, text=True, check=True)
    return asked.stdout == (PGO / "rustc.version").read_text()


def main():
    parser = argparse.ArgumentParser(prog="benches/instructions", description=__doc__)
    parser.add_argument("--max", type=int, metavar="N", help="exit 1 above it")
    parser.add_argument("--calls", type=int, default=3200, help="a multiple of 8; default 3200")
    asked = parser.parse_args()
    raise_file_limit()
    upstream = Upstream(tickets=False)
    counted = instructions(upstream, asked.calls)
    upstream.stop()
    print(f"{counted:,.0f} user instructions a call" + (f", at most {asked.max:,}" if asked.max else ""))
    if asked.max and not has_profile():
        asked.max = round(asked.max * WITHOUT_PROFILE)
        print(f"pgo/ has no profile for this build: {asked.max:,} are allowed")
    if asked.max and counted > asked.max:
        print(
            "a call takes more instructions than it may; if Cargo.lock has changed, pgo/renew helps;"
            " otherwise benches/README.md says how to find where",
            file=sys.stderr,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
