"""Lines of JSON-RPC over real pipes."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from tasak.transports.lines import LineReader, LineWriter
from tasak.transports.reading import MAX_LINE

PATIENCE = 20.0


def answer(number: int, **result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode()


def text_of(message: Any) -> str:
    return message.message.result["text"]


@asynccontextmanager
async def pipe_with(*chunks: bytes, bound: int = MAX_LINE) -> AsyncIterator[LineReader]:
    """The reading end of a pipe that a thread fills with `chunks` and closes."""
    reading, writing = os.pipe()
    stream = asyncio.StreamReader(limit=bound)
    protocol = asyncio.StreamReaderProtocol(stream)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(reading, "rb", 0))
    filling = asyncio.create_task(asyncio.to_thread(fill, writing, chunks))
    try:
        async with asyncio.timeout(PATIENCE):
            yield LineReader(stream)
    finally:
        # A writer that is not read to the end would wait for ever; with nobody to read it breaks off.
        transport.close()
        await filling


def fill(writing: int, chunks: tuple[bytes, ...]) -> None:
    try:
        with open(writing, "wb", buffering=0) as pipe:
            for chunk in chunks:
                left = memoryview(chunk)
                while left:
                    left = left[pipe.write(left) :]
    except BrokenPipeError:
        pass


async def ids_in(reader: LineReader) -> list[Any]:
    return [item.message.id async for item in reader]


# Reading


@pytest.mark.parametrize(
    "raw",
    [
        answer(1) + b"\n" + answer(2) + b"\n",
        answer(1) + b"\r\n" + answer(2) + b"\r\n",
        b"\n\r\n  \n" + answer(1) + b"\n\t\n\n" + answer(2) + b"\n",
        b" " + answer(1) + b" \n" + answer(2) + b"\n",
        answer(1) + b"\n" + answer(2),
    ],
    ids=["lines", "CRLF", "empty lines", "blanks around", "no newline at the end"],
)
async def test_messages_are_read_however_their_lines_end(raw):
    async with pipe_with(raw) as reader:
        assert [1, 2] == await ids_in(reader)

    assert (0, None) == (reader.strange_lines, reader.problem)


async def test_a_message_may_come_byte_by_byte_and_two_in_one_chunk():
    raw = answer(1) + b"\n" + answer(2) + b"\n" + answer(3) + b"\n"
    single = [raw[at : at + 1] for at in range(20)]

    async with pipe_with(*single, raw[20:]) as reader:
        assert [1, 2, 3] == await ids_in(reader)


async def test_requests_and_notifications_of_the_peer_are_messages_too():
    request = b'{"jsonrpc": "2.0", "id": "a", "method": "ping"}\n'
    notification = b'{"jsonrpc": "2.0", "method": "notifications/x", "params": {"a": 1}}\n'

    async with pipe_with(request, notification) as reader:
        kinds = [type(item.message) async for item in reader]

    assert [JSONRPCRequest, JSONRPCNotification] == kinds


class Short:
    """A stream of lines for which memory is short."""

    async def readline(self) -> bytes:
        raise MemoryError


async def test_what_there_is_no_memory_for_ends_the_reading_and_is_told():
    reader = LineReader(Short())

    with pytest.raises(anyio.EndOfStream):
        await reader.receive()
    assert "sent more than there is memory for" == reader.problem


async def test_the_end_of_the_stream_is_the_end_and_stays_it():
    async with pipe_with(answer(1) + b"\n") as reader:
        await reader.receive()

        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await reader.receive()

    assert reader.problem is None


STRANGE = {
    "text": b"Listening on port 8080",
    "half a message": answer(9)[:-1],
    "two in one line": answer(8) + answer(9),
    "a batch": b"[" + answer(8) + b"," + answer(9) + b"]",
    "an empty array": b"[]",
    "null": b"null",
    "a number": b"1",
    "a string": b'"hello"',
    "an object": b"{}",
    "a log record": b'{"level": "info", "message": "ready"}',
    "no version": b'{"id": 9, "result": {}}',
    "another version": b'{"jsonrpc": "1.0", "id": 9, "result": {}}',
    "a result that is none": b'{"jsonrpc": "2.0", "id": 9, "result": []}',
    "NaN": b'{"jsonrpc": "2.0", "method": "x", "params": {"a": NaN}}',
    "Infinity": b'{"jsonrpc": "2.0", "method": "x", "params": {"a": Infinity}}',
    "beyond floating point": b'{"jsonrpc": "2.0", "method": "x", "params": {"a": [-1e999]}}',
    "a hundred thousand brackets": b"[" * 100_000,
    "ten thousand digits": b'{"jsonrpc": "2.0", "id": ' + b"9" * 10_000 + b', "result": {}}',
    "zero bytes": b"\x00\x00\x00",
    "no UTF-8 at all": bytes(range(128, 256)),
}


@pytest.mark.parametrize("line", STRANGE.values(), ids=STRANGE)
async def test_a_strange_line_is_counted_and_passed_over(line):
    async with pipe_with(answer(1) + b"\n" + line + b"\n" + answer(2) + b"\n") as reader:
        assert [1, 2] == await ids_in(reader)

    assert (1, None) == (reader.strange_lines, reader.problem)


async def test_the_first_three_strange_lines_are_logged_and_the_rest_counted(caplog):
    lines = b"".join(b"banner %d\n" % number for number in range(50))

    async with pipe_with(lines + answer(1) + b"\n") as reader:
        assert [1] == await ids_in(reader)

    assert 50 == reader.strange_lines
    assert [f"not JSON-RPC on stdout: banner {number}" for number in range(3)] == caplog.messages


async def test_a_strange_line_is_logged_inert_and_short(caplog):
    async with pipe_with(b"\x1b[2J\xff\xe2\x80\xae" + b"x" * 10_000 + b"\n") as reader:
        assert [] == await ids_in(reader)

    (message,) = caplog.messages
    assert message.startswith("not JSON-RPC on stdout: \\x1b[2J\N{REPLACEMENT CHARACTER}\\u202exxx")
    assert len(message) < 250


async def test_bytes_that_are_not_utf8_become_replacement_characters_and_nothing_else_happens():
    raw = answer(1, text="a?b").replace(b"?", b"\xff\xc3") + b"\n" + answer(2, text="ok") + b"\n"

    async with pipe_with(raw) as reader:
        texts = [text_of(item) async for item in reader]

    assert ["a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b", "ok"] == texts
    assert 0 == reader.strange_lines


async def test_a_line_at_the_bound_is_read():
    line = answer(1, text="x" * 5000)

    async with pipe_with(line + b"\n", bound=len(line)) as reader:
        assert [1] == await ids_in(reader)

    assert reader.problem is None


@pytest.mark.parametrize("end", [b"\n" + answer(2) + b"\n", b""], ids=["a line", "no end in sight"])
async def test_a_line_above_the_bound_ends_the_reading_with_a_problem(end):
    async with pipe_with(answer(1) + b"\n" + answer(9, text="x" * 200_000) + end, bound=1000) as reader:
        assert [1] == await ids_in(reader)

    assert "sent a line of more than 128 MiB" == reader.problem


async def seconds_to_read(mebibytes: int) -> float:
    """Of this process's own work: the machine may be busy."""
    line = answer(1, text="x" * (mebibytes << 20)) + b"\n"
    async with pipe_with(line) as reader:
        began = time.thread_time()
        item = await reader.receive()
        took = time.thread_time() - began
    assert mebibytes << 20 == len(text_of(item))
    return took


@pytest.mark.slow
async def test_a_large_line_takes_time_in_proportion_to_its_length():
    small = min([await seconds_to_read(4) for _ in range(3)])
    large = min([await seconds_to_read(64) for _ in range(3)])

    # Sixteen times as long; what is quadratic takes 256 times.
    assert large < 64 * small


# Writing


class Echo:
    """A process that sends back what it gets, with our two halves at its ends."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.reader = LineReader(process.stdout)
        self.writer = LineWriter(process.stdin)


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    process = await asyncio.create_subprocess_exec(
        "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=MAX_LINE
    )
    made = Echo(process)
    yield made
    made.writer.close()
    await asyncio.wait_for(process.wait(), PATIENCE)


def request(request_id: int, **params: Any) -> SessionMessage:
    return SessionMessage(JSONRPCRequest(jsonrpc="2.0", id=request_id, method="tools/call", params=params))


async def test_a_message_arrives_as_it_was_sent(echo):
    sent = request(1, text="zażółć\n\u2028\N{SNOWMAN}", number=2**53 + 1, nothing=None, nested={"a": [1.5, True]})

    await echo.writer.send(sent)

    assert sent.message == (await echo.reader.receive()).message


async def test_a_message_is_one_line_that_says_no_more_than_was_set(echo):
    response = SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=1, result={"text": "a\nb\r\u0085"}))

    await echo.writer.send(response)
    await echo.writer.send(SessionMessage(JSONRPCNotification(jsonrpc="2.0", method="x")))

    first, second = [await echo.process.stdout.readline() for _ in range(2)]
    assert {"jsonrpc": "2.0", "id": 1, "result": {"text": "a\nb\r\u0085"}} == json.loads(first)
    assert {"jsonrpc": "2.0", "method": "x"} == json.loads(second)


async def test_messages_that_many_tasks_send_do_not_mix(echo):
    # Each is larger than a pipe holds.
    messages = [request(number, text=str(number) * 200_000) for number in range(10)]

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for message in messages:
            group.create_task(echo.writer.send(message))
        came = [await echo.reader.receive() for _ in messages]

    assert [message.message for message in messages] == [item.message for item in came]
    assert 0 == echo.reader.strange_lines


async def test_a_closed_pipe_takes_nothing(echo):
    echo.writer.close()

    with pytest.raises(anyio.ClosedResourceError):
        await echo.writer.send(request(1))

    assert [] == await ids_in(echo.reader)


async def test_closing_twice_is_closing_once(echo):
    async with echo.writer:
        echo.writer.close()

    await echo.writer.aclose()


async def test_a_pipe_that_breaks_in_the_middle_of_a_message_is_broken_and_closed_afterwards(echo):
    # More than the pipes and the program hold: the write waits for a reader, and there is none.
    writing = asyncio.create_task(echo.writer.send(request(1, text="x" * (8 << 20))))
    await asyncio.wait_for(echo.process.stdout.readexactly(1), PATIENCE)

    echo.process.kill()

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(anyio.BrokenResourceError):
            await writing
        with pytest.raises(anyio.ClosedResourceError):
            await echo.writer.send(request(2))
