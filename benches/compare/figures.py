"""The figures to reach: which cells they come from, what they must be, and what is the goal."""

import statistics

from lib.peers import ENVOY, HAPROXY, NGINX, PINGORA, RELAY, SIDECAR


class Figure:
    """The sidecar's `what` in `cell`, divided by that of `base` if there is one; `most` says which side is good."""

    def __init__(self, number, text, cell, what, must, goal, base=None, most=True):
        self.number, self.text, self.cell, self.what, self.base = number, text, cell, what, base
        self.must, self.goal, self.most = must, goal, most

    def values(self, results):
        """One for each repetition, or None where the cell has not run."""
        seen = results.get(self.cell, {})
        own, base = seen.get(SIDECAR, {}).get(self.what), seen.get(self.base, {}).get(self.what)
        if own is None or (self.base and base is None):
            return None
        own = own if isinstance(own, list) else [own]
        return [one / other for one, other in zip(own, base, strict=True)] if self.base else own

    def verdict(self, value):
        reached = (lambda wanted: value <= wanted) if self.most else (lambda wanted: value >= wanted)
        return "goal" if reached(self.goal) else "must" if reached(self.must) else "missed"


def cpu(number, text, cell, base, must, goal):
    return Figure(number, f"CPU a request, {text}, vs {base}", cell, "cpu_us", must, goal, base)


FIGURES = [
    cpu(1, "1 core", "post-1", NGINX, 0.95, 0.80),
    cpu(1, "2 cores", "post-2", NGINX, 0.95, 0.80),
    *[
        cpu(2, f"{cores} core{'s' * (cores - 1)}", f"post-{cores}", base, must, goal)
        for base, must, goal in ((HAPROXY, 0.95, 0.80), (ENVOY, 0.45, 0.35), (PINGORA, 0.60, 0.45))
        for cores in (1, 2)
    ],
    cpu(3, "plain upstream", "plain-1", RELAY, 1.45, 1.20),
    *[
        Figure(4, f"Requests/s, 2 cores, vs {base}", "post-2", "per_second", must, goal, base, most=False)
        for base, must, goal in ((NGINX, 1.0, 1.15), (HAPROXY, 1.0, 1.1), (ENVOY, 1.6, 1.9), (PINGORA, 1.5, 2.0))
    ],
    *[
        Figure(5, f"{what} at {rate:,}/s vs nginx", f"rate-{rate}", what, must, 1.0, NGINX)
        for rate in (2000, 8000)
        for what, must in (("p50", 1.25), ("p99", 1.5))
    ],
    cpu(6, "1 MiB reply", "download", NGINX, 0.95, 0.85),
    cpu(6, "1 MiB upload", "upload", NGINX, 0.70, 0.55),
    Figure(7, "RSS at start, MB", "memory", "start_mb", 8, 5),
    Figure(7, "KiB per idle app connection", "memory", "idle_kib", 22, 8),
    Figure(8, "Errors with 9,000 busy connections", "busy", "errors", 0, 0),
    Figure(8, "RSS with 9,000 busy connections vs nginx", "busy", "rss_mb", 1.0, 0.85, NGINX),
    Figure(9, "User instructions a request", "counts", "instructions", 38_000, 20_000),
    Figure(9, "System calls a request", "counts", "syscalls", 4.4, 4.2),
    cpu(10, "TLS on both sides", "https-1", NGINX, 0.95, 0.80),
    cpu(10, "TLS on both sides", "https-1", ENVOY, 0.45, 0.35),
]


def table(results):
    """A row for each figure whose cell has run."""
    rows = []
    for figure in FIGURES:
        values = figure.values(results)
        if values:
            middle = statistics.median(values)
            row = {"figure": figure.number, "text": figure.text, "median": middle}
            row |= {"low": min(values), "high": max(values), "must": figure.must, "goal": figure.goal}
            row |= {"sign": "≤" if figure.most else "≥", "verdict": figure.verdict(middle)}
            rows.append(row)
    return rows
