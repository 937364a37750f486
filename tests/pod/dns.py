"""A DNS server that knows WeChat's two hosts, and writes down what it was asked."""

import socket
import struct
import threading

from network import ADDRESSES, DNS_IP, inside

A, SOA, AAAA = 1, 6, 28
NO_SUCH_NAME = 3


class Dns:
    """Answers in a namespace until it is closed."""

    def __init__(self, namespace):
        self.asked = []
        self.socket = inside(namespace, self._bind)
        threading.Thread(target=self._serve, daemon=True).start()

    @staticmethod
    def _bind():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((DNS_IP, 53))
        return server

    def _serve(self):
        while True:
            try:
                query, peer = self.socket.recvfrom(512)
            except OSError:  # closed
                return
            try:
                answer = self._answer(query)
            except (IndexError, struct.error, UnicodeDecodeError):
                continue
            self.socket.sendto(answer, peer)

    def _answer(self, query):
        identity, flags = struct.unpack("!HH", query[:4])
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii"))
            at += 1 + query[at]
        question = query[12 : at + 5]
        (kind,) = struct.unpack("!H", query[at + 1 : at + 3])
        name = ".".join(labels).lower()
        self.asked.append((name, "A" if kind == A else "AAAA" if kind == AAAA else str(kind)))

        address = ADDRESSES.get(name)
        answers = authorities = b""
        if address and kind == A:
            answers = b"\xc0\x0c" + struct.pack("!HHIH", A, 1, 5, 4) + socket.inet_aton(address)
        else:
            # Without it, some resolvers take an empty answer for a broken one.
            start = b"\x00\x00" + struct.pack("!IIIII", 1, 5, 5, 5, 5)
            authorities = b"\x00" + struct.pack("!HHIH", SOA, 1, 5, len(start)) + start
        code = 0 if address else NO_SUCH_NAME
        # A response, recursion desired as asked, recursion available.
        flags = 0x8080 | flags & 0x0100 | code
        head = struct.pack("!HHHHHH", identity, flags, 1, bool(answers), bool(authorities), 0)
        return head + question + answers + authorities

    def close(self):
        self.socket.close()
