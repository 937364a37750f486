"""A service on wechatpy that has not moved: it knows the secret, and keeps its token in Redis."""

import os
import sys

import redis
from wechatpy import WeChatClient
from wechatpy.session.redisstorage import RedisStorage

WECHAT = os.environ["WECHAT"]


class Client(WeChatClient):
    API_BASE_URL = WECHAT + "/cgi-bin/"

    def fetch_access_token(self):
        # As wechatpy does it, but for the host.
        return self._fetch_access_token(
            url=WECHAT + "/cgi-bin/token",
            params={"grant_type": "client_credential", "appid": self.appid, "secret": self.secret},
        )


session = RedisStorage(redis.Redis.from_url(os.environ["REDIS"]))
client = Client(os.environ["APPID"], os.environ["SECRET"], session=session)
if "call" in sys.argv:
    # Heals itself when its token is refused.
    client.user.get("openid-1")
print(client.access_token)
