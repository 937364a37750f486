"""The soak of `benches/accounts`: random calls, tokens that expire, and a file that changes each ten seconds."""

import http.client
import multiprocessing
import random
import statistics
import time

from .many_accounts import App, ManyAccounts, ManyWechats, WrongReply, appid
from .processes import wait_until

EVERY = 5
RELOAD_EVERY = 10
APPS = 2
# Accounts at the end of the file that come and go, and that nobody calls.
COMING_AND_GOING = 50
EXPIRE_EACH_SECOND = 20
# What may be gained from the second quarter to the last, beside 5 %.
SLACK = {"rss_mb": 2, "files": 20, "threads": 0}


def apps(pipe, port, number, seed):
    """Calls for random accounts on eight connections until it is told to stop, and tells what it saw."""
    chance, seen = random.Random(seed), {"calls": 0, "failed": 0, "wrong": 0, "first": ""}
    open_apps = [App(port) for _ in range(8)]
    while not pipe.poll():
        for at, app in enumerate(open_apps):
            seen["calls"] += 1
            try:
                _, good, body = app.call(chance.randrange(number))
                if not good:
                    seen["failed"] += 1
                    seen["first"] = seen["first"] or repr(body[:300])
            except WrongReply as error:
                seen["wrong"] += 1
                seen["first"] = seen["first"] or str(error)
            except (OSError, http.client.HTTPException) as error:
                seen["failed"] += 1
                seen["first"] = seen["first"] or repr(error)
                open_apps[at] = App(port)
    pipe.send(seen)


def sample(sidecar):
    program = sidecar.program
    return {"rss_mb": program.rss() / 1024, "files": program.files(), "threads": program.threads()}


def soak(minutes, number):
    wechat = ManyWechats()
    sidecar = ManyAccounts(number, wechat)
    wait_until(lambda: sidecar.first_call(number - 1) is not None, "the last account answers", sidecar.program, 60)
    sidecar.wait_for_tokens()
    called = max(1, number - COMING_AND_GOING)
    pipes = []
    for seed in range(APPS):
        ours, its = multiprocessing.Pipe()
        multiprocessing.Process(target=apps, args=(its, sidecar.port, called, seed), daemon=True).start()
        pipes.append(ours)
    samples, reloads = load(sidecar, wechat, minutes, number, called)
    for pipe in pipes:
        pipe.send(None)
    seen = [pipe.recv() for pipe in pipes]
    flat = judge(samples)
    calls, failed, wrong = (sum(one[what] for one in seen) for what in ("calls", "failed", "wrong"))
    print(f"\n{calls:,} calls, {failed} failed, {wrong} wrong; {len(reloads)} reloads, the longest {max(reloads) * 1e3:.0f} ms")
    print(wechat.stats())
    for one in seen:
        if one["first"]:
            print(f"the first: {one['first']}")
    sidecar.stop()
    wechat.stop()
    return flat and not failed and not wrong


def load(sidecar, wechat, minutes, number, called):
    """Has tokens expire and the file change until the time is up."""
    chance, samples, reloads = random.Random(4), [], []
    begin = time.monotonic()
    turn = 0
    print("  min   RSS MB  files  threads")
    while time.monotonic() < begin + minutes * 60:
        turn += 1
        wechat.expire([appid(chance.randrange(called)) for _ in range(min(EXPIRE_EACH_SECOND, called))])
        if turn % RELOAD_EVERY == 0:
            change(sidecar, chance, number, called, turn)
            started, ended, _ = sidecar.reload()
            reloads.append(ended - started)
        if turn % EVERY == 0:
            samples.append(sample(sidecar))
            if len(samples) % max(1, round(minutes * 60 / EVERY / 20)) == 0:
                one = samples[-1]
                print(f"{turn / 60:5.1f} {one['rss_mb']:8.1f} {one['files']:6} {one['threads']:8}", flush=True)
        time.sleep(max(0, begin + turn - time.monotonic()))
    return samples, reloads


def change(sidecar, chance, number, called, turn):
    """Another ceiling for some account; each second time some accounts at the end come or go as well."""
    sidecar.changed = {chance.randrange(called): 300 + turn % 100}
    if turn // RELOAD_EVERY % 2 and number > COMING_AND_GOING:
        sidecar.left_out = set(chance.sample(range(called, number), COMING_AND_GOING // 2))


def judge(samples):
    """Flat if the last quarter is no higher than the second; the first is warm-up."""
    flat, quarter = True, max(1, len(samples) // 4)
    print("\n           2nd quarter  last quarter  highest")
    for what, slack in SLACK.items():
        values = [one[what] for one in samples]
        early, late = (statistics.median(part) for part in (values[quarter : 2 * quarter] or values, values[-quarter:]))
        good = late - early <= slack + 0.05 * early
        flat &= good
        print(f"{what:10} {early:11.1f} {late:13.1f} {max(values):8.1f}  {'flat' if good else 'RISES'}")
    return flat
