"""Counts the user instructions of a call: POST of 200 B, reply of 62 B, TLS 1.3 upstream."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.count import instructions
from lib.processes import raise_file_limit
from lib.upstream import Upstream


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
    if asked.max and counted > asked.max:
        print("a call takes more instructions than it may; benches/README.md says how to find where", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
