"""Mixed load for some minutes: RSS, files, threads and connections each five seconds, and whether they rise."""

import argparse
import http.client
import random
import re
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib import load
from lib.peers import SIDECAR, Proxy
from lib.processes import raise_file_limit
from lib.upstream import DOWNLOAD, GET, LARGE, POST, UPLOAD, Upstream

EVERY = 5
# What may be gained from the second quarter to the last, beside 5 %: in MB, files, threads and connections.
SLACK = {"rss_mb": 2, "files": 20, "threads": 0, "app": 10, "upstream": 10}
# The pauses between the parts are longer than nothing, so that connections come and go.
MIX = [(POST, 200, 64), (GET, 0, 16), (DOWNLOAD, 0, 4), (UPLOAD, LARGE, 4), (POST, 2000, 200), (POST, 200, 1)]


def mixed(proxy, end, failures):
    """One kind of load after the other, in a fixed order, each on connections of its own."""
    turn = 0
    while time.monotonic() < end:
        path, body, connections = MIX[turn % len(MIX)]
        run = load.wrk(proxy.url(path), 2, connections, body)
        failures["calls"] += run["requests"]
        failures["bad"] += run["status"] + run["errors"]
        turn += 1


def rude(proxy, end):
    """Apps that leave in the middle of a call or of a reply: what they leave behind has to go, too."""
    chance = random.Random(1)
    request = load.post(UPLOAD, LARGE)
    while time.monotonic() < end:
        try:
            crowd = load.Crowd(proxy.port, 5)
            for app in crowd.sockets.values():
                app.sendall(request[: chance.randrange(1, len(request))])
            time.sleep(0.1)
            crowd.close()
        except OSError:
            pass
        time.sleep(0.4)


def gauges(proxy):
    connection = http.client.HTTPConnection("127.0.0.1", proxy.admin, timeout=10)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    found = dict(re.findall(r'^wechat_sidecar_connections\{side="(\w+)"\} (\d+)$', page, re.MULTILINE))
    return {side: int(found.get(side, 0)) for side in ("app", "upstream")}


def sample(proxy):
    program = proxy.program
    seen = {"rss_mb": program.rss() / 1024, "files": program.files(), "threads": program.threads()}
    return seen | gauges(proxy)


def verdict(what, samples):
    """Flat if the last quarter is no higher than the second; the first is warm-up. A slope is told beside it."""
    values = [one[what] for one in samples]
    quarter = len(values) // 4
    early, late = values[quarter : 2 * quarter], values[-quarter:]
    rise = statistics.median(late) - statistics.median(early)
    minutes = [index * EVERY / 60 for index in range(len(values) - quarter)]
    slope = statistics.linear_regression(minutes, values[quarter:]).slope
    flat = rise <= SLACK[what] + 0.05 * statistics.median(early)
    return flat, statistics.median(early), statistics.median(late), max(values), slope


def main():
    parser = argparse.ArgumentParser(prog="benches/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    asked = parser.parse_args()
    if not 1 <= asked.minutes <= 120:
        sys.exit("--minutes wants a number from 1 to 120")
    raise_file_limit()
    upstream = Upstream()
    proxy = Proxy(SIDECAR, upstream, workers=2)
    end = time.monotonic() + asked.minutes * 60
    failures = {"calls": 0, "bad": 0}
    loads = [
        threading.Thread(target=mixed, args=(proxy, end, failures), daemon=True),
        threading.Thread(target=rude, args=(proxy, end), daemon=True),
    ]
    for thread in loads:
        thread.start()
    samples = []
    print("  min   RSS MB  files  threads  app conn.  upstream conn.")
    while time.monotonic() < end:
        time.sleep(EVERY)
        one = sample(proxy)
        samples.append(one)
        if len(samples) % max(1, round(asked.minutes * 60 / EVERY / 20)) == 0:
            minute = len(samples) * EVERY / 60
            print(f"{minute:5.1f} {one['rss_mb']:8.1f} {one['files']:6} {one['threads']:8} {one['app']:10} ", end="")
            print(f"{one['upstream']:15}", flush=True)
    for thread in loads:
        thread.join(30)
    if any(thread.is_alive() for thread in loads) or not proxy.program.alive():
        sys.exit("the load or the sidecar did not last")
    flat = True
    print("\n           2nd quarter  last quarter  highest  a minute")
    for what in SLACK:
        good, early, late, most, slope = verdict(what, samples)
        flat &= good
        word = "flat" if good else "RISES"
        print(f"{what:10} {early:11.1f} {late:13.1f} {most:8.1f} {slope:+9.3f}  {word}")
    time.sleep(2)
    left = sample(proxy)
    print(f"\n{failures['calls']:,} calls, {failures['bad']} failed; {left['app']} connections of apps are left")
    proxy.stop()
    upstream.stop()
    sys.exit(0 if flat and not failures["bad"] and not left["app"] else 1)


if __name__ == "__main__":
    main()
