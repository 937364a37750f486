"""An app that calls all the time, and what became of each call."""

import asyncio
import itertools
import statistics
import time
from collections import Counter
from dataclasses import dataclass

from drill import client

ENDPOINTS = (
    ("GET", "/cgi-bin/user/get"),
    ("POST", "/cgi-bin/message/custom/send"),
    ("GET", "/cgi-bin/menu/get"),
    ("GET", "/cgi-bin/tags/get"),
    ("GET", "/cgi-bin/material/get_materialcount"),
    ("POST", "/cgi-bin/message/template/send"),
    ("GET", "/cgi-bin/get_current_selfmenu_info"),
    ("GET", "/cgi-bin/user/info?openid=o"),
    ("POST", "/cgi-bin/qrcode/create"),
    ("POST", "/cgi-bin/menu/create"),
)
# What POSTs send.
BODY = b'{"touser":"o","scene":1}'
# WeChat accepted the call, at once or when it was sent again.
ACCEPTED = ("200 0", "200 0 replayed")


@dataclass
class Sample:
    """One call: when it began, how long it took, and its outcome: status, errcode, marks."""

    began: float
    took: float
    outcome: str
    errmsg: str = ""


def outcome_of(reply):
    """Status, errcode and marks, as in '503 990503 error', and the errmsg. The errcode is 0 where JSON has none, and
    'page' where there is no JSON."""
    body = reply.json()
    told = body.get("errcode", 0) if isinstance(body, dict) else "page"
    marks = reply.all("x-wechat-sidecar")
    errmsg = body.get("errmsg", "") if isinstance(body, dict) else ""
    return " ".join([str(reply.status), str(told), *marks]), errmsg


class App:
    """Sends `rate` calls a second, on as many connections as are busy at a time.

    In a path, {number} is different each time.
    """

    def __init__(self, port, rate=5, headers=(), endpoints=ENDPOINTS, body=BODY, patience=70):
        self.port, self.rate, self.headers, self.endpoints = port, rate, headers, endpoints
        self.body, self.patience = body, patience
        self.samples = []
        self.idle = []
        self.task = None
        self.calls = set()

    def start(self):
        self.task = asyncio.create_task(self.run())
        return self

    async def run(self):
        due = time.monotonic()
        for number, (method, path) in enumerate(itertools.cycle(self.endpoints)):
            call = asyncio.create_task(self.call(method, path.replace("{number}", str(number))))
            self.calls.add(call)
            call.add_done_callback(self.calls.discard)
            due = max(due + 1 / self.rate, time.monotonic() - 1)
            await asyncio.sleep(due - time.monotonic())

    async def call(self, method, path):
        body = self.body if method == "POST" else None
        began, errmsg = time.monotonic(), ""
        try:
            async with asyncio.timeout(self.patience):
                reply = await self.exchange(client.request(method, path, self.headers, body))
            outcome, errmsg = outcome_of(reply)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            outcome = f"no reply: {type(error).__name__}"
        self.samples.append(Sample(began, time.monotonic() - began, outcome, errmsg))

    async def exchange(self, request):
        """On an idle connection if there is one; one that was closed meanwhile is replaced, as apps do."""
        while self.idle:
            reader, writer = self.idle.pop()
            if reader.at_eof() or writer.is_closing():
                writer.close()
                continue
            return await self.exchange_on(reader, writer, request)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        return await self.exchange_on(reader, writer, request)

    async def exchange_on(self, reader, writer, request):
        reply = None
        try:
            writer.write(request)
            reply = await client.read_reply(reader)
            return reply
        finally:
            if reply is not None and reply.reusable:
                self.idle.append((reader, writer))
            else:
                writer.close()

    def since(self, moment, until=float("inf")):
        return [sample for sample in self.samples if moment <= sample.began < until]

    async def stop(self):
        if self.task:
            self.task.cancel()
        for call in list(self.calls):
            call.cancel()
        for _, writer in self.idle:
            writer.close()
        await asyncio.gather(*self.calls, return_exceptions=True)


def summary(samples):
    """Outcomes with their number, one errmsg of each, and how long calls took."""
    took = [sample.took for sample in samples]
    return {
        "outcomes": dict(Counter(sample.outcome for sample in samples).most_common()),
        "errmsgs": {sample.outcome: sample.errmsg for sample in samples if sample.errmsg},
        "median_seconds": round(statistics.median(took), 3) if took else None,
        "slowest_seconds": round(max(took), 3) if took else None,
    }
