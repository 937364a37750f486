"""What the channels say: log, metrics, /readyz, /accounts, the status page, check and the app."""

import re
from dataclasses import dataclass, field

from drill.app import summary

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass
class Said:
    """What all channels say of one phase."""

    log: list
    # None where the admin port does not answer.
    readyz: tuple | None
    accounts: dict | None
    metrics: str | None
    # All that the status page shows, in English and in Chinese.
    page: dict | None
    page_in_chinese: dict | None
    # The exit code and the text; None where check did not run.
    check: tuple | None
    samples: list = field(repr=False)

    @property
    def problems(self):
        """The list on /accounts; None where there is none."""
        return self.accounts.get("problems") if isinstance(self.accounts, dict) else None

    def pauses(self):
        """For each account that got no token: the seconds between its last request and the next one."""
        found = {}
        for account in (self.page or {}).get("accounts", []):
            recent = account["fetches"]["recent"]
            if account["retry_seconds"] is not None and recent:
                found[account["appid"]] = account["retry_seconds"] + recent[0]["seconds_ago"]
        return found

    def open_kinds(self):
        """(account, kind) of each problem that the metrics show; the account is "" for the process."""
        found = self.metric("wechat_sidecar_problem")
        return {(labels.get("account", ""), labels["kind"]) for labels, value in found if value == 1}

    def metric(self, name):
        """The samples of a metric: labels and value."""
        found = []
        for line in (self.metrics or "").splitlines():
            parts = SAMPLE.match(line)
            if parts and parts[1] == name:
                found.append((dict(LABEL.findall(parts[2] or "")), float(parts[3])))
        return found

    def as_json(self):
        shown = [line for line in (self.metrics or "").splitlines() if "_problem{" in line or "_ready " in line]
        return {
            "log": self.log,
            "readyz": self.readyz,
            "accounts": self.accounts,
            "metrics": None if self.metrics is None else shown,
            "page": self.page,
            "page_in_chinese": self.page_in_chinese and self.page_in_chinese["problems"],
            "check": self.check and {"exit_code": self.check[0], "text": self.check[1].splitlines()},
            "app": summary(self.samples),
        }


async def hear(scene, since, line, with_check=True):
    """What is said now, and what the log and the app said since that moment and that line."""
    check = await scene.check() if with_check else None
    ready = await scene.operator("/readyz")
    accounts = await scene.operator("/accounts")
    page = await scene.operator("/status.json")
    page_in_chinese = await scene.operator("/status.json?lang=zh")
    metrics = await scene.operator("/metrics")
    return Said(
        log=scene.log()[line:],
        readyz=ready and (ready.status, ready.text()),
        accounts=accounts and accounts.json(),
        page=page and page.json(),
        page_in_chinese=page_in_chinese and page_in_chinese.json(),
        metrics=metrics and metrics.body.decode(errors="replace"),
        check=check,
        samples=scene.samples(since),
    )
