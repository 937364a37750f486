"""The little HTTP that an app, an operator and the fake's controls need."""

import asyncio
import json
from dataclasses import dataclass


@dataclass
class Reply:
    """A reply, and whether its connection can carry another call."""

    status: int
    headers: list
    body: bytes
    reusable: bool

    def all(self, name):
        return [value for known, value in self.headers if known == name]

    def json(self):
        """The body as JSON, or None."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def text(self):
        return self.body.decode(errors="replace").strip()


def request(method, target, headers=(), body=None):
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *headers]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


async def read_reply(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ")[1])
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = [(name.strip().lower(), value.strip()) for name, _, value in pairs]
    reply = Reply(status, headers, b"", "close" not in [v.lower() for n, v in headers if n == "connection"])
    lengths = reply.all("content-length")
    if "chunked" in reply.all("transfer-encoding"):
        while size := int(await reader.readline(), 16):
            reply.body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    elif lengths:
        reply.body = await reader.readexactly(int(lengths[0]))
    elif status not in (204, 304):
        reply.body, reply.reusable = await reader.read(), False
    return reply


async def ask(port, method, path, body=None, patience=10):
    """One call on a connection of its own; raises OSError, EOFError or TimeoutError where there is no reply."""
    async with asyncio.timeout(patience):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            encoded = None if body is None else json.dumps(body).encode()
            writer.write(request(method, path, ["Connection: close"], encoded))
            return await read_reply(reader)
        finally:
            writer.close()
