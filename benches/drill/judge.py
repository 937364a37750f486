"""Judges what was said of a fault: what is false, and who was silent. Pure functions."""

import re
from dataclasses import dataclass

from drill.app import ACCEPTED
from drill.scene import NEW_SECRET, SECRET

MOST_LINES = 10
WARNINGS = ("WARN", "ERROR")
FALSE, SILENT, RIGHT = "FALSE", "SILENT", "right"
# For an app, the sidecar costs nothing that it would notice.
SLACK = 4.0


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be."""

    verdict: str
    channel: str
    why: str


@dataclass(frozen=True)
class Words:
    """What has to be said, and what would blame another: regular expressions."""

    wanted: list
    blames: list


def verdict(findings):
    """That of a whole fault."""
    found = {finding.verdict for finding in findings}
    return FALSE if FALSE in found else SILENT if SILENT in found else RIGHT


def of_calm(said, phase, alone=False):
    """Nothing is wrong. `alone`: the log has no line at all."""
    found = []

    def false(channel, why):
        found.append(Finding(FALSE, f"{channel} {phase}", why))

    if said.readyz is None or said.readyz[0] != 200:
        false("readyz", f"not ready while all is well: {said.readyz}")
    for problem in said.problems or []:
        false("accounts", f"says {problem['kind']}: {problem['problem']}")
    for account, kind in sorted(said.open_kinds()):
        false("metrics", f"{kind} of {account or 'the process'} is 1")
    if said.check and said.check[0] != 0:
        false("check", f"exit code {said.check[0]}: {complaints(said.check[1])}")
    for line in since_listening(said.log):
        if alone or line["level"] in WARNINGS and phase != "after":
            false("log", told(line))
    for outcome in sorted({sample.outcome for sample in said.samples} - set(ACCEPTED)):
        false("app", f"got {outcome}")
    return found


def since_listening(lines):
    """Without the lines of the start, which are about the configuration."""
    began = [at for at, line in enumerate(lines) if line.get("message") == "listening"]
    return lines[began[0] :] if began else lines


def words_of(want, folder):
    """Those of the fault's row, with the folder of its scene."""
    path = re.escape(str(folder))
    wanted, blames = ([word.replace("{folder}", path) for word in part] for part in (want.words, want.blames))
    return Words(wanted, blames)


def of_fault(fault, said, words):
    """What the fault's row wants, and what was said."""
    want = fault.want
    found = of_app(want, said)
    if want.log:
        found += of_log(fault, said, words)
    if want.admin or said.readyz:
        found += of_readyz(want, said, words)
    if want.admin or said.accounts:
        found += of_problems(want, said, words)
    if want.admin or said.metrics:
        found += of_metrics(want, said)
    # Without an answer check cannot know why.
    return found + of_check(want, said, words if want.admin else Words([], []))


def of_app(want, said):
    outcomes = {sample.outcome for sample in said.samples}
    found = [
        Finding(FALSE, "app", f"got {outcome}") for outcome in sorted(outcomes - set(want.app) - set(ACCEPTED))
    ]
    if want.app and not outcomes & set(want.app):
        found.append(Finding(FALSE, "app", f"got only {', '.join(sorted(outcomes)) or 'nothing'}, not {want.app[0]}"))
    slowest = max((sample.took for sample in said.samples), default=0)
    if slowest > want.slowest + SLACK:
        found.append(Finding(FALSE, "app", f"a call took {slowest:.1f} s"))
    return found


def counted(fault, said):
    """The lines that the fault caused: all from its beginning, but at the start only those that are of it."""
    lines = [line for line in said.log if line["level"] in (*WARNINGS, "INFO")]
    if fault.at_start:
        lines = [line for line in lines if line["level"] in WARNINGS or "kind" in line]
    return lines


def of_log(fault, said, words):
    want, lines = fault.want, counted(fault, said)
    found = []
    # An open problem has a line a minute.
    if len(lines) > MOST_LINES + fault.go_on / 60 * (1 + len(want.also)):
        found.append(Finding(SILENT, "log", f"{len(lines)} lines for one fault, the first: {told(lines[0])}"))
    warnings = [line for line in lines if line["level"] in WARNINGS]
    of_kind = [line for line in warnings if line.get("kind") == want.kind and line.get("account", "") == want.account]
    if want.kind and not of_kind:
        found.append(Finding(SILENT, "log", f"no line of {want.kind} of {want.account or 'the process'}"))
    found += worded("log", [told(line) for line in of_kind or warnings], words)
    for line in warnings:
        if "kind" in line and line["kind"] not in (want.kind, *want.also):
            found.append(Finding(FALSE, "log", f"tells of {line['kind']}: {told(line)}"))
    return found


def of_readyz(want, said, words):
    if said.readyz is None:
        return [Finding(FALSE, "readyz", "no answer")]
    status, text = said.readyz
    found = []
    if (status == 200) != want.ready:
        found.append(Finding(FALSE, "readyz", f"answers {status}: {text}"))
    elif not want.ready:
        found += worded("readyz", [text], words)
    ready = [value for _, value in said.metric("wechat_sidecar_ready")]
    if said.metrics is not None and ready != [float(status == 200)]:
        found.append(Finding(FALSE, "metrics", f"wechat_sidecar_ready is {ready} while /readyz answers {status}"))
    return found


def of_problems(want, said, words):
    if said.problems is None:
        return [Finding(SILENT, "accounts", "there is no list of problems")]
    found = []
    mine = [p for p in said.problems if p["kind"] == want.kind and (p["account"] or "") == want.account]
    if want.kind and not mine:
        found.append(Finding(FALSE, "accounts", f"says nothing of {want.kind} of {want.account or 'the process'}"))
    for problem in mine:
        parts = [problem[key] for key in ("problem", "advice", "endpoints", "last_errcode")]
        found += worded("accounts", [" ".join(map(str, parts))], words)
    for problem in said.problems:
        if problem["kind"] not in (want.kind, *want.also):
            found.append(Finding(FALSE, "accounts", f"says {problem['kind']}: {problem['problem']}"))
    return found


def of_metrics(want, said):
    if said.metrics is None:
        return [Finding(FALSE, "metrics", "no answer")]
    found, kinds = [], said.open_kinds()
    if want.kind and (want.account, want.kind) not in kinds:
        found.append(Finding(FALSE, "metrics", f"wechat_sidecar_problem of {want.kind} is not 1"))
    for account, kind in sorted(kinds):
        if kind not in (want.kind, *want.also):
            found.append(Finding(FALSE, "metrics", f"{kind} of {account or 'the process'} is 1"))
    return found


def of_check(want, said, words):
    code, text = said.check
    if want.kind is None:
        return [] if code == 0 else [Finding(FALSE, "check", f"exit code {code}: {complaints(text)}")]
    if code == 0:
        return [Finding(FALSE, "check", "exit code 0")]
    found = [] if code == want.check else [Finding(FALSE, "check", f"exit code {code}: {text}")]
    return found + worded("check", [complaints(text)], words)


def of_alerts(fault, fired):
    """`fired` has each alert that fires, and after how many minutes of the fault."""
    want, found = fault.want, []
    for alert, minute in fired.items():
        if minute < 0:
            found.append(Finding(FALSE, "alert before", f"{alert.name} fires"))
        if alert.account not in ("", want.account):
            found.append(Finding(FALSE, "alert", f"{alert.name} blames {alert.account}"))
    names, wanted = {alert.name for alert in fired}, want.all_alerts()
    found += [Finding(SILENT, "alert", f"{name} does not fire") for name in sorted(wanted - names)]
    found += [Finding(FALSE, "alert", f"{name} fires") for name in sorted(names - wanted - {*want.later_alerts})]
    if not want.ready and "critical" not in {alert.severity for alert in fired}:
        found.append(Finding(SILENT, "alert", "nothing critical fires while the sidecar is not ready"))
    return found


def worded(channel, texts, words):
    """Each of the wanted words stands somewhere in the texts, and nothing that would blame another."""
    text = " ".join(texts)
    if not text:
        return []
    missing = [word for word in words.wanted if not re.search(word, text, re.IGNORECASE)]
    found = [Finding(SILENT, channel, f"does not say {plain(word)}: {text[:400]}") for word in missing]
    blamed = [word for word in words.blames if re.search(word, text, re.IGNORECASE)]
    return found + [Finding(FALSE, channel, f"blames {plain(word)}: {text[:400]}") for word in blamed]


def plain(word):
    """A regular expression without its backslashes."""
    return repr(word.replace("\\", ""))


def of_end(fault, said):
    """The fault was ended, and all channels say so."""
    found = of_calm(said, "after")
    want = fault.want
    if want.over:
        over = [line for line in said.log if re.search(want.over, told(line))]
    else:
        over = [line for line in said.log if line["level"] == "INFO" and line.get("kind") == want.kind]
    if want.kind and not over:
        found.append(Finding(SILENT, "log after", f"no line says that {want.kind} is over"))
    return found


def leaks(said, phase):
    """No channel shows the secret or a token."""
    texts = {
        "log": "\n".join(map(str, said.log)),
        "accounts": str(said.accounts),
        "readyz": str(said.readyz),
        "metrics": said.metrics or "",
        "page": f"{said.page} {said.page_in_chinese}",
        "check": str(said.check),
        "app": "\n".join(sample.errmsg for sample in said.samples),
    }
    secret = re.compile(rf"{SECRET}|{NEW_SECRET}|TOK\d+-|COM\d+-|access_token=")
    shown = [channel for channel, text in texts.items() if secret.search(text)]
    return [Finding(FALSE, f"{channel} {phase}", "shows a secret") for channel in shown]


def told(line):
    """A line of the log as a sentence."""
    facts = ("account", "kind", "endpoint", "errcode", "count", "error")
    known = [f"{key}={line[key]}" for key in facts if key in line]
    return " ".join([line["level"], line.get("message", ""), *known])


def complaints(text):
    """What check complains of."""
    lines = [line for line in text.splitlines() if not line.startswith("ok: ")]
    return " | ".join(lines)


