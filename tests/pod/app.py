"""An app on wechatpy, unchanged but for its base URL: it calls from several threads until told to stop, and drains.

It knows no secret, and its token is any text. Its settings are in its environment; see `SETTINGS`.
"""

import os

SETTINGS = {
    "BASE": os.environ.get("WECHAT_API_BASE_URL"),
    "FIRST": "",  # anything: one call before all else
    "THREADS": "4",
    "CALLS": "0",  # ends by itself after so many of each thread; 0 is never
    "DRAIN": "0",  # seconds for which it goes on calling after SIGTERM
    "OUTAGES": "",  # anything: calls may fail
    "GOODBYE": "",  # where to POST at the end
}
THE = {name: os.environ.get(name, value) for name, value in SETTINGS.items()}

if THE["FIRST"]:
    # By hand, because to import wechatpy takes longer than a sidecar takes to start.
    import http.client

    first = http.client.HTTPConnection(THE["BASE"].removeprefix("http://"))
    first.request("GET", "/cgi-bin/user/get")
    answer = first.getresponse()
    print(f"first call: {answer.status} {answer.read()!r}", flush=True)
    if answer.status != 200:
        raise SystemExit("the first call failed")
    first.close()

import json
import signal
import sys
import threading
import time
import urllib.request

from wechatpy import WeChatClient


class Client(WeChatClient):
    API_BASE_URL = THE["BASE"] + "/cgi-bin/"


class Work:
    """What all threads do together."""

    def __init__(self):
        self.told = threading.Event()
        self.lock = threading.Lock()
        self.succeeded = int(bool(THE["FIRST"]))
        self.while_draining = 0
        self.failures = []
        self.well = None

    def went(self, well, what=""):
        with self.lock:
            if well:
                self.succeeded += 1
                self.while_draining += self.told.is_set()
            else:
                self.failures.append(what)
            if well != self.well:
                self.well = well
                print(f"calls {'succeed' if well else 'fail'} {what}", flush=True)

    def over(self, done):
        return 0 < int(THE["CALLS"]) <= done or (self.told.is_set() and time.monotonic() > self.until)

    def stop(self, *_):
        self.until = time.monotonic() + float(THE["DRAIN"])
        self.told.set()
        print("draining", flush=True)

    def call(self, number):
        client = Client(os.environ["APPID"], secret=None, access_token="any-text", timeout=60)
        done = 0
        while not self.over(done):
            try:
                one_call(client, done)
                self.went(True)
            except Exception as problem:  # whatever it is, it is a call lost
                self.went(False, repr(problem))
                time.sleep(0.2)
            done += 1
            time.sleep(0.01)


def one_call(client, number):
    """One of the calls that apps make most; raises on any error that WeChat, or anybody, reports."""
    kind = number % 4
    if kind == 0:
        followers = client.user.get_followers()["data"]["openid"]
        assert len(followers) == 2, followers
    elif kind == 1:
        assert client.user.get(f"o{number}")["openid"] == f"o{number}"
    elif kind == 2:
        client.message.send_text("oFollower", f"第 {number} 次：你好 & <goodbye> 🙂")
    else:
        button = {"type": "view", "name": "官网", "url": "https://example.com/" + "x" * number}
        client.menu.create({"button": [button]})


work = Work()
signal.signal(signal.SIGTERM, work.stop)
threads = [threading.Thread(target=work.call, args=(number,)) for number in range(int(THE["THREADS"]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
if THE["GOODBYE"]:
    with urllib.request.urlopen(urllib.request.Request(THE["GOODBYE"], method="POST")) as reply:
        print(f"goodbye: {reply.status}", flush=True)
summary = {"succeeded": work.succeeded, "while_draining": work.while_draining, "failures": work.failures[:5]}
print("summary " + json.dumps(summary), flush=True)
sys.exit(1 if work.failures and not THE["OUTAGES"] else 0)
