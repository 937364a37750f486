"""Which alerts of k8s/monitoring would tell of the faults: promtool runs the rules over what /metrics said.

A fault of the drill lasts for seconds, and rules wait for minutes. So each series gets twenty minutes as they were
before the fault, standing still, and then twenty minutes of the fault: what was scraped, and after the last scrape the
same again. Gauges stay as they are then. Counters go on as fast as they grew in the second half of the fault, since
the sidecar is busier when one begins. Only requests of its own that fail are slower than that, because it backs off:
there the pause counts in which it is.
"""

import json
import os
import re
import shutil
import subprocess
import textwrap
from dataclasses import dataclass
from pathlib import Path

from lib.processes import RUN

ROOT = Path(__file__).parents[2]
RULES = ROOT / "k8s/monitoring/prometheusrule.yaml"
PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool") or str(ROOT / "target/sdk/prometheus/promtool")
# Prometheus scrapes and evaluates every so many seconds.
STEP = 30
# How long all was well, and how long the fault lasts; both in minutes.
CALM, LASTS = 20, 20
FIRING = 'count by (alertname, severity, namespace, account) (ALERTS{alertstate="firing"})'
# An alert that always fires: without it, promtool's output was not understood.
PROOF = "DrillProof"
NAME = re.compile(r"\w+")


@dataclass(frozen=True)
class Alert:
    """One that fires."""

    name: str
    severity: str
    # "" if it names none.
    account: str


@dataclass
class Scrape:
    """What a scrape at a moment found; None if there was no answer."""

    at: float
    samples: dict | None


class Series:
    """The scrapes of one fault, from which it makes a series of any length."""

    def __init__(self, before, during, pauses):
        """`before` is None if the sidecar started with the fault. `pauses` has an account's seconds between two
        requests of its own, where they fail."""
        self.before, self.during, self.pauses = before, during, pauses
        self.began, self.last = during[0].at, during[-1]

    def names(self):
        scrapes = [self.before, *self.during] if self.before else self.during
        return sorted({name for scrape in scrapes for name in scrape.samples or ()})

    def values(self, name):
        """Numbers, or None where the series is absent."""
        before = self.before.samples.get(name) if self.before and self.before.samples is not None else None
        steps = 60 // STEP
        return [before] * (CALM * steps) + [self.value(name, at * STEP) for at in range(LASTS * steps + 1)]

    def value(self, name, seconds):
        """That so many seconds after the fault began."""
        moment = self.began + seconds
        if moment <= self.last.at:
            scrape = [scrape for scrape in self.during if scrape.at <= moment][-1]
            return None if scrape.samples is None else scrape.samples.get(name)
        last = None if self.last.samples is None else self.last.samples.get(name)
        return last if last is None else last + self.growth(name, last) * (moment - self.last.at)

    def growth(self, name, last):
        """By how much it grows in a second."""
        if not is_counter(name):
            return 0
        pause = self.pauses.get(label(name, "account")) if fails_of_its_own(name) else None
        if pause:
            # A sidecar that started with the fault began to count then.
            before = (self.before and self.before.samples or {}).get(name, 0)
            return 1 / pause if last > before else 0
        half = (self.began + self.last.at) / 2
        first = [scrape for scrape in self.during if scrape.at <= half and scrape.samples is not None][-1:]
        if not first:
            return 0
        return max(last - first[0].samples.get(name, 0), 0) / (self.last.at - first[0].at)


def is_counter(name):
    """The requests of the day are a gauge that begins again each day, and grow as counters do."""
    bare = name.partition("{")[0]
    return bare.endswith(("_total", "_bucket", "_sum", "_count", "_fetches_day"))


def fails_of_its_own(name):
    """Whether it counts requests for tokens and tickets that fail."""
    if name.startswith("wechat_sidecar_token_fetches_day{"):
        return True
    if name.startswith("wechat_sidecar_token_fetches_total"):
        return label(name, "outcome") in ("errcode", "failed")
    return label(name, "endpoint") == "own_request"


def label(name, key):
    found = re.search(rf'\b{key}="([^"]*)"', name)
    return found[1] if found else ""


def rules():
    """The groups, as promtool wants them."""
    return textwrap.dedent(RULES.read_text().split("\nspec:\n", 1)[1])


def samples(metrics):
    """The samples of a page that some rule asks for; None if there is no page."""
    if metrics is None:
        return None
    asked, found = set(NAME.findall(rules())), {}
    for line in metrics.splitlines():
        series, _, value = line.rpartition(" ")
        if series and not line.startswith("#") and NAME.match(series)[0] in asked:
            found[series] = float(value)
    return found


def fired(faults):
    """For each fault's name, {alert: minutes after which it fires}; the minutes are below 0 before the fault."""
    RUN.mkdir(parents=True, exist_ok=True)
    proof = f"  - name: proof\n    rules:\n      - alert: {PROOF}\n        expr: vector(1)\n"
    (RUN / "drill-rules.yaml").write_text(rules() + "\n" + proof)
    inputs = [entry for name, series in faults.items() for entry in input_series(name, series)]
    times = range(1, CALM + LASTS + 1)
    asked = [{"expr": FIRING, "eval_time": f"{minute}m"} for minute in times]
    test = {"interval": f"{STEP}s", "input_series": inputs, "promql_expr_test": asked}
    document = {"rule_files": ["drill-rules.yaml"], "evaluation_interval": f"{STEP}s", "tests": [test]}
    path = RUN / "drill-alerts.json"
    path.write_text(json.dumps(document, indent=0))
    done = subprocess.run([PROMTOOL, "test", "rules", path], capture_output=True, text=True)
    return read(done.stdout + done.stderr, faults)


def input_series(fault, series):
    """Each with the labels that a PodMonitor adds. The namespace is the fault's name."""
    target = f'job="wechat-sidecar", namespace="{fault}", pod="a", container="wechat-sidecar"'
    for name in series.names():
        family, _, labels = name.partition("{")
        inside = ", ".join(part for part in (labels.removesuffix("}"), target) if part)
        yield {"series": f"{family}{{{inside}}}", "values": written(series.values(name))}
    steps = 60 // STEP
    up = [int(scrape.samples is not None) for scrape in (series.before, series.last) if scrape]
    calm = f"{up[0]}x{CALM * steps - 1}" if series.before else f"_x{CALM * steps}"
    yield {"series": f"up{{{target}}}", "values": f"{calm} {up[-1]}x{LASTS * steps}"}


def written(values):
    return " ".join("_" if value is None else repr(value) for value in values)


def read(output, faults):
    """What fires, out of promtool's complaint that nothing should."""
    found, proven = {name: {} for name in faults}, False
    for part in output.replace('\\"', '"').split("expr:")[1:]:
        time, _, got = part.partition("got:")
        minute = minutes(re.search(r"time: (\w+)", time)[1]) - CALM
        for labels in re.findall(r"\{([^}]*)\}", got):
            has = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            proven |= has["alertname"] == PROOF
            if has.get("namespace") in found:
                alert = Alert(has["alertname"], has["severity"], has.get("account", ""))
                found[has["namespace"]].setdefault(alert, minute)
    if not proven:
        raise RuntimeError(f"promtool does not say what fires: {output[:2000]}")
    return found


def minutes(text):
    """Those of a time such as 1h2m."""
    return sum(int(number) * {"h": 60, "m": 1, "s": 0}[unit] for number, unit in re.findall(r"(\d+)([hms])", text))
