"""Load: wrk as fast as it goes, oha at a fixed rate, and exact numbers of calls from here."""

import json
import os
import select
import socket
import subprocess
import time

from .processes import BENCH, RUN
from .upstream import LARGE

# wrk prints what is read here as its last line. A request without a `request` function is built once.
SCRIPT = """
wrk.method = "{method}"
{body}
function done(summary, latency)
    io.write(string.format('\\n{{"requests":%d,"us":%d,"bytes":%d,"status":%d,"errors":%d}}\\n',
        summary.requests, summary.duration, summary.bytes, summary.errors.status,
        summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


def wrk(url, seconds, connections, body=0, cores=None):
    """A POST of `body` bytes, or a GET without."""
    script = RUN / f"wrk-{body}.lua"
    text = f'wrk.body = string.rep("x", {body})\nwrk.headers["Content-Type"] = "application/json"' if body else ""
    script.write_text(SCRIPT.format(method="POST" if body else "GET", body=text))
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "60s"]
    done = subprocess.run(
        [*command, "-s", str(script), url],
        capture_output=True,
        text=True,
        timeout=seconds + 90,
        preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"requests"')]
    if not lines:
        raise RuntimeError(f"wrk says: {done.stdout[-500:]} {done.stderr[-500:]}")
    seen = json.loads(lines[0])
    seen["per_second"] = seen["requests"] / (seen["us"] / 1e6)
    return seen


def oha(url, seconds, rate, connections=64, body=200):
    """Percentiles in microseconds, counted from when a call was due, not from when it could be sent."""
    command = [str(BENCH / "bin" / "oha"), "--no-tui", "--output-format", "json", "-z", f"{seconds}s"]
    command += ["-q", str(rate), "--latency-correction", "-c", str(connections), "-m", "POST"]
    command += ["-d", "x" * body, "-T", "application/json", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode:
        raise RuntimeError(f"oha says: {done.stderr[-500:]}")
    seen = json.loads(done.stdout)
    statuses = seen["statusCodeDistribution"]
    # Calls under way when the time is up are cut off by oha itself.
    errors = {what: count for what, count in seen["errorDistribution"].items() if "deadline" not in what}
    return {
        "p50": seen["latencyPercentiles"]["p50"] * 1e6,
        "p99": seen["latencyPercentiles"]["p99"] * 1e6,
        "per_second": seen["summary"]["requestsPerSec"],
        "errors": sum(errors.values()) + sum(count for status, count in statuses.items() if status != "200"),
    }


def post(path, size=200):
    """A whole request; its body is a message that WeChat would take, filled up to `size`."""
    body = '{"touser":"oBench","msgtype":"text","text":{"content":"'
    body += "x" * (size - len(body) - 3) + '"}}'
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {size}"
    return f"{head}\r\n\r\n{body}".encode()


def in_chunks(request):
    """The same, in two chunks of unequal size."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    lines.append(b"Transfer-Encoding: chunked")
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:100], body[100:], b"")]
    return b"\r\n".join(lines) + b"\r\n\r\n" + b"".join(chunks)


class Crowd:
    """Connections of one app, all kept open, on which calls leave together and are all waited for."""

    def __init__(self, port, size):
        self.sockets = {}
        self.poll = select.epoll()
        for _ in range(size):
            app = socket.create_connection(("127.0.0.1", port), 30)
            app.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets[app.fileno()] = app
            self.poll.register(app, select.EPOLLIN)

    def one_by_one(self, request):
        """One call on each connection, one after the other."""
        for app in self.sockets.values():
            app.sendall(request)
            reply = app.recv(LARGE)
            if not reply.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"answered {reply[:200]}")

    def burst(self, request, patience=60):
        """One call on each at once; how long the last waited, and the replies."""
        begin = time.perf_counter()
        for app in self.sockets.values():
            app.sendall(request)
        missing, replies = set(self.sockets), {number: b"" for number in self.sockets}
        while missing and time.perf_counter() - begin < patience:
            for number, _ in self.poll.poll(1):
                part = self.sockets[number].recv(65536)
                replies[number] += part
                if not part or whole(replies[number]):
                    missing.discard(number)
        return time.perf_counter() - begin, list(replies.values())

    def rounds(self, request, count):
        """`count` bursts; every reply has to be a good one."""
        for _ in range(count):
            bad = [reply for reply in self.burst(request)[1] if not reply.startswith(b"HTTP/1.1 200")]
            if bad:
                raise RuntimeError(f"{len(bad)} calls failed: {bad[0][:200]}")

    def close(self):
        self.poll.close()
        for app in self.sockets.values():
            app.close()


def whole(reply):
    """Whether a reply with a Content-Length is all here."""
    head, found, body = reply.partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line[15:])
    # Without one, all bodies of the bench's are small and end in what they hold.
    return body.endswith((b"}", b"0\r\n\r\n"))
