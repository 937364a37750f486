"""wechatpy, whose base URL is in its code, and which calls by requests; and urllib."""

import itertools
import json
import time
import urllib.request

from wechatpy import WeChatClient

BASE = "https://api.weixin.qq.com/cgi-bin"
client = WeChatClient("wx0123456789abcdef", secret=None, access_token="any-text", timeout=60)


def by_urllib():
    with urllib.request.urlopen(f"{BASE}/user/get?access_token=any-text", timeout=60) as reply:
        assert json.load(reply)["total"] >= 0


CALLS = [client.user.get_followers, lambda: client.message.send_text("oFollower", "你好"), by_urllib]
well = 0
for call in itertools.cycle(CALLS):
    try:
        call()
        well += 1
        if well % 6 == 1:
            print(f"ok {well}", flush=True)
    except Exception as problem:  # whatever it is, it is a call lost
        print(f"fail {problem!r}", flush=True)
        time.sleep(0.2)
    time.sleep(0.05)
