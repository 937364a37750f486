"""Whether a proxy does the job, before it is timed: token, bodies, replies, connections that are kept."""

import http.client

from .peers import ENVOY, Proxy
from .upstream import POST, TOKEN, Echo

CALLS = 30
# Envoy parses a query to add to it: it sorts the parameters and sends them decoded. So its own have nothing to decode,
# and their order does not count; the calls that are timed have none.
VALUE = {ENVOY: "text"}


def correct(kind):
    """Raises AssertionError with what is wrong; returns a line that says what was seen."""
    echo = Echo()
    proxy = None
    try:
        proxy = Proxy(kind, echo)
        return checked(kind, echo, proxy)
    finally:
        if proxy:
            proxy.stop()
        echo.stop()


def checked(kind, echo, proxy):
    with echo.lock:
        echo.requests.clear()
    body = bytes(range(256)) * 256
    app = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
    value = VALUE.get(kind, "%E4%BD%A0")
    for number in range(CALLS):
        query = f"type={value}&n={number}" if number % 2 else ""
        sent = body + str(number).encode() if number % 3 else None
        path = POST + (f"?{query}" if query else "")
        headers = {"Content-Type": "application/octet-stream"}
        app.request("POST" if sent else "GET", path, sent, headers if sent else {})
        reply = app.getresponse()
        came = reply.read()
        assert reply.status == 200, f"{kind}: status {reply.status} {came[:200]}"
        assert not sent or came == sent, f"{kind}: the reply is not what the upstream sent"
        method, target, arrived = echo.requests[-1]
        assert method == ("POST" if sent else "GET"), f"{kind}: {method} arrived"
        assert arrived == (sent or b""), f"{kind}: the body changed on its way"
        came_to, _, query_sent = target.partition("?")
        parameters = query_sent.split("&")
        tokens = [parameter for parameter in parameters if parameter.startswith("access_token")]
        assert tokens == [f"access_token={TOKEN}"], f"{kind}: {len(tokens)} tokens in {target}"
        assert came_to == POST, f"{kind}: {target} arrived"
        rest = [parameter for parameter in parameters if parameter not in tokens]
        if kind == ENVOY:
            rest.sort(reverse=True)
        assert "&".join(rest) == query, f"{kind}: {target} arrived"
    app.close()
    arrived = len(echo.requests)
    assert arrived == CALLS, f"{kind}: {arrived} requests for {CALLS} calls"
    # The sidecar opens one more, for its token; each worker of a proxy may open its own.
    assert echo.connections <= 3, f"{kind}: {echo.connections} connections for {CALLS} calls in a row"
    return f"{CALLS} calls over {echo.connections} TLS 1.3 connections, one token each, bodies unchanged"
