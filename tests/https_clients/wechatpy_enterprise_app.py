"""An app on wechatpy's client of WeCom, as it was before there was a sidecar, but without the secret:
wechatpy_enterprise_app.py ROUNDS or FILE."""

import io
import os

import requests
from rounds import go_on
from wechatpy.enterprise import WeChatClient

client = WeChatClient("ww0123456789abcdef", "no-secret-here")


def check(so, what):
    if not so:
        raise AssertionError(what)


def a_round(number):
    check(client.user.get("zhang")["name"] == "张三", "somebody else")
    sent = client.message.send_text(1000002, ["zhang", "li"], f"第 {number} 天：你好 & <goodbye> 🙂")
    check(sent["msgid"], sent)
    report = os.urandom(1_000_000)
    uploaded = client.media.upload("file", ("report.bin", io.BytesIO(report), "application/octet-stream"))
    # Its URL is written into wechatpy, as that of the token request is.
    check(client.media.download(uploaded["media_id"]).content == report, "another report")
    check(client.get("getcallbackip")["ip_list"], "no address")


rounds = go_on(a_round, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError))
print(f"{rounds} rounds without an error; its token was {client.access_token}")
