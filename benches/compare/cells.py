"""The cells of the comparison; each returns what was measured, by proxy and repetition."""

import threading
import time

from lib import count, load
from lib.peers import ENVOY, HAPROXY, NGINX, PEERS, PINGORA, RELAY, SIDECAR, Proxy
from lib.upstream import DOWNLOAD, GET, LARGE, POST, UPLOAD, Upstream

PROXY_CORE, LOAD_CORE = {0}, {1}
ALL = [SIDECAR, *PEERS]


class Cell:
    """`kinds` are compared; in a short run only those that a figure needs."""

    def __init__(self, name, title, figures, kinds, run, needed=None, **options):
        self.name, self.title, self.figures, self.run, self.options = name, title, figures, run, options
        self.kinds, self.needed = kinds, needed or kinds


def stand(kinds, cores, tls, workers, roomy=False, apps_tls=False):
    """An upstream and the proxies before it, for one core each or for all cores."""
    upstream = Upstream(LOAD_CORE if cores == 1 else None, workers=2)
    pin = PROXY_CORE if cores == 1 else None
    proxies = {kind: Proxy(kind, upstream, tls, workers, pin, roomy=roomy, apps_tls=apps_tls) for kind in kinds}
    return upstream, proxies


def leave(upstream, proxies):
    for proxy in proxies.values():
        proxy.stop()
    upstream.stop()


def throughput(kinds, short, cores=1, tls=True, path=POST, body=200, connections=64, apps_tls=False):
    """CPU a request and requests a second; the proxies take turns."""
    # Short turns: the two of a pair shall fall into the same slow or fast minute of the machine.
    repetitions, seconds = (3 if short else 15), 1
    upstream, proxies = stand(kinds, cores, tls, cores, apps_tls=apps_tls)
    pin = LOAD_CORE if cores == 1 else None
    seen = {kind: {"cpu_us": [], "per_second": [], "errors": 0} for kind in kinds}
    try:
        for proxy in proxies.values():
            load.wrk(proxy.url(path), 1, connections, body, pin)
        for _ in range(repetitions):
            for kind, proxy in proxies.items():
                before = proxy.program.cpu()
                run = load.wrk(proxy.url(path), seconds, connections, body, pin)
                time.sleep(0.02)
                cpu = proxy.program.cpu() - before
                seen[kind]["cpu_us"].append(cpu / 1000 / max(run["requests"], 1))
                seen[kind]["per_second"].append(run["per_second"])
                seen[kind]["errors"] += run["errors"] + run["status"]
    finally:
        leave(upstream, proxies)
    return seen


def latency(kinds, short, rate=2000):
    repetitions, seconds = (3, 3) if short else (5, 6)
    upstream, proxies = stand(kinds, 2, True, 2)
    seen = {kind: {"p50": [], "p99": [], "per_second": [], "errors": 0} for kind in kinds}
    try:
        for proxy in proxies.values():
            load.wrk(proxy.url(POST), 1, 64, 200)
        for _ in range(repetitions):
            for kind, proxy in proxies.items():
                run = load.oha(proxy.url(POST), seconds, rate)
                for what in ("p50", "p99", "per_second"):
                    seen[kind][what].append(run[what])
                seen[kind]["errors"] += run["errors"]
    finally:
        leave(upstream, proxies)
    return seen


def memory(kinds, short, idle=2000):
    """RSS after the first answered call, and what each idle connection of the app's adds."""
    seen = {}
    for kind in kinds:
        upstream, proxies = stand([kind], 2, True, 2)
        try:
            program = proxies[kind].program
            start = program.rss()
            crowd = load.Crowd(proxies[kind].port, idle)
            crowd.one_by_one(load.post(POST))
            time.sleep(1)
            per = (program.rss() - start) / idle
            crowd.close()
            seen[kind] = {"start_mb": [start / 1024], "idle_kib": [per]}
        finally:
            leave(upstream, proxies)
    return seen


def busy(kinds, short, size=9000):
    """So many connections with a call under way on each: the highest RSS while wrk keeps them so.

    The number rises step by step, because so many handshakes at once are another test.
    """
    seen = {}
    for kind in kinds:
        upstream, proxies = stand([kind], 2, True, 2, roomy=True)
        try:
            program = proxies[kind].program
            for step in (1000, 3000, 5000, 7000, size):
                load.wrk(proxies[kind].url(POST), 2 if short else 4, step, 200)
            peak = Peak(program)
            run = load.wrk(proxies[kind].url(POST), 6 if short else 15, size, 200)
            rss, files = peak.end()
            seen[kind] = {"rss_mb": [rss / 1024], "files": [files], "errors": run["errors"] + run["status"]}
        finally:
            leave(upstream, proxies)
    return seen


class Peak:
    """Looks every half second, until `end`."""

    def __init__(self, program):
        self.program, self.rss, self.files = program, 0, 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()

    def look(self):
        while not self.over.wait(0.5):
            self.rss = max(self.rss, self.program.rss())
            self.files = max(self.files, self.program.files())

    def end(self):
        self.over.set()
        self.thread.join()
        return self.rss, self.files


def counts(kinds, short):
    """Instructions for the sidecar; system calls for all."""
    seen = {kind: {} for kind in kinds}
    upstream, proxies = stand(kinds, 1, True, 1)
    try:
        for kind, proxy in proxies.items():
            load.wrk(proxy.url(POST), 1, 64, 200, LOAD_CORE)

            def run(proxy=proxy):
                return load.wrk(proxy.url(POST), 2, 64, 200, LOAD_CORE)["requests"]

            by_name = count.syscalls(proxy, 64, run)
            seen[kind]["syscalls"] = [sum(by_name.values())]
            seen[kind]["by_name"] = by_name
        if SIDECAR in kinds:
            seen[SIDECAR]["instructions"] = [counted()]
    finally:
        leave(upstream, proxies)
    return seen


def counted():
    # Without tickets all handshakes are whole ones, in the long run and in the short one.
    upstream = Upstream(LOAD_CORE, tickets=False, name="counted")
    try:
        return count.instructions(upstream)
    finally:
        upstream.stop()


CELLS = [
    Cell("post-1", "POST 200 B, 64 connections, TLS, 1 core", [1, 2], ALL, throughput),
    Cell("post-2", "POST 200 B, 64 connections, TLS, 2 cores", [1, 2, 4], ALL, throughput, cores=2),
    Cell(
        "get-2",
        "GET, reply 2 KiB, 4 connections, TLS, 2 cores",
        [],
        ALL,
        throughput,
        needed=[SIDECAR, NGINX],
        cores=2,
        path=GET,
        body=0,
        connections=4,
    ),
    Cell(
        "plain-1",
        "POST 200 B, 64 connections, plain HTTP, 1 core",
        [3],
        [*ALL, RELAY],
        throughput,
        needed=[SIDECAR, NGINX, RELAY],
        tls=False,
    ),
    Cell(
        "https-1",
        "POST 200 B, 64 connections, TLS on both sides, 1 core",
        [10],
        [SIDECAR, NGINX, ENVOY],
        throughput,
        needed=[SIDECAR, NGINX],
        apps_tls=True,
    ),
    Cell("rate-2000", "POST 200 B at 2,000/s, TLS, 2 cores", [5], ALL, latency, needed=[SIDECAR, NGINX], rate=2000),
    Cell("rate-8000", "POST 200 B at 8,000/s, TLS, 2 cores", [5], ALL, latency, needed=[SIDECAR, NGINX], rate=8000),
    Cell(
        "download",
        "GET, reply 1 MiB, 8 connections, TLS, 1 core",
        [6],
        ALL,
        throughput,
        needed=[SIDECAR, NGINX],
        path=DOWNLOAD,
        body=0,
        connections=8,
    ),
    Cell(
        "upload",
        "POST 1 MiB, 8 connections, TLS, 1 core",
        [6],
        ALL,
        throughput,
        needed=[SIDECAR, NGINX],
        path=UPLOAD,
        body=LARGE,
        connections=8,
    ),
    Cell("memory", "At start, and 2,000 idle connections", [7], ALL, memory),
    Cell("busy", "9,000 busy connections, TLS", [8], ALL, busy, needed=[SIDECAR, NGINX]),
    Cell(
        "counts",
        "Instructions and system calls a request",
        [9],
        [SIDECAR, NGINX, HAPROXY, ENVOY, PINGORA],
        counts,
        needed=[SIDECAR, NGINX],
    ),
]
