"""A program's stdout as lines, through a real pipe."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tasak.transports import stdout
from tasak.transports.stdout import ROOM
from tests.transports.pipes import Pipe, piped, rest_of


@pytest.fixture
async def pipe() -> AsyncIterator[Pipe]:
    async with piped() as made:
        yield made


async def test_lines_come_as_they_were_said_and_the_rest_at_the_end(pipe):
    pipe.say(b"one\ntwo\n\nth")
    pipe.say(b"ree\nrest")
    pipe.close()

    assert [b"one\n", b"two\n", b"\n", b"three\n", b"rest"] == await rest_of(pipe.lines)
    assert b"" == await pipe.lines.readline()


async def test_a_line_may_come_in_pieces_while_it_is_waited_for(pipe):
    reading = asyncio.create_task(pipe.lines.readline())
    for piece in (b"a", b"b", b"c\nd"):
        pipe.say(piece)
        await asyncio.sleep(0.01)

    assert b"abc\n" == await reading


async def test_a_line_far_longer_than_there_is_room_for_is_read(pipe):
    line = b"x" * (20 * ROOM) + b"\n"
    filling = asyncio.create_task(pipe.fill(line + b"next\n"))

    assert [line, b"next\n"] == await rest_of(pipe.lines)
    await filling


async def test_one_that_is_not_read_has_to_wait(pipe):
    line, count = b"x" * 999 + b"\n", ROOM // 200
    filling = asyncio.create_task(pipe.fill(line * count))
    while pipe.transport.is_reading():  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)

    # A pipe holds 64 KiB, and asyncio reads 256 at once.
    assert len(pipe.lines._buffer) < 4 * ROOM
    assert not filling.done()
    assert [line] * count == await rest_of(pipe.lines)
    await filling


async def test_what_is_left_in_the_pipe_of_a_program_that_has_ended_does_not_wait(pipe):
    line = b"x" * 999 + b"\n"
    filling = asyncio.create_task(pipe.fill(line * 600))
    while pipe.transport.is_reading():  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.001)

    pipe.lines.hear_out()
    await filling
    while not pipe.transport.is_closing():  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.001)

    assert [line] * 600 == await rest_of(pipe.lines)


@pytest.mark.parametrize("rest", [b"", b"\n", b"\nnext\n"], ids=["nothing", "its end", "another"])
async def test_a_line_as_long_as_one_may_be_is_read(pipe, monkeypatch, rest):
    monkeypatch.setattr(stdout, "MAX_LINE", 4 * ROOM)
    filling = asyncio.create_task(pipe.fill(b"x" * (4 * ROOM) + rest))

    assert b"x" * (4 * ROOM) + rest[:1] == await pipe.lines.readline()
    assert rest[1:] == await pipe.lines.readline()
    await filling


async def test_a_line_without_end_is_refused_before_it_fills_the_memory(pipe, monkeypatch):
    monkeypatch.setattr(stdout, "MAX_LINE", 4 * ROOM)
    filling = asyncio.create_task(pipe.fill(b"x" * (20 * ROOM)))

    with pytest.raises(ValueError, match="too long"):
        await pipe.lines.readline()

    assert len(pipe.lines._buffer) < 8 * ROOM
    pipe.transport.close()
    with pytest.raises(BrokenPipeError):
        await filling
    pipe.close()


async def test_a_broken_pipe_is_told_after_what_came_before(pipe):
    pipe.say(b"last\n")
    await asyncio.sleep(0.01)
    pipe.lines.end(OSError("broken"))

    assert b"last\n" == await pipe.lines.readline()
    with pytest.raises(OSError, match="broken"):
        await pipe.lines.readline()


class Unheld(bytes):
    """There is no memory to look at it."""

    def find(self, *_: object) -> int:
        raise MemoryError


async def test_after_a_loss_for_want_of_memory_nothing_more_is_read(pipe):
    pipe.lines.data_received(b"whole\nbegun")
    pipe.lines.data_received(Unheld(b", lost,"))
    pipe.lines.data_received(b" ended\nnext\n")

    assert b"whole\n" == await pipe.lines.readline()
    with pytest.raises(MemoryError):
        await pipe.lines.readline()


async def test_the_end_of_the_pipe_is_no_end_of_what_was_wrong(pipe):
    pipe.lines.data_received(Unheld(b"lost\n"))
    pipe.lines.end(None)

    with pytest.raises(MemoryError):
        await pipe.lines.readline()


async def test_who_was_cancelled_while_waiting_has_taken_nothing(pipe):
    reading = asyncio.create_task(pipe.lines.readline())
    pipe.say(b"li")
    await asyncio.sleep(0.01)
    reading.cancel()
    await asyncio.wait([reading])
    pipe.say(b"ne\n")

    assert b"line\n" == await pipe.lines.readline()


# Lines that are taken as they come


@pytest.fixture
def taken(pipe) -> list[bytes]:
    """What was taken: whatever begins with an `a`."""
    taken: list[bytes] = []

    def take(line: bytes) -> bool:
        if line.startswith(b"a"):
            taken.append(line)
        return line.startswith(b"a")

    pipe.lines.first = take
    return taken


async def test_a_line_that_is_taken_is_not_read_and_any_other_is(pipe, taken):
    for line in (b"a1\n", b"b\n"):
        pipe.say(line)
        await asyncio.sleep(0.01)

    assert [b"a1\n"] == taken
    assert b"b\n" == await pipe.lines.readline()


async def test_no_line_overtakes_one_that_was_not_read_yet(pipe, taken):
    for line in (b"b\n", b"a1\n"):
        pipe.say(line)
        await asyncio.sleep(0.01)

    assert [b"b\n", b"a1\n"] == [await pipe.lines.readline(), await pipe.lines.readline()]
    assert [] == taken


@pytest.mark.parametrize("pieces", [(b"a1\na2\n",), (b"a1\nb",), (b"a", b"1\n")], ids=["two", "more", "in pieces"])
async def test_only_a_whole_line_that_comes_alone_is_offered(pipe, taken, pieces):
    for piece in pieces:
        pipe.say(piece)
        await asyncio.sleep(0.01)
    pipe.close()

    assert b"".join(pieces) == b"".join(await rest_of(pipe.lines))
    assert [] == taken
