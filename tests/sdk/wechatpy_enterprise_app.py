"""Two apps of one corp on wechatpy's client of WeCom, unchanged but for their base URLs: they fetch tokens
themselves, with secrets that are none."""

import io
import os
import sys

from wechatpy.enterprise import WeChatClient

SIDECAR = os.environ["SIDECAR"]
CORPID = os.environ["APPID"]


class Client(WeChatClient):
    def __init__(self, account):
        self.API_BASE_URL = f"{SIDECAR}/{account}/cgi-bin/"
        super().__init__(CORPID, secret=f"{account}-has-no-secret-here")

    # wechatpy's own has an absolute URL in it.
    def fetch_access_token(self):
        return self._fetch_access_token(
            url=self.API_BASE_URL + "gettoken",
            params={"corpid": self.corp_id, "corpsecret": self.secret},
        )


def check(so, what):
    if not so:
        raise AssertionError(what)


def a_days_work(client, day):
    """One of each call that apps make most; raises on any error that WeCom, or anybody, reports."""
    check(client.user.get("zhang")["name"] == "张三", "somebody else")
    sent = client.message.send_text(1000002, ["zhang", "li"], f"第 {day} 天：你好 & <goodbye> 🙂")
    check(sent["msgid"], sent)
    report = os.urandom(200_000)
    uploaded = client.media.upload("file", ("report.bin", io.BytesIO(report), "application/octet-stream"))
    downloaded = client.get("media/get", params={"media_id": uploaded["media_id"]})
    check(downloaded.content == report, "the report came back changed")
    check(client.get("getcallbackip")["ip_list"], "no address")


clients = [Client("app"), Client("contacts")]
days = int(sys.argv[1])
for day in range(days):
    for client in clients:
        a_days_work(client, day)
tokens = " and ".join(client.access_token for client in clients)
print(f"{days} days without an error; their tokens were {tokens}")
