"""A TCP relay whose target and certificate can change: for TLS, and for a store that fails over."""

import asyncio
import contextlib
import socket
import ssl

from lib.processes import free_port


class Relay:
    """Passes bytes on to a port of this machine. With a certificate it speaks TLS to those who connect."""

    def __init__(self, target):
        self.port, self.target = free_port(), target
        # It listens as long as the relay lives, whatever serves it.
        self.socket = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self.server = None
        self.connections = set()

    async def start(self, certificate=None):
        """Listens. `certificate` is the paths of chain and key."""
        context = None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
        self.server = await asyncio.start_server(self.serve, sock=self.socket.dup(), ssl=context)
        return self

    async def present(self, certificate):
        """Shows another certificate. All connections end, and no TLS session can be resumed. New ones wait."""
        await self.hang_up()
        await self.start(certificate)

    async def serve(self, reader, writer):
        task = asyncio.current_task()
        self.connections.add(task)
        # It is cancelled when the relay stops.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target)
            try:
                await asyncio.gather(pump(reader, other_writer), pump(other_reader, writer))
            finally:
                other_writer.close()
        writer.close()
        self.connections.discard(task)

    async def stop(self):
        self.socket.close()
        await self.hang_up()

    async def hang_up(self):
        self.server.close()
        for connection in list(self.connections):
            connection.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)


async def pump(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
