"""An app on wechatpy with two accounts behind one base URL: each client knows its own AppID and nothing else."""

import os

from wechatpy import WeChatClient
from wechatpy.client.api import WeChatWxa

SIDECAR = os.environ["SIDECAR"]
APPIDS = os.environ["APPIDS"].split(",")
# What the second had in its cache before, if anything.
CACHED = os.environ.get("CACHED")
# What the sidecar gives out for each AppID.
TOKENS = os.environ["TOKENS"].split(",")


class Wxa(WeChatWxa):
    API_BASE_URL = SIDECAR + "/"


class Client(WeChatClient):
    API_BASE_URL = SIDECAR + "/cgi-bin/"
    wxa = Wxa()

    # wechatpy asks for tokens by an absolute URL; this is the same request, to the base URL.
    def fetch_access_token(self):
        return self._fetch_access_token(
            url=self.API_BASE_URL + "token",
            params={"grant_type": "client_credential", "appid": self.appid, "secret": self.secret},
        )


first, second = APPIDS
clients = [
    # What the sidecar would give it, in its settings.
    Client(first, secret=None, access_token=TOKENS[0]),
    Client(second, secret="no-secret-at-all", access_token=CACHED),
]
for day in range(10):
    for client, token in zip(clients, TOKENS):
        followers = client.user.get_followers()["data"]["openid"]
        assert len(followers) == 2, followers
        client.message.send_text(followers[0], f"{client.appid} {day}")
        assert client.wxa.code_to_session(f"code-{client.appid}-{day}")["openid"]
        assert client.access_token == token
print("ten days without an error")
