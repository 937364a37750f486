"""Compares builds of the sidecar with each other, and with nginx and haproxy, in turns of a tenth of a second."""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib.peers import HAPROXY, NGINX, RELAY, SIDECAR, Proxy
from lib.processes import BENCH, raise_file_limit
from lib.upstream import POST, Upstream

PROXY_CORE, LOAD_CORE = {0}, {1}


def main():
    parser = argparse.ArgumentParser(prog="benches/turns", description=__doc__)
    parser.add_argument("builds", nargs="*", help="binaries of the sidecar; default the one that was just built")
    parser.add_argument("--turns", type=int, default=150, help="of each; default 150")
    parser.add_argument("--milliseconds", type=int, default=100, help="of a turn; default 100")
    parser.add_argument("--plain", action="store_true", help="an upstream without TLS; with the relay, on one core")
    parser.add_argument("--both", action="store_true", help="two workers and no pinning, instead of one on core 0")
    asked = parser.parse_args()
    raise_file_limit()
    cores, pin = (2, None) if asked.both else (1, PROXY_CORE)
    upstream = Upstream(None if asked.both else LOAD_CORE)
    proxies = {}
    try:
        relay = [RELAY] if asked.plain and not asked.both else []
        for kind in (NGINX, HAPROXY, *relay):
            proxies[kind] = Proxy(kind, upstream, not asked.plain, cores, pin)
        for build in asked.builds or [os.environ["SIDECAR"]]:
            os.environ["SIDECAR"] = str(Path(build).resolve())
            proxies[build] = Proxy(SIDECAR, upstream, not asked.plain, cores, pin)
        seen = take_turns(asked, list(proxies.values()))
    finally:
        for proxy in proxies.values():
            proxy.stop()
        upstream.stop()
    print(f"{'µs CPU a call':>14} {'vs nginx':>16} {'calls a second':>15}")
    for name, turns in zip(proxies, seen):
        cpu, rate = zip(*turns)
        ratios = sorted(mine / of_nginx for (mine, _), (of_nginx, _) in zip(turns, seen[0]))
        # Of a median, roughly.
        error = 2 * 1.25 * statistics.pstdev(ratios) / len(ratios) ** 0.5
        ratio = f"{statistics.median(ratios):.3f} ± {error:.3f}"
        print(f"{statistics.median(cpu):14.2f} {ratio:>16} {statistics.median(rate):15,.0f}  {name}")


def take_turns(asked, proxies):
    """For each proxy its turns: CPU a call and calls a second."""
    pin = None if asked.both else (lambda: os.sched_setaffinity(0, LOAD_CORE))
    whom = [f"{proxy.port}:{','.join(map(str, proxy.program.pids()))}" for proxy in proxies]
    command = [BENCH / "peers/release/turns", "64", str(asked.milliseconds), str(asked.turns), POST, *whom]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, preexec_fn=pin)
    seen = [[] for _ in proxies]
    for line in done.stdout.splitlines():
        at, cpu, rate = line.split()
        seen[int(at)].append((float(cpu), float(rate)))
    return seen


if __name__ == "__main__":
    main()
