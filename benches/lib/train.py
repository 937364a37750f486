"""The work that the profile is made from: small calls, large ones and chunked ones, with TLS on both sides, on one and on none."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lib import load
from lib.peers import SIDECAR, Proxy
from lib.processes import raise_file_limit
from lib.upstream import CHUNKED, DOWNLOAD, GET, LARGE, POST, UPLOAD, Upstream

SECONDS = 2
# Path, size of the body, connections.
WORK = [(POST, 200, 64), (GET, 0, 4), (POST, 200, 8), (CHUNKED, 0, 16), (DOWNLOAD, 0, 4), (UPLOAD, LARGE, 4), (POST, 2000, 200)]


def main():
    raise_file_limit()
    upstream = Upstream()
    for tls, apps_tls in ((True, False), (False, False), (True, True)):
        for workers in (1, 2):
            proxy = Proxy(SIDECAR, upstream, tls, workers, apps_tls=apps_tls)
            for path, body, connections in WORK:
                seen = load.wrk(proxy.url(path), SECONDS, connections, body)
                if seen["errors"] + seen["status"] or not seen["requests"]:
                    raise RuntimeError(f"{path}: {seen}")
            if not apps_tls:
                crowd = load.Crowd(proxy.port, 16)
                crowd.rounds(load.in_chunks(load.post(POST)), 200)
                crowd.close()
            if proxy.program.stop(patience=60):
                raise RuntimeError("it did not end by itself, and so has not written its counts")
            proxy.stop()
    upstream.stop()


if __name__ == "__main__":
    main()
