"""How many may be at a door at once, who makes room for the next, and who is taken for gone."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tasak.callers import Caller, Entrance, descriptors
from tests.core.pool import until

PATIENCE = 20.0
MOST = 4

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW_REQUEST = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Hall:
    """A door for so many, and whoever came to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.may_end = asyncio.Event()
        self.asked = 0
        self.given_up = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def come(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        self.writers.append(writer)
        return reader, writer

    async def wait(self) -> None:
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        assert isinstance(request.protocol, Caller)
        with request.protocol:
            if request.path == "/slow":
                await self.wait()
        return web.Response(text="here you are")


@pytest.fixture
async def hall(tmp_path: Path) -> AsyncIterator[Hall]:
    made = Hall(tmp_path / "door")
    app = web.Application()
    app.router.add_get("/{path:.*}", made.answer)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(made.path))
    listening.setblocking(False)
    entrance = await Entrance.open(app, listening, share=(MOST + 0.5) / descriptors())
    try:
        yield made
    finally:
        made.may_end.set()
        for writer in made.writers:
            writer.close()
        await entrance.close()


async def is_served(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes = REQUEST) -> bool:
    reader, writer = streams
    async with asyncio.timeout(PATIENCE):
        try:
            writer.write(request)
            return (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        except ConnectionError:
            return False


async def test_however_many_are_silent_the_next_one_is_served(hall):
    silent = [await hall.come() for _ in range(3 * MOST)]

    assert await is_served(await hall.come())
    # The first ones have made room, and one more for whoever was served.
    assert [False] * (2 * MOST + 1) + [True] * (MOST - 1) == [await is_served(streams) for streams in silent]


async def test_who_is_being_answered_makes_no_room(hall):
    busy = [await hall.come() for _ in range(MOST)]
    asking = [asyncio.create_task(is_served(streams, SLOW_REQUEST)) for streams in busy]
    await until(lambda: hall.asked == MOST)

    refused = await is_served(await hall.come())
    hall.may_end.set()

    assert not refused
    assert [True] * MOST == await asyncio.gather(*asking)
    assert await is_served(await hall.come())


async def test_who_ends_their_side_before_the_answer_has_gone_and_their_request_with_them(hall):
    reader, writer = await hall.come()
    writer.write(SLOW_REQUEST)
    await until(lambda: hall.asked == 1)

    writer.write_eof()

    async with asyncio.timeout(PATIENCE):
        assert b"" == await reader.read()
    await until(lambda: hall.given_up == 1)
