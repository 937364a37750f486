"""Where, when and on what something was measured; and where results are kept."""

import datetime
import os
import platform
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"


def today():
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")


def machine():
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(), "architecture": platform.machine()}


def keep(name, text):
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(text)
