"""An app on one of Python's HTTP clients: app.py urllib|requests|httpx|aiohttp, and ROUNDS or FILE."""

import asyncio
import json
import os
import sys

from rounds import go_on

BASE = "https://api.weixin.qq.com"
APPID = "wx0123456789abcdef"
# What an app had before it knew of no secret.
SECRET = "no-secret-here"
CLIENT = sys.argv[1]


# Each gives a function that sends a call and returns the body of its reply, and the exceptions of a call without reply.


def with_urllib():
    import http.client
    import urllib.request

    def send(url, body, headers):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as reply:
                return reply.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(error.code) from error

    return send, (OSError, http.client.HTTPException)


def with_requests():
    import requests

    session = requests.Session()

    def send(url, body, headers):
        reply = session.request("GET" if body is None else "POST", url, data=body, headers=headers, timeout=30)
        reply.raise_for_status()
        return reply.content

    return send, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


def with_httpx():
    import httpx

    client = httpx.Client(timeout=30)

    def send(url, body, headers):
        reply = client.request("GET" if body is None else "POST", url, content=body, headers=headers)
        return reply.raise_for_status().content

    return send, httpx.TransportError


def with_aiohttp():
    import aiohttp

    loop = asyncio.new_event_loop()

    async def session():
        return aiohttp.ClientSession(raise_for_status=True)

    client = loop.run_until_complete(session())

    async def call(url, body, headers):
        async with client.request("GET" if body is None else "POST", url, data=body, headers=headers) as reply:
            return await reply.read()

    lost = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)
    return lambda *request: loop.run_until_complete(call(*request)), lost


def check(so, what):
    if not so:
        raise AssertionError(what)


def asked(send, target, body=None, content_type="application/json"):
    """The reply as bytes, unless it says that the call failed."""
    headers = {} if body is None else {"Content-Type": content_type}
    reply = send(BASE + target, body, headers)
    if reply.startswith(b"{"):
        errcode = json.loads(reply).get("errcode", 0)
        check(errcode == 0, reply)
    return reply


def a_round(send, token, number):
    followers = json.loads(asked(send, f"/cgi-bin/user/get?access_token={token}"))
    check(followers["count"] == 2, followers)
    message = json.dumps({"touser": "o1", "text": f"第 {number} 天"}).encode()
    asked(send, f"/cgi-bin/message/custom/send?access_token={token}", message)

    picture = b"\xff\xd8" + os.urandom(1_000_000)
    head = b'--border\r\nContent-Disposition: form-data; name="media"; filename="photo.jpg"\r\n\r\n'
    form = head + picture + b"\r\n--border--\r\n"
    kind = "multipart/form-data; boundary=border"
    uploaded = json.loads(asked(send, f"/cgi-bin/media/upload?access_token={token}&type=image", form, kind))
    media = uploaded["media_id"]
    check(asked(send, f"/cgi-bin/media/get?access_token={token}&media_id={media}") == picture, "another picture")

    code = asked(send, f"/wxa/getwxacodeunlimit?access_token={token}", b'{"scene":"a=1"}')
    check(code.startswith(b"\xff\xd8"), code[:100])
    ticket = json.loads(asked(send, f"/cgi-bin/ticket/getticket?access_token={token}&type=jsapi"))
    check(ticket["ticket"], ticket)
    login = f"appid={APPID}&secret={SECRET}&js_code=python-{CLIENT}-{number}&grant_type=authorization_code"
    check(json.loads(asked(send, f"/sns/jscode2session?{login}"))["openid"], "nobody logged in")


send, lost = globals()[f"with_{CLIENT}"]()
login = f"grant_type=client_credential&appid={APPID}&secret={SECRET}"
token = json.loads(asked(send, f"/cgi-bin/token?{login}"))["access_token"]
rounds = go_on(lambda number: a_round(send, token, number), lost)
print(f"{rounds} rounds without an error; its token was {token}")
