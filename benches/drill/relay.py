"""A TCP relay whose target and certificate can change: for TLS, and for a store that fails over.

It is a process of its own, so that a busy drill does not slow it down: `relay.py PORT STATE`. The file STATE has its
target and its certificate. The target is read for each connection, and the certificate again on SIGHUP.
"""

import asyncio
import contextlib
import json
import signal
import socket
import ssl
import sys
from pathlib import Path


class Serving:
    """Passes bytes on to a port of this machine. With a certificate it speaks TLS to those who connect."""

    def __init__(self, port, state):
        # It listens all the time, whatever serves it.
        self.socket, self.state = socket.create_server(("127.0.0.1", port), backlog=1024), state
        self.server = None
        self.connections = set()

    def read(self):
        return json.loads(self.state.read_text())

    async def begin(self):
        certificate, context = self.read()["certificate"], None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
        self.server = await asyncio.start_server(self.serve, sock=self.socket.dup(), ssl=context)

    async def begin_again(self):
        """All connections end, and no TLS session can be resumed. New ones wait."""
        self.server.close()
        for connection in list(self.connections):
            connection.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)
        await self.begin()

    async def serve(self, reader, writer):
        task = asyncio.current_task()
        self.connections.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.read()["target"])
            try:
                await asyncio.gather(pump(reader, other_writer), pump(other_reader, writer))
            finally:
                other_writer.close()
        writer.close()
        self.connections.discard(task)


async def pump(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def main(port, state):
    serving, hang_up = Serving(port, state), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up.set)
    await serving.begin()
    while await hang_up.wait():
        hang_up.clear()
        await serving.begin_again()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
