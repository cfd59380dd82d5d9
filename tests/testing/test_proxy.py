"""The proxy spoils exactly the bytes that its plan names. Behind it stands a server that answers in capitals."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tasak.testing import FaultProxy, Plan, Way, no_leaks

PATIENCE = 20.0
# Long enough to be sure that nothing comes.
SILENCE = 0.1

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Shouting:
    """Answers each piece in capitals, and remembers what it was told."""

    def __init__(self) -> None:
        self.heard = b""
        self.has_lost = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(65536):
                self.heard += piece
                writer.write(piece.upper())
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.has_lost.set()
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[tuple[Shouting, int]]:
    shouting = Shouting()
    async with no_leaks():
        listening = await asyncio.start_server(shouting.answer, "127.0.0.1", 0)
        yield shouting, listening.sockets[0].getsockname()[1]
        listening.close()


@contextlib.asynccontextmanager
async def through(
    port: int, *plans: Plan
) -> AsyncIterator[tuple[FaultProxy, asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(PATIENCE), FaultProxy(("127.0.0.1", port), plans) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            yield proxy, reader, writer
        finally:
            writer.close()


async def is_silent(reader: asyncio.StreamReader) -> bool:
    try:
        await asyncio.wait_for(reader.read(1), SILENCE)
    except TimeoutError:
        return True
    return False


async def test_without_a_plan_everything_passes_and_is_counted(server):
    shouting, port = server

    async with through(port) as (proxy, reader, writer):
        writer.write(b"hello")
        assert b"HELLO" == await reader.readexactly(5)
        writer.write_eof()

        assert b"" == await reader.read()
        assert [(5, 5)] == [(each.up.passed, each.down.passed) for each in proxy.passages]
    assert b"hello" == shouting.heard


@pytest.mark.parametrize("after", range(6))
async def test_a_cut_on_the_way_up_comes_after_exactly_so_many_bytes(server, after):
    shouting, port = server

    async with through(port, Plan(up=Way(cut_after=after))) as (proxy, reader, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(b"hello")
            assert after >= len(await reader.read())
        await shouting.has_lost.wait()

        assert after == proxy.passages[0].up.passed
    assert b"hello"[:after] == shouting.heard


@pytest.mark.parametrize("after", range(6))
async def test_a_cut_on_the_way_down_comes_after_exactly_so_many_bytes(server, after):
    shouting, port = server

    async with through(port, Plan(down=Way(cut_after=after))) as (_, reader, writer):
        writer.write(b"hello")

        assert b"HELLO"[:after] == await reader.read()
        await shouting.has_lost.wait()


async def test_a_reset_is_a_cut_that_reading_fails_of(server):
    shouting, port = server

    async with through(port, Plan(down=Way(cut_after=2), rst=True)) as (_, reader, writer):
        writer.write(b"hello")

        with pytest.raises(ConnectionResetError):
            await reader.readexactly(5)
        await shouting.has_lost.wait()


async def test_closed_before_the_reply_the_request_arrives_and_no_answer_does(server):
    shouting, port = server

    async with through(port, Plan(close_before_reply=True)) as (_, reader, writer):
        writer.write(b"hello")

        assert b"" == await reader.read()
    assert b"hello" == shouting.heard


async def test_a_stall_lets_so_many_bytes_through_and_closes_nothing(server):
    shouting, port = server

    async with through(port, Plan(down=Way(stall_after=2))) as (proxy, reader, writer):
        writer.write(b"hello")

        assert b"HE" == await reader.readexactly(2)
        assert await is_silent(reader)
        assert not shouting.has_lost.is_set()
        await proxy.cut()
        assert b"" == await reader.read()


async def test_a_half_close_ends_one_direction_and_the_other_goes_on(server):
    shouting, port = server

    async with through(port, Plan(down=Way(half_close_after=2))) as (proxy, reader, writer):
        writer.write(b"hello")
        assert b"HE" == await reader.read()

        writer.write(b" again")
        writer.write_eof()
        await shouting.has_lost.wait()
        assert len(b"hello again") == proxy.passages[0].up.passed
    assert b"hello again" == shouting.heard


@pytest.mark.parametrize("at", range(5))
async def test_one_byte_arrives_corrupted(server, at):
    shouting, port = server
    expected = bytearray(b"hello")
    expected[at] ^= 0xFF

    async with through(port, Plan(up=Way(corrupt=at))) as (_, reader, writer):
        writer.write(b"hello")
        await reader.readexactly(5)

    assert expected == shouting.heard


async def test_a_corrupted_byte_is_found_whatever_pieces_come(server):
    shouting, port = server

    async with through(port, Plan(up=Way(corrupt=3))) as (_, reader, writer):
        for byte in b"hello":
            writer.write(bytes([byte]))
            await reader.readexactly(1)

    assert b"hel" + bytes([ord("l") ^ 0xFF]) + b"o" == shouting.heard


async def test_a_delay_holds_every_piece(server):
    _, port = server

    async with through(port, Plan(up=Way(delay=0.1), down=Way(delay=0.1))) as (_, reader, writer):
        began = time.monotonic()
        writer.write(b"hello")
        await reader.readexactly(5)

        assert 0.2 <= time.monotonic() - began


async def test_a_narrow_way_lets_bytes_through_evenly(server):
    _, port = server

    async with through(port, Plan(down=Way(bandwidth=10_000))) as (_, reader, writer):
        began = time.monotonic()
        writer.write(b"x" * 2000)
        await reader.readexactly(500)
        quarter = time.monotonic() - began
        await reader.readexactly(1500)
        whole = time.monotonic() - began

    assert 0.05 <= quarter
    assert 0.2 <= whole
    assert quarter < whole


async def test_each_connection_takes_the_next_plan_and_then_all_is_well(server):
    _, port = server
    plans = [Plan(down=Way(cut_after=1)), Plan(down=Way(cut_after=2))]

    async with asyncio.timeout(PATIENCE), FaultProxy(("127.0.0.1", port), plans) as proxy:
        answers = []
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(b"hello")
            writer.write_eof()
            answers.append(await reader.read())
            writer.close()

    assert [b"H", b"HE", b"HELLO"] == answers


async def test_a_target_that_is_not_there_is_an_end(unused_tcp_port):
    async with through(unused_tcp_port) as (_, reader, _):
        assert b"" == await reader.read()


@pytest.mark.parametrize("turns", range(10))
async def test_closed_it_leaves_no_connection_however_new_it_is(server, turns):
    _, port = server

    async with FaultProxy(("127.0.0.1", port)) as proxy:
        connecting = asyncio.create_task(asyncio.open_connection("127.0.0.1", proxy.port))
        for _ in range(turns):
            await asyncio.sleep(0)

    with contextlib.suppress(ConnectionError):
        reader, writer = await connecting
        assert b"" == await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()


async def test_large_amounts_pass_unchanged(server):
    _, port = server
    sent = bytes(range(97, 123)) * 100_000

    async with through(port) as (proxy, reader, writer):
        sending = asyncio.create_task(send_all(writer, sent))
        assert sent.upper() == await reader.read()
        await sending

        assert len(sent) == proxy.passages[0].down.passed


async def send_all(writer: asyncio.StreamWriter, content: bytes) -> None:
    writer.write(content)
    await writer.drain()
    writer.write_eof()


async def test_it_stands_before_and_behind_unix_sockets(tmp_path: Path):
    shouting = Shouting()
    async with no_leaks():
        listening = await asyncio.start_unix_server(shouting.answer, tmp_path / "server")
        async with FaultProxy(tmp_path / "server", [Plan(down=Way(cut_after=3))], listen=tmp_path / "proxy"):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "proxy")
            writer.write(b"hello")
            assert b"HEL" == await asyncio.wait_for(reader.read(), PATIENCE)
            writer.close()
        listening.close()
