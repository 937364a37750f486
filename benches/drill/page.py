"""Judges what the status page says: /status.json has all that it shows. Pure functions."""

import re

from drill.judge import FALSE, SILENT, Finding, worded

CHINESE = re.compile(r"[\u4e00-\u9fff]")
# While one of them is open, the page may show why an account got no token.
ABOUT_TOKENS = {"token_request_failed", "token_refused", "fetch_ceiling", "store_away", "store_value"}
FAILED = "token_request_failed"


def of_calm(said, phase):
    """Nothing is open, and no account is in trouble. Before the fault nothing has been open, either."""
    if said.page is None:
        return [Finding(FALSE, f"page {phase}", "no answer")]
    found = [f"says {problem['kind']}: {told(problem)}" for problem in opened(said.page)]
    if said.page["problems_open"]:
        found.append(f"counts {said.page['problems_open']} open problems")
    if not said.page["ready"]:
        found.append(f"is not ready: {said.page['not_ready_because']}")
    for account in said.page["accounts"]:
        if account["token_error"] or account["problems_open"]:
            found.append(f"{account['appid']} is in trouble: {account['token_error']}")
    if phase != "after":
        found += [f"had {problem['kind']}: {told(problem)}" for problem in ended(said.page)]
    return [Finding(FALSE, f"page {phase}", why) for why in found]


def of_fault(want, said, words):
    """The problem is open, and its texts say what the row wants."""
    page = said.page
    if page is None:
        return [Finding(FALSE, "page", "no answer")]
    found = of_list(want, page) + of_readiness(said)
    for problem in mine(want, opened(page)):
        found += of_texts(problem, words)
    if want.kind is None:
        return found
    found += of_chinese(want, said)
    if want.account:
        found += of_account(want, page, words)
    return found


def of_list(want, page):
    """What is open, and how much of it."""
    now, found = opened(page), []
    if want.kind and not mine(want, now):
        found.append(f"says nothing of {want.kind} of {want.account or 'the process'}")
    for problem in now:
        if problem["kind"] not in (want.kind, *want.also):
            found.append(f"says {problem['kind']}: {told(problem)}")
    if page["problems_open"] != len(now):
        found.append(f"counts {page['problems_open']} open problems and shows {len(now)}")
    listed = [problem["open"] for problem in page["problems"]]
    if listed != sorted(listed, reverse=True):
        found.append("shows problems that are over before open ones")
    return [Finding(FALSE, "page", why) for why in found]


def of_readiness(said):
    """The same as /readyz."""
    status, text = said.readyz or (None, "")
    if said.page["ready"] != (status == 200):
        return [Finding(FALSE, "page", f"ready is {said.page['ready']} while /readyz answers {status}")]
    reason = said.page["not_ready_because"]
    if status != 200 and reason != text:
        return [Finding(FALSE, "page", f"is not ready because {reason}, and /readyz says {text}")]
    return []


def of_texts(problem, words):
    """Title, cause and advice."""
    empty = [key for key in ("title", "advice") if not problem[key]]
    found = [Finding(SILENT, "page", f"{problem['kind']} has no {key}") for key in empty]
    return found + worded("page", [told(problem)], words)


def of_chinese(want, said):
    """The same problems, with a title and advice in Chinese."""
    page = said.page_in_chinese
    if page is None:
        return [Finding(FALSE, "page in Chinese", "no answer")]
    found = [] if mine(want, opened(page)) else [Finding(SILENT, "page in Chinese", f"says nothing of {want.kind}")]
    for problem in opened(page):
        for key in ("title", "advice"):
            if not CHINESE.search(problem[key]):
                found.append(Finding(SILENT, "page in Chinese", f"has the {key} {problem[key]!r}"))
    return found


def of_account(want, page, words):
    """The account in trouble comes first, and shows why it got no token."""
    first, *others = page["accounts"]
    if first["appid"] != want.account:
        return [Finding(FALSE, "page", f"{first['appid']} comes first, not {want.account}")]
    found, error = [], first["token_error"]
    if not first["problems_open"]:
        found.append(Finding(FALSE, "page", f"counts no problem of {want.account}"))
    if want.kind == FAILED:
        # With a token in hand, the problem alone tells why there is no other.
        if first["token"] is None and (not error or first["retry_seconds"] is None):
            why = f"does not say why {want.account} has no token, or when it asks again"
            found.append(Finding(SILENT, "page", why))
        found += worded("page token_error", [error or ""], words)
    elif error and not ABOUT_TOKENS & {want.kind, *want.also}:
        found.append(Finding(FALSE, "page", f"{want.account} has the token_error {error}"))
    for other in others:
        if other["token_error"] or other["problems_open"]:
            found.append(Finding(FALSE, "page", f"{other['appid']} is in trouble: {other['token_error']}"))
    return found


def of_end(want, said):
    """Nothing is open, and the problem is among those that are over."""
    found = of_calm(said, "after")
    if said.page is None or want.kind is None:
        return found
    over = mine(want, ended(said.page))
    if not over:
        found.append(Finding(SILENT, "page after", f"does not say that there was {want.kind}"))
    for problem in over:
        if not 0 <= problem["ended_seconds"] <= problem["since_seconds"]:
            why = f"{want.kind} ended {problem['ended_seconds']} s ago and began {problem['since_seconds']} s ago"
            found.append(Finding(FALSE, "page after", why))
    return found


def opened(page):
    return [problem for problem in page["problems"] if problem["open"]]


def ended(page):
    return [problem for problem in page["problems"] if not problem["open"]]


def mine(want, problems):
    """Those that the fault's row means."""
    return [p for p in problems if p["kind"] == want.kind and (p["account"] or "") == want.account]


def told(problem):
    """All that its card says."""
    parts = [problem[key] for key in ("title", "cause", "advice", "endpoints", "errcode")]
    return " ".join(str(part) for part in parts if part is not None)
