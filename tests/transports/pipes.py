"""A real pipe whose lines are read as a program's stdout is."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tasak.transports.stdout import Stdout

PATIENCE = 20.0


class EndOfPipe(asyncio.Protocol):
    """What asyncio has at a program's pipe: it tells of the end a turn later."""

    def __init__(self, lines: Stdout) -> None:
        self.lines = lines

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_soon(self.lines.data_received, data)

    def connection_lost(self, exc: Exception | None) -> None:
        asyncio.get_running_loop().call_soon(self.lines.end, exc)


class Pipe:
    """Its lines, and the descriptor to write to."""

    def __init__(self, lines: Stdout, transport: asyncio.ReadTransport, writing: int) -> None:
        self.lines = lines
        self.transport = transport
        self._writing = writing

    def say(self, data: bytes) -> None:
        """Write what fits into a pipe, at once."""
        assert len(data) == os.write(self._writing, data)

    def close(self) -> None:
        if self._writing >= 0:
            os.close(self._writing)
        self._writing = -1

    async def fill(self, data: bytes) -> None:
        """Write it from a thread, and close."""
        await asyncio.to_thread(self._write_all, data)

    def _write_all(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._writing, left) :]
        self.close()


@asynccontextmanager
async def piped() -> AsyncIterator[Pipe]:
    reading, writing = os.pipe()
    lines = Stdout()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: EndOfPipe(lines), os.fdopen(reading, "rb", 0))
    lines.follow(transport)
    made = Pipe(lines, transport, writing)
    try:
        async with asyncio.timeout(PATIENCE):
            yield made
    finally:
        made.close()
        transport.close()


async def rest_of(lines: Stdout) -> list[bytes]:
    found = []
    while line := await lines.readline():
        found.append(line)
    return found
