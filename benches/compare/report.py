"""What was measured, as a table to read and as JSON to compute with."""

import json
import statistics

import figures
import plot
from lib.peers import NGINX, SIDECAR
from lib.report import keep, machine, today

UNITS = {
    "cpu_us": "µs CPU a request",
    "per_second": "requests/s",
    "p50": "p50 µs",
    "p99": "p99 µs",
    "start_mb": "MB RSS at start",
    "idle_kib": "KiB an idle connection",
    "rss_mb": "MB RSS",
    "files": "open files",
    "syscalls": "system calls a request",
    "instructions": "user instructions a request",
}


def whole(versions, results, cells, short, seconds):
    return {
        "date": today(),
        "mode": "short" if short else "full",
        "seconds": round(seconds),
        "machine": machine(),
        "versions": versions,
        "figures": figures.table(results),
        "cells": {cell.name: {"title": cell.title, "seen": results[cell.name]} for cell in cells},
    }


def number(value):
    if isinstance(value, int):
        return f"{value:,}"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value == int(value) and value >= 10 else f"{value:.2f}"


def spread(values):
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))}–{number(max(values))})"


def text(report):
    machine = report["machine"]
    lines = ["# The comparison", ""]
    lines += [
        f"{report['date']}, {report['mode']} run of {report['seconds'] / 60:.0f} min. {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['architecture']}, Linux {machine['kernel']}.",
        "",
        ", ".join(f"{name} {version}" for name, version in report["versions"].items()) + ".",
        "",
        "Ratios are medians of what each repetition gave, with their range; below 1 the sidecar takes less.",
        "",
        "| # | figure | measured | must | goal | reached |",
        "|---|---|---|---|---|---|",
    ]
    for row in report["figures"]:
        seen = number(row["median"])
        if row["low"] != row["high"]:
            seen += f" ({number(row['low'])}–{number(row['high'])})"
        bounds = [f"{row['sign']} {number(row[which])}" for which in ("must", "goal")]
        lines.append(f"| {row['figure']} | {row['text']} | {seen} | {bounds[0]} | {bounds[1]} | {row['verdict']} |")
    lines += ["", "## What each cell saw", ""]
    for cell in report["cells"].values():
        lines += part(cell["title"], cell["seen"])
    return "\n".join(lines)


def part(title, seen):
    """A table of one cell: a row a proxy, and the ratio to nginx of what can be compared."""
    columns = [what for what in UNITS if any(what in row for row in seen.values())]
    ratio = next((what for what in ("cpu_us", "p50") if what in columns and NGINX in seen), None)
    heads = [UNITS[what] for what in columns] + ([f"{UNITS[ratio]}, vs nginx"] if ratio else []) + ["errors"]
    lines = [f"**{title}**", "", f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for kind, row in seen.items():
        values = [spread(row[what]) if what in row else "" for what in columns]
        if ratio:
            pairs = zip(row[ratio], seen[NGINX][ratio], strict=True)
            values.append(spread([one / other for one, other in pairs]))
        name = f"**{kind}**" if kind == SIDECAR else kind
        lines.append(f"| {name} | {' | '.join([*values, str(row.get('errors', ''))])} |")
    return [*lines, ""]


def write(report):
    keep("latest.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    keep("latest.md", text(report) + "\n")
    keep("compare.svg", plot.svg(report))
