"""A thousand calls that meet an expired token, the cold start, and the first call after a quiet time."""

import http.client
import json
import os
import ssl
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib import peers, report
from lib.load import Crowd, post
from lib.peers import ENVOY, HAPROXY, NGINX, SIDECAR, Proxy
from lib.processes import RUN, Program, free_port, listens, raise_file_limit, wait_until
from lib.upstream import POST, Upstream

SIZE = 1000
TOKEN_DELAY = 0.3


said = []


def say(text):
    said.append(text)
    print(text, flush=True)


class Fake:
    """The fake WeChat of the tests, over TLS, with knobs."""

    def __init__(self):
        self.tls = self.plain = free_port()
        folder = RUN / "fake"
        command = [os.environ["FAKE_WECHAT"], "fake", "--listen", f"127.0.0.1:{self.tls}", "--tls", folder]
        self.program = Program("fake", command)
        self.ca = folder / "ca.pem"
        written = lambda: self.ca.exists() and self.ca.read_text().endswith("-----\n")
        wait_until(lambda: listens(self.tls) and written(), "the fake listens", self.program)

    def ask(self, method, path, body=None):
        context = ssl.create_default_context(cafile=str(self.ca))
        connection = http.client.HTTPSConnection("127.0.0.1", self.tls, timeout=30, context=context)
        connection.request(method, path, body and json.dumps(body))
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        if reply.status != 200:
            raise RuntimeError(f"the fake answers {text[:200]}")
        return json.loads(text)


def errors(replies):
    """Those that are not a 200 with errcode 0 or none."""
    return [reply for reply in replies if not good(reply)]


def good(reply):
    head, _, body = reply.partition(b"\r\n\r\n")
    return head.startswith(b"HTTP/1.1 200") and b'"errcode":0' in body.replace(b" ", b"")


def expiry(repetitions=5):
    """Each burst that meets an expired token is compared with an ordinary one just before it."""
    fake = Fake()
    fake.ask("POST", "/_fake/change", {"token_delay_ms": int(TOKEN_DELAY * 1000)})
    proxy = Proxy(SIDECAR, fake, workers=2)
    request = post(POST)
    crowd = Crowd(proxy.port, SIZE)
    # Connections to the fake are made here, and not in what is timed.
    for _ in range(3):
        crowd.burst(request)
    met = True
    say(f"{SIZE:,} calls at once that meet an expired token; a token request takes {TOKEN_DELAY * 1000:.0f} ms")
    for _ in range(repetitions):
        ordinary, replies = crowd.burst(request)
        bad = errors(replies)
        fake.ask("POST", "/_fake/expire")
        before = fake.ask("GET", "/_fake/stats")
        took, replies = crowd.burst(request)
        after = fake.ask("GET", "/_fake/stats")
        bad += errors(replies)
        tokens, refused = (after[what] - before[what] for what in ("token_requests", "refused"))
        allowed = TOKEN_DELAY + 2 * ordinary
        met &= tokens == 1 and not bad
        say(
            f"  ordinary {ordinary * 1000:4.0f} ms, expired {took * 1000:4.0f} ms "
            f"(goal {allowed * 1000:.0f}: {'reached' if took <= allowed else 'missed'}), "
            f"{tokens} token request, {refused} refusals met, {len(bad)} errors"
        )
        for reply in bad[:1]:
            say(f"  first error: {reply[:300]}")
        time.sleep(1.5)
    crowd.close()
    proxy.stop()
    fake.program.stop()
    say("  one token request and no error: " + ("yes" if met else "NO"))
    return met


def cold(repetitions=15):
    """From the start of the process to the first answered call; for the sidecar that includes its token request."""
    upstream = Upstream()
    say("cold start to the first answered call, ms (median, range)")
    kinds = [SIDECAR, NGINX, HAPROXY, ENVOY]
    seen = {kind: [] for kind in kinds}
    for _ in range(repetitions):
        for kind in kinds:
            seen[kind].append(started(kind, upstream))
    for kind, values in seen.items():
        say(f"  {kind:8} {spread(values)}")
    upstream.stop()
    return True


def started(kind, upstream):
    begin = time.perf_counter()
    proxy = Proxy(kind, upstream, workers=2, wait=False)
    while not proxy.answers():
        if time.perf_counter() - begin > 20:
            raise RuntimeError(f"{kind} does not answer:\n{proxy.program.tail()}")
        time.sleep(0.001)
    took = time.perf_counter() - begin
    proxy.stop()
    return took * 1000


def quiet(repetitions=12):
    """The first call after the upstream has closed its idle connections.

    A quarter of an hour is stood for by an upstream that closes them after a second; what matters is that the next
    call finds no connection, unless one is kept warm. With tickets TLS is resumed, without the handshake is a full one. Loopback has no
    distance: a real path adds two round trips to either, TCP's and TLS 1.3's.
    """
    say("first call after a quiet time, ms (median, range)")
    warm = ["--keep-warm", "1"]
    for kind, tickets, flags in (
        (SIDECAR, True, []),
        (SIDECAR, False, []),
        (SIDECAR, False, warm),
        (NGINX, True, []),
        (NGINX, False, []),
    ):
        # What is kept warm is looked at once a second.
        idle = 3 if flags else 1
        upstream = Upstream(idle=f"{idle}s", tickets=tickets)
        proxy = Proxy(kind, upstream, workers=1, flags=flags)
        app = http.client.HTTPConnection("127.0.0.1", proxy.port)
        first, after = [], []
        for _ in range(repetitions):
            time.sleep(idle + 0.6)
            first.append(timed(app))
            after += [timed(app) for _ in range(5)]
        how = "keep-warm 1" if flags else "resumed if it can be" if tickets else "full handshake"
        say(f"  {kind:8} {how:20} {spread(first)}; warm {spread(after)}")
        app.close()
        proxy.stop()
        upstream.stop()
    return True


def timed(app):
    begin = time.perf_counter()
    app.request("POST", POST, b"x" * 200, {"Content-Type": "application/json"})
    reply = app.getresponse()
    reply.read()
    if reply.status != 200:
        raise RuntimeError(f"answered {reply.status}")
    return (time.perf_counter() - begin) * 1000


def spread(values):
    return f"{statistics.median(values):6.2f} ({min(values):.2f}–{max(values):.2f})"


def main():
    parts = {"expiry": expiry, "cold": cold, "quiet": quiet}
    asked = sys.argv[1:] or list(parts)
    unknown = [part for part in asked if part not in parts]
    if unknown:
        sys.exit(f"there is no part {unknown[0]}: expiry, cold or quiet")
    raise_file_limit()
    machine = report.machine()
    kinds = [SIDECAR, NGINX] + ([HAPROXY, ENVOY] if "cold" in asked else [])
    say(f"{report.today()}, {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}")
    say(", ".join(f"{name} {version}" for name, version in peers.versions(kinds).items()) + "\n")
    results = [parts[part]() for part in asked]
    if not sys.argv[1:]:
        report.keep("burst.md", "# Bursts, cold starts, quiet times\n\n```text\n" + "\n".join(said) + "\n```\n")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
