"""A small app beside the sidecar: it logs users in, sends them messages and makes mini program codes.

It has no AppSecret and no access_token. The sidecar puts them into its calls.
"""

import http.client
import http.server
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

WECHAT = os.environ.get("WECHAT_API_BASE_URL", "http://127.0.0.1:7080")

# The sidecar is on this machine: a proxy in the environment is not for it.
SIDECAR = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Problem(Exception):
    """What the app answers where it cannot do what it was asked."""

    def __init__(self, status, error, errcode=None, retry_after=None):
        super().__init__(error)
        self.status, self.error, self.errcode, self.retry_after = status, error, errcode, retry_after


def login(given):
    """POST /login {"code": "…"}: the code is what wx.login gave to the mini program."""
    query = urllib.parse.urlencode({"js_code": text(given, "code"), "grant_type": "authorization_code"})
    _, content = call_wechat(f"/sns/jscode2session?{query}")
    # The session_key beside it is for this server alone: do not send it to the mini program.
    return as_json({"openid": json.loads(content)["openid"]})


def notify(given):
    """POST /notify {"openid": "…", "text": "…"}: a customer service message."""
    message = {"touser": text(given, "openid"), "msgtype": "text", "text": {"content": text(given, "text")}}
    call_wechat("/cgi-bin/message/custom/send", message)
    return as_json({"sent": True})


def qr(given):
    """GET /qr?scene=…: a mini program code, as a picture."""
    return call_wechat("/wxa/getwxacodeunlimit", {"scene": text(given, "scene")})


def call_wechat(target, body=None):
    """Sends a GET, or a POST with this body as JSON. Returns the type and the bytes of the reply."""
    path = target.split("?")[0]
    data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
    request = urllib.request.Request(WECHAT + target, data, {"Content-Type": "application/json"})
    try:
        try:
            reply = SIDECAR.open(request, timeout=40)
        except urllib.error.HTTPError as error:
            reply = error  # The sidecar's own errors have a status. Their body says more.
        with reply:
            content = reply.read()
    except (OSError, http.client.HTTPException) as error:
        print(f"{path}: {error}", file=sys.stderr)
        raise Problem(502, "no reply from the sidecar") from error
    # An errcode in the body says that a call failed, whatever its status and its type are.
    answer = json.loads(content) if content.startswith(b"{") else {}
    errcode = int(answer.get("errcode", 0))
    if errcode == 0 and reply.status == 200:
        return reply.headers["Content-Type"], content
    print(f"{path}: HTTP {reply.status}, errcode {errcode}: {answer.get('errmsg')}", file=sys.stderr)
    retry_after = reply.headers["Retry-After"]
    if errcode in (40029, 40163):  # The code of the login is wrong, or was used before.
        raise Problem(401, "log in again", errcode)
    if retry_after:  # The sidecar has sent nothing to WeChat. It says when it is worth another try.
        raise Problem(503, "try again later", errcode, retry_after)
    # WeChat refused, or it is unknown what became of the call. So it is not sent again.
    raise Problem(502, "the call failed", errcode)


def text(given, name):
    value = given.get(name) if isinstance(given, dict) else None
    if not isinstance(value, str) or not value:
        raise Problem(400, f"{name} is missing")
    return value


def as_json(value):
    return "application/json", json.dumps(value).encode()


ROUTES = {("POST", "/login"): login, ("POST", "/notify"): notify, ("GET", "/qr"): qr}


class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def answer(self):
        status, retry_after = 200, None
        try:
            content_type, content = self.ask()
        except Problem as problem:
            status, retry_after = problem.status, problem.retry_after
            told = {"error": problem.error, "errcode": problem.errcode}
            content_type, content = as_json({name: value for name, value in told.items() if value})
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(content)

    def ask(self):
        url = urllib.parse.urlsplit(self.path)
        route = ROUTES.get((self.command, url.path))
        if not route:
            raise Problem(404, "not found")
        if self.command == "GET":
            return route(dict(urllib.parse.parse_qsl(url.query)))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            given = json.loads(body)
        except ValueError as error:
            raise Problem(400, "the body is no JSON") from error
        return route(given)


if __name__ == "__main__":
    address = (os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080")))
    server = http.server.ThreadingHTTPServer(address, App)
    print(f"listening on http://{address[0]}:{server.server_port}", flush=True)
    server.serve_forever()
