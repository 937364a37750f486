"""An example app: each GET asks WeChat for the addresses of its API servers, and shows the reply."""

import http.server
import os
import signal
import sys
import urllib.error
import urllib.request

BASE = os.environ["WECHAT_API_BASE_URL"]


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/healthz":
            status, body = 200, b"ok\n"
        else:
            status, body = ask("/cgi-bin/get_api_domain_ip")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def ask(path):
    # No access_token and no AppSecret: the sidecar puts them in.
    try:
        with urllib.request.urlopen(BASE + path, timeout=40) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        return 502, f"{error}\n".encode()


if __name__ == "__main__":
    # As process 1 it would ignore SIGTERM otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    http.server.ThreadingHTTPServer(("", 8080), App).serve_forever()
