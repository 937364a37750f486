"""Causes all faults at once, each before a sidecar of its own, and judges what every channel says of it."""

import argparse
import asyncio
import dataclasses
import json
import os
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])
# What the caller's own sidecar is told is not for those here.
for name in [name for name in os.environ if name.startswith("WECHAT_")]:
    del os.environ[name]

from drill.faults import FAULTS
from drill.run import run, tell_alerts
from drill.table import print_findings, print_table
from lib.processes import raise_file_limit

# Beyond this the machine is too busy for limits of seconds to mean anything.
LATE = 0.5
# Programs start one after the other, so that none is late because all others start, too.
BETWEEN_STARTS = 0.4


def arguments():
    parser = argparse.ArgumentParser(prog="benches/faults", description=__doc__)
    parser.add_argument("name", nargs="*", help="faults to cause; all unless given")
    parser.add_argument("--list", action="store_true", help="name the faults, and what has to be said of each")
    parser.add_argument("--json", action="store_true", help="print all that was said, as JSON")
    parser.add_argument("--long", action="store_true", help="also wait for what ends after a quarter of an hour")
    parser.add_argument("--minutes", type=float, default=0, help="let each fault last so long, for the sake of alerts")
    return parser.parse_args()


def chosen(names, minutes):
    unknown = set(names) - {fault.name for fault in FAULTS}
    if unknown:
        sys.exit(f"there is no fault {', '.join(sorted(unknown))}: see --list")
    faults = [fault for fault in FAULTS if not names or fault.name in names]
    if not minutes:
        return faults
    # After so long, the sidecar asks for a token only every ten minutes.
    times = {"go_on": 60 * minutes, "over_within": 900}
    return [dataclasses.replace(fault, **times) for fault in faults]


async def watch_lag(lag):
    """Notes by how much the drill itself is late."""
    while True:
        due = time.monotonic() + 0.1
        await asyncio.sleep(0.1)
        lag.append(time.monotonic() - due)


async def run_all(faults, with_long):
    done, lag = 0, []
    watch = asyncio.create_task(watch_lag(lag))

    async def run_later(fault, delay):
        nonlocal done
        await asyncio.sleep(delay)
        result = await run(fault, with_long)
        done += 1
        print(f"\r{done} of {len(faults)} are done", end="", file=sys.stderr, flush=True)
        return result

    delays = (at * BETWEEN_STARTS for at in range(len(faults)))
    results = await asyncio.gather(*map(run_later, faults, delays))
    watch.cancel()
    print(file=sys.stderr)
    if max(lag) > LATE:
        print(f"the machine is too busy: the drill itself was late by {max(lag):.1f} s", file=sys.stderr)
    return results


def main():
    asked = arguments()
    faults = chosen(asked.name, asked.minutes)
    if asked.list:
        for fault in faults:
            want = fault.want
            alerts = ", ".join(sorted(want.all_alerts())) or f"none: {want.no_alert}"
            print(f"{fault.name:24} {want.kind or '-':22} {fault.text}\n{'':24} {alerts}")
        return
    raise_file_limit()
    began = time.monotonic()
    results = asyncio.run(run_all(faults, asked.long))
    tell_alerts(results)
    if asked.json:
        print(json.dumps([result.as_json() for result in results], indent=1, ensure_ascii=False))
    out = sys.stderr if asked.json else sys.stdout
    print_table(results, out)
    print_findings(results, out)
    wrong = [result for result in results if result.verdict != "right"]
    print(f"\n{len(results)} faults in {time.monotonic() - began:.0f} s, {len(wrong)} not right", file=out)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
