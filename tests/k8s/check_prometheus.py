"""Asks a real Prometheus, which scrapes a real sidecar, for everything that the dashboard and the alerts ask for."""

import argparse
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml

import check_monitoring
from report import Report

# How long a process or a scrape may take.
PATIENCE = 30
# Panels without data here: nothing of what they show happens to a calm sidecar with one account, no store and no rate, and
# nobody asks about quotas.
QUIET = {
    "WeChat's error codes", "Healed in an hour", "Not replayed", "Forced refreshes ignored", "Store of shared tokens",
    "Calls for tickets", "Ticket requests", "Open problems", "Reviews by outcome", "Time for a review",
    "Certificate life left", "Failed or refused", "Refusals and replays",
    "Used part of the day's quota", "Paced calls",
}


def wait(what, probe):
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError, KeyError, IndexError, ValueError):
            found = probe()
            if found:
                return found
        assert time.monotonic() < end, f"no {what} within {PATIENCE} s"
        time.sleep(0.1)


class Programs:
    """The processes of a check, which end with it, and what each has printed so far."""

    def __init__(self, folder):
        self.folder, self.running = folder, []

    def start(self, name, *command, **environment):
        log = open(self.folder / f"{name}.log", "w")
        self.running.append(subprocess.Popen([*map(str, command)], stdout=log, stderr=log, env=environment))
        return self.folder / f"{name}.log"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.kill()
        for process in self.running:
            process.wait()


def after(log, words):
    """The text behind `words` in a log, up to a space."""
    return wait(f"{words!r} in {log.name}", lambda: log.read_text().split(words, 1)[1].split()[0].strip('",'))


def serve(programs, paths):
    """A sidecar in front of a fake WeChat, and a Prometheus that scrapes it. Returns the addresses of the last two."""
    fake = programs.start("fake", paths.binary, "fake", "--listen", "127.0.0.1:0")
    upstream = "http://" + after(fake, "http://")
    secrets = {"WECHAT_APPID": after(fake, "AppID "), "WECHAT_SECRET": after(fake, "secret ")}
    sidecar = programs.start(
        "sidecar", paths.binary, "--upstream", upstream, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
        "--log-format", "json", **secrets,
    )

    listen, admin = address(sidecar, "listening"), address(sidecar, "admin")
    labels = {"namespace": "shop", "pod": "a", "container": "wechat-sidecar"}
    job = {"job_name": "wechat-sidecar", "static_configs": [{"targets": [admin], "labels": labels}]}
    made = {"global": {"scrape_interval": "1s"}, "rule_files": ["rules.yaml"], "scrape_configs": [job]}
    (programs.folder / "prometheus.yaml").write_text(yaml.safe_dump(made))
    rules = yaml.safe_dump(check_monitoring.rules(), allow_unicode=True)
    (programs.folder / "rules.yaml").write_text(rules)
    prometheus = programs.start(
        "prometheus", paths.prometheus, f"--config.file={programs.folder}/prometheus.yaml",
        f"--storage.tsdb.path={programs.folder}/data", "--web.listen-address=127.0.0.1:0", "--log.format=json",
    )
    return listen, f"http://{address(prometheus, 'Listening on')}/api/v1"


def address(log, message):
    """The address in the log's line with this message."""
    def found():
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return next((line["address"] for line in lines if message in (line.get("message"), line.get("msg"))), None)

    return wait(f"line {message!r} in {log.name}", found)


def query(api, expression):
    asked = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{api}/query?{asked}", timeout=10) as reply:
        return json.load(reply)["data"]["result"]


def check(report, paths):
    with tempfile.TemporaryDirectory() as folder, Programs(pathlib.Path(folder)) as programs:
        listen, api = serve(programs, paths)
        for path in ("/cgi-bin/user/get", "/wxa/getwxadevinfo", "/cgi-bin/user/get"):
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(f"http://{listen}{path}", timeout=10).read()
        # Rates take two samples.
        wait("rate of calls", lambda: query(api, 'rate(wechat_sidecar_calls_total{outcome="accepted"}[5m])'))
        with report.check("Prometheus scrapes a sidecar"):
            (up,) = query(api, "up")
            assert up["value"][1] == "1", up
        for title, expression in check_monitoring.expressions():
            with report.check(f"a real Prometheus answers the panel {title}"):
                found = query(api, expression)
                assert found or title in QUIET, f"no data for {expression}"
        with report.check("no alert fires beside a sidecar that is well"):
            with urllib.request.urlopen(f"{api}/alerts", timeout=10) as reply:
                alerts = json.load(reply)["data"]["alerts"]
            assert not alerts, alerts
        with report.check("a real Prometheus evaluates every rule"):
            with urllib.request.urlopen(f"{api}/rules", timeout=10) as reply:
                groups = json.load(reply)["data"]["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            assert len(rules) == len(check_monitoring.alerts()), len(rules)
            assert not [rule["lastError"] for rule in rules if rule.get("lastError")], rules


def main():
    parser = argparse.ArgumentParser()
    for tool in ("binary", "prometheus"):
        parser.add_argument(f"--{tool}", type=pathlib.Path, required=True)
    paths = parser.parse_args()
    report = Report()
    with report.check("a sidecar, a fake WeChat and a Prometheus start"):
        check(report, paths)
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
