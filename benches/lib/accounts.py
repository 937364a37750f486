"""What accounts cost, by their number; and a soak with 10,000 of them."""

import argparse
import random
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib import peers, report
from lib.accounts_soak import soak
from lib.many_accounts import INLINE, SECRET_FILES, TOKEN_FILES, App, ManyAccounts, ManyWechats, Probe, ask, longest
from lib.peers import SIDECAR
from lib.processes import RUN, raise_file_limit

NUMBERS = [1, 100, 1000, 10_000]
SLOW = 0.3
CALLS = 4000
RELOADS = 5
IDLE = 15
COUNTED = 1600


def quick(number, seen):
    """All that is measured with a WeChat that answers at once."""
    wechat = ManyWechats()
    sidecar = ManyAccounts(number, wechat)
    seen["first_call"] = sidecar.first_call(number - 1)
    sidecar.wait_for_tokens()
    seen["rss"] = sidecar.program.rss() * 1024
    seen["log_lines"] = len(sidecar.program.log.read_bytes().splitlines())
    latency(sidecar, seen)
    scrape(sidecar, seen)
    idle(sidecar, seen)
    reload(sidecar, wechat, seen)
    seen["threads"] = sidecar.threads.most
    sidecar.stop()
    wechat.stop()


def latency(sidecar, seen):
    chance, app = random.Random(2), App(sidecar.port)
    took = []
    for _ in range(CALLS):
        seconds, good, body = app.call(chance.randrange(sidecar.number))
        if not good:
            raise RuntimeError(f"a call failed: {body[:300]}")
        took.append(seconds)
    took.sort()
    seen["p50"], seen["p99"] = took[CALLS // 2], took[CALLS * 99 // 100]


def scrape(sidecar, seen):
    took = []
    for _ in range(5):
        begin = time.monotonic()
        page = ask(sidecar.admin, "GET", "/metrics")
        took.append(time.monotonic() - begin)
    seen["page"], seen["scrape"] = len(page), statistics.median(took)


def idle(sidecar, seen):
    """The part of a core that it takes when nobody calls."""
    time.sleep(2)
    before, begin = sidecar.program.cpu(), time.monotonic()
    time.sleep(IDLE)
    seen["idle"] = (sidecar.program.cpu() - before) / 1e9 / (time.monotonic() - begin)


def reload(sidecar, wechat, seen):
    """Reloads with one change each, and the longest waits meanwhile."""
    before = wechat.stats()["token_requests"]
    reloads, calls, admin, calm, calm_admin = [], [], [], [], []
    for turn in range(RELOADS):
        sidecar.changed = {sidecar.number // 2: 300 + turn}
        probes = [Probe(sidecar.port, sidecar.number), Probe(sidecar.admin)]
        time.sleep(1)
        begin, end, _ = sidecar.reload()
        time.sleep(0.5)
        waits = [probe.end() for probe in probes]
        reloads.append(end - begin)
        calls.append(longest(waits[0], begin, end + 0.3))
        admin.append(longest(waits[1], begin, end + 0.3))
        # Just before, for as long: what the machine does by itself.
        length = min(end + 0.3 - begin, 0.8)
        calm.append(longest(waits[0], begin - 0.1 - length, begin - 0.1))
        calm_admin.append(longest(waits[1], begin - 0.1 - length, begin - 0.1))
    seen["reload"] = statistics.median(reloads)
    seen["longest_call"], seen["calm"] = statistics.median(calls), statistics.median(calm)
    seen["longest_admin"], seen["calm_admin"] = statistics.median(admin), statistics.median(calm_admin)
    seen["fetched_again"] = wechat.stats()["token_requests"] - before


def slow(number, seen):
    """The first call of the last account where each token request takes 300 ms."""
    wechat = ManyWechats(SLOW)
    sidecar = ManyAccounts(number, wechat)
    seen["first_call_slow"] = sidecar.first_call(number - 1)
    time.sleep(2)
    seen["in_flight"] = wechat.stats()["most_in_flight"]
    sidecar.stop()
    wechat.stop()


def files(number, kind):
    """The most threads where the secrets or the tokens are in a file each."""
    wechat = ManyWechats()
    sidecar = ManyAccounts(number, wechat, kind)
    sidecar.first_call(number - 1)
    sidecar.wait_for_tokens()
    time.sleep(12)
    before, begin = sidecar.program.cpu(), time.monotonic()
    time.sleep(IDLE)
    idle = (sidecar.program.cpu() - before) / 1e9 / (time.monotonic() - begin)
    most = sidecar.threads.most
    sidecar.stop()
    wechat.stop()
    return most, idle


def instructions(number):
    """User instructions of the worker for a call of a random account. What else the process does is not counted."""
    output = RUN / "accounts.callgrind"
    under = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}.%p", "--instr-atstart=no"]
    wechat = ManyWechats()
    sidecar = ManyAccounts(number, wechat, under=[*under, "--separate-threads=yes"], workers=1)
    try:
        if sidecar.first_call(number - 1, 300) is None:
            raise RuntimeError("no call was answered under valgrind")
        sidecar.wait_for_tokens(600)
        counts = []
        for calls in (COUNTED // 4, COUNTED + COUNTED // 4):
            counts.append(counted(sidecar, output, calls))
        return (counts[1] - counts[0]) / COUNTED
    finally:
        sidecar.program.stop(patience=120)
        sidecar.stop()
        wechat.stop()
        for left in RUN.glob("accounts.callgrind.*"):
            left.unlink()


def counted(sidecar, output, calls):
    chance, app = random.Random(3), App(sidecar.port)
    pid = sidecar.program.pid
    control = lambda *asked: subprocess.run(["callgrind_control", *asked, str(pid)], check=True, capture_output=True)
    control("-i", "on")
    for _ in range(calls):
        app.call(chance.randrange(sidecar.number))
    control("-i", "off")
    for left in RUN.glob(f"{output.name}.*"):
        left.unlink()
    control("-d")
    tasks = sorted(map(int, (path.name for path in Path(f"/proc/{pid}/task").iterdir())))
    is_worker = lambda task: Path(f"/proc/{pid}/task/{task}/comm").read_text().startswith("worker")
    threads = [at + 1 for at, task in enumerate(tasks) if is_worker(task)]
    total = 0
    for path in RUN.glob(f"{output.name}.*-*"):
        if int(path.name.rsplit("-", 1)[1]) in threads:
            total += sum(map(int, re.findall(r"^totals: (\d+)", path.read_text(), re.MULTILINE)))
    control("-z")
    return total


ROWS = [
    ("memory, MB", lambda seen: f"{seen['rss'] / 1e6:,.1f}"),
    ("an account, KiB", lambda seen: f"{seen['each'] / 1024:,.1f}" if seen.get("each") else ""),
    ("first call of the last account, s", lambda seen: seconds(seen["first_call"])),
    ("the same, token requests of 300 ms, s", lambda seen: seconds(seen["first_call_slow"])),
    ("most token requests at once", lambda seen: f"{seen['in_flight']:,}"),
    ("lines of the log at the start", lambda seen: f"{seen['log_lines']:,}"),
    ("threads", lambda seen: f"{seen['threads']:,}"),
    ("CPU when nobody calls, of a core", lambda seen: f"{seen['idle'] * 100:.2f} %"),
    ("/metrics, kB", lambda seen: f"{seen['page'] / 1e3:,.0f}"),
    ("/metrics, ms", lambda seen: f"{seen['scrape'] * 1e3:,.1f}"),
    ("a call, p50, ms", lambda seen: f"{seen['p50'] * 1e3:.2f}"),
    ("a call, p99, ms", lambda seen: f"{seen['p99'] * 1e3:.2f}"),
    ("instructions of a call", lambda seen: f"{seen['instructions']:,.0f}" if seen.get("instructions") else ""),
    ("reload with one change, ms", lambda seen: f"{seen['reload'] * 1e3:,.1f}"),
    ("longest call meanwhile, ms", lambda seen: f"{seen['longest_call'] * 1e3:.1f}"),
    ("longest call just before, ms", lambda seen: f"{seen['calm'] * 1e3:.1f}"),
    ("longest wait of the admin port, ms", lambda seen: f"{seen['longest_admin'] * 1e3:.1f}"),
    ("the same just before, ms", lambda seen: f"{seen['calm_admin'] * 1e3:.1f}"),
    ("tokens fetched again", lambda seen: f"{seen['fetched_again']:,}"),
]


def seconds(value):
    return "more than 60" if value is None else f"{value:.2f}"


def table(curve):
    numbers = list(curve)
    lines = ["| accounts | " + " | ".join(f"{number:,}" for number in numbers) + " |"]
    lines.append("|---|" + "---|" * len(numbers))
    for name, cell in ROWS:
        lines.append(f"| {name} | " + " | ".join(cell(curve[number]) for number in numbers) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(prog="benches/accounts", description=__doc__)
    parser.add_argument("numbers", nargs="*", type=int, help="of accounts; default 1, 100, 1,000 and 10,000")
    parser.add_argument("--soak", type=float, metavar="MINUTES")
    parser.add_argument("--no-instructions", action="store_true", help="without valgrind, which takes a minute or two")
    parser.add_argument("--no-files", action="store_true", help="without secrets and tokens in a file each")
    asked = parser.parse_args()
    raise_file_limit()
    if asked.soak:
        sys.exit(0 if soak(asked.soak, (asked.numbers or [10_000])[0]) else 1)
    curve = {}
    for number in asked.numbers or NUMBERS:
        print(f"{number:,} accounts", file=sys.stderr, flush=True)
        seen = curve[number] = {}
        quick(number, seen)
        slow(number, seen)
        if not asked.no_instructions:
            seen["instructions"] = instructions(number)
        least = min(curve)
        if number > least:
            seen["each"] = (seen["rss"] - curve[least]["rss"]) / (number - least)
    machine = report.machine()
    version = peers.versions([SIDECAR])[SIDECAR]
    said = f"{report.today()}, {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, sidecar {version}\n\n"
    said += table(curve) + "\n"
    print(said, flush=True)
    if not asked.no_files:
        of_files = "\n| secrets, tokens | threads | CPU when nobody calls, of a core |\n|---|---|---|\n"
        most = max(curve)
        of_files += f"| {INLINE}, {most:,} accounts | {curve[most]['threads']} | {curve[most]['idle'] * 100:.2f} % |\n"
        for kind in (SECRET_FILES, TOKEN_FILES):
            threads, part = files(most, kind)
            of_files += f"| {kind}, {most:,} accounts | {threads} | {part * 100:.2f} % |\n"
        print(of_files)
        said += of_files
    if not asked.numbers and not asked.no_instructions and not asked.no_files:
        report.keep("accounts.md", "# Many accounts\n\n" + said)


if __name__ == "__main__":
    main()
