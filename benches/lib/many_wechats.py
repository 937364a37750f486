"""A WeChat that knows every AppID, quick enough for 10,000 of them; a process of its own: `many_wechats.py PORT DELAY`.

A token names its AppID and its generation. A call is answered with the AppID of its token, and with its own body's
`for`, so that the caller sees whose token it went out with. `/_fake/expire` ends the tokens of some AppIDs.
"""

import collections
import heapq
import json
import select
import socket
import sys
import time
from urllib.parse import parse_qs

PAD = "0123456789abcdefghijABCDEFGHIJ" * 4
LIFETIME = 7200


class Fake:
    def __init__(self, port, delay):
        self.delay = delay
        self.generations = collections.defaultdict(int)
        self.seen = {"token_requests": 0, "calls": 0, "refused": 0, "in_flight": 0, "most_in_flight": 0}
        self.due = []
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.listener.setblocking(False)
        self.poll = select.epoll()
        self.poll.register(self.listener, select.EPOLLIN)
        self.sockets, self.unread = {}, {}

    def serve(self):
        while True:
            wait = max(0, self.due[0][0] - time.monotonic()) if self.due else -1
            for number, _ in self.poll.poll(wait):
                if number == self.listener.fileno():
                    self.accept()
                else:
                    self.read(number)
            now = time.monotonic()
            while self.due and self.due[0][0] <= now:
                _, _, number, sock, reply = heapq.heappop(self.due)
                self.seen["in_flight"] -= 1
                if self.sockets.get(number) is sock:
                    self.write(sock, reply)

    def accept(self):
        while True:
            try:
                came, _ = self.listener.accept()
            except BlockingIOError:
                return
            came.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets[came.fileno()], self.unread[came.fileno()] = came, b""
            self.poll.register(came, select.EPOLLIN)

    def read(self, number):
        sock = self.sockets[number]
        try:
            part = sock.recv(65536)
        except OSError:
            part = b""
        if not part:
            self.poll.unregister(number)
            del self.sockets[number], self.unread[number]
            sock.close()
            return
        text = self.unread[number] + part
        while True:
            head, found, rest = text.partition(b"\r\n\r\n")
            if not found:
                break
            at = head.lower().find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(rest) < length:
                break
            text = rest[length:]
            self.answer(number, sock, head.split(b" ", 2)[1].decode(), rest[:length])
        self.unread[number] = text

    def answer(self, number, sock, target, body):
        path, _, query = target.partition("?")
        if path == "/cgi-bin/stable_token":
            reply = self.token(json.loads(body))
            if self.delay:
                self.seen["in_flight"] += 1
                self.seen["most_in_flight"] = max(self.seen["most_in_flight"], self.seen["in_flight"])
                due = time.monotonic() + self.delay
                heapq.heappush(self.due, (due, self.seen["token_requests"], number, sock, reply))
                return
        elif path == "/_fake/expire":
            for appid in json.loads(body):
                self.generations[appid] += 1
            reply = {}
        elif path == "/_fake/stats":
            reply = self.seen
        else:
            reply = self.call(query, body)
        self.write(sock, reply)

    def token(self, asked):
        appid = asked["appid"]
        self.seen["token_requests"] += 1
        if asked.get("force_refresh"):
            self.generations[appid] += 1
        return {"access_token": f"{appid}-{self.generations[appid]}-{PAD}", "expires_in": LIFETIME}

    def call(self, query, body):
        self.seen["calls"] += 1
        token = parse_qs(query).get("access_token", ["--"])
        appid, generation, _ = token[0].split("-", 2)
        if len(token) > 1 or not appid:
            return {"errcode": 40014, "errmsg": "invalid access_token"}
        if int(generation) < self.generations[appid]:
            self.seen["refused"] += 1
            return {"errcode": 42001, "errmsg": "access_token expired"}
        return {"errcode": 0, "errmsg": "ok", "appid": appid, "for": json.loads(body)["for"] if body else ""}

    @staticmethod
    def write(sock, reply):
        text = json.dumps(reply).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text)
        try:
            sock.sendall(head + text)
        except OSError:
            pass


if __name__ == "__main__":
    Fake(int(sys.argv[1]), float(sys.argv[2])).serve()
