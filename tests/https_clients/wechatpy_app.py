"""An app on wechatpy, as it was before there was a sidecar, but without the secret: wechatpy_app.py ROUNDS
or FILE."""

import io
import os

import requests
from rounds import go_on
from wechatpy import WeChatClient

client = WeChatClient("wx0123456789abcdef", "no-secret-here")


def check(so, what):
    if not so:
        raise AssertionError(what)


def a_round(number):
    followers = client.user.get_followers()["data"]["openid"]
    check(len(followers) == 2, followers)
    client.message.send_text(followers[0], f"第 {number} 天：你好 & <goodbye> 🙂")
    picture = os.urandom(1_000_000)
    uploaded = client.media.upload("image", ("photo.jpg", io.BytesIO(picture), "image/jpeg"))
    check(client.media.download(uploaded["media_id"]).content == picture, "another picture")
    check(client.wxa.get_wxa_code("pages/index").content[:2] == b"\xff\xd8", "no picture")
    scene = {"expire_seconds": 60, "action_name": "QR_SCENE", "action_info": {"scene": {"scene_id": number}}}
    check(client.qrcode.create(scene)["ticket"], "a QR code without a ticket")
    check(client.jsapi.get_ticket()["ticket"], "no ticket")
    check(client.wxa.code_to_session(f"wechatpy-{number}")["openid"], "nobody logged in")
    # Its URL is written into wechatpy, as that of the token request is.
    client.customservice.add_account("test@test", "客服", "password")


rounds = go_on(a_round, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError))
print(f"{rounds} rounds without an error; its token was {client.access_token}")
