"""An app on wechatpy, unchanged but for its base URL: it knows no secret, and its token is any text."""

import io
import os
import sys

from wechatpy import WeChatClient
from wechatpy.client.api import WeChatWxa

SIDECAR = os.environ["SIDECAR"]
APPID = os.environ["APPID"]


class Wxa(WeChatWxa):
    API_BASE_URL = SIDECAR + "/"


class Client(WeChatClient):
    API_BASE_URL = SIDECAR + "/cgi-bin/"
    wxa = Wxa()


# wechatpy fetches tokens by an absolute URL, which it does not do as long as it has one.
client = Client(APPID, secret=None, access_token="any-text")


def check(so, what):
    if not so:
        raise AssertionError(what)


def a_days_work(day):
    """One of each call that apps make most; raises on any error that WeChat, or anybody, reports."""
    followers = client.user.get_followers()["data"]["openid"]
    check(len(followers) == 2, followers)
    for openid in followers:
        check(client.user.get(openid)["openid"] == openid, openid)
        client.message.send_text(openid, f"第 {day} 天：你好 & <goodbye> 🙂")
        greeting = {"first": {"value": "您好", "color": "#173177"}}
        sent = client.message.send_template(openid, "template-id", greeting, url="https://example.com/?a=1&b=2")
        check(sent["msgid"], sent)

    picture = os.urandom(200_000)
    uploaded = client.media.upload("image", ("photo.jpg", io.BytesIO(picture), "image/jpeg"))
    downloaded = client.media.download(uploaded["media_id"])
    check(downloaded.content == picture, "the picture came back changed")
    check(downloaded.headers["Content-Type"] == "image/jpeg", downloaded.headers)

    scene = {"expire_seconds": 60, "action_name": "QR_SCENE", "action_info": {"scene": {"scene_id": day}}}
    check(client.qrcode.create(scene)["ticket"], "a QR code without a ticket")
    ticket = client.jsapi.get_ticket()
    check(0 < ticket["expires_in"] <= 5400, ticket)
    # wechatpy keeps it for as long as it was told.
    check(client.jsapi.get_jsapi_ticket() == ticket["ticket"], "another ticket")
    check(client.jsapi.get_ticket("wx_card")["ticket"] != ticket["ticket"], "one ticket for two types")
    check(client.wxa.get_wxa_code("pages/index").content[:2] == b"\xff\xd8", "no JPEG")
    check(client.wxa.code_to_session(f"code-{day}")["openid"], "nobody logged in")
    client.menu.create({"button": [{"type": "view", "name": "官网", "url": "https://example.com/"}]})
    client.menu.get()


days = int(sys.argv[1])
for day in range(days):
    a_days_work(day)
print(f"{days} days without an error")
