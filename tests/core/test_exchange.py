"""Our own requests on two streams: what is held against a peer that talks too much."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Self

import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from tasak.core.exchange import Exchange
from tasak.errors import CallTimedOut


class Streams:
    """Both at once: what was written to it is answered by whatever the test puts in."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[SessionMessage | None] = asyncio.Queue()
        self.requests: asyncio.Queue[Any] = asyncio.Queue()
        self.forgiven = 0
        self.offer: Callable[[bytes], bool] = lambda line: False

    def put(self, *messages: Any) -> None:
        for message in messages:
            self.incoming.put_nowait(SessionMessage(message))

    def offer_to(self, takes: Callable[[bytes], bool]) -> None:
        self.offer = takes

    def forgive(self) -> None:
        self.forgiven += 1

    async def send(self, item: SessionMessage) -> None:
        self.requests.put_nowait(item.message)

    async def aclose(self) -> None:
        self.incoming.put_nowait(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        item = await self.incoming.get()
        if item is None:
            raise StopAsyncIteration
        return item


async def why_ended() -> str:
    return "the test is over"


async def test_an_answer_is_forgiven_and_nothing_else_is():
    streams = Streams()
    exchange = Exchange(streams, streams, why_ended)
    passed_on = []

    async def read() -> None:
        passed_on.extend([item.message async for item in exchange.reader])

    reading = asyncio.create_task(read())
    asking = asyncio.create_task(exchange.request("ping", None, timeout=20))
    asked = (await streams.requests.get()).id
    progress = {"progressToken": asked, "progress": 1}
    streams.put(
        JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params={"level": "info", "data": "hello"}),
        JSONRPCNotification(jsonrpc="2.0", method="notifications/progress", params=progress),
        JSONRPCRequest(jsonrpc="2.0", id=1, method="ping"),
        JSONRPCResponse(jsonrpc="2.0", id=asked + 1, result={}),
        JSONRPCResponse(jsonrpc="2.0", id=asked, result={}),
    )
    await asking
    streams.put(JSONRPCResponse(jsonrpc="2.0", id=asked, result={}))
    await streams.aclose()
    await reading

    assert 1 == streams.forgiven
    assert 4 == len(passed_on)


# Lines that are offered before they are read


def line(**members: Any) -> bytes:
    return json.dumps(members).encode() + b"\n"


async def test_the_result_of_a_request_is_taken_and_nothing_else_is():
    streams = Streams()
    exchange = Exchange(streams, streams, why_ended)
    asking = asyncio.create_task(exchange.request("ping", None, timeout=20))
    asked = (await streams.requests.get()).id
    progress = {"progressToken": asked, "progress": 1}
    not_taken = [
        line(jsonrpc="2.0", method="notifications/progress", params=progress),
        line(jsonrpc="2.0", id=asked + 1, result={}),
        line(jsonrpc="2.0", id=asked, method="ping"),
        line(method="ping", jsonrpc="2.0", id=asked),
        line(jsonrpc="2.0", id=asked, result=[]),
        line(jsonrpc="2.0", id=str(asked), result={}),
        line(jsonrpc="2.0", id=asked, result={}, more=1),
        line(jsonrpc="2.0", id=asked, error={"code": -32000, "message": "no luck"}),
        line(jsonrpc="2.0", id=asked, result={"number": float("nan")}),
        line(jsonrpc="2.0", id=asked, result={}).replace(b"}}", b'}, "id": 1}'),
        line(jsonrpc="2.0", id=asked, result={}).replace(b"}}", b'}, "id": %d.0}' % asked),
        b'{"jsonrpc": "2.0", "id": %d, "result": %s' % (asked, b"[" * 100_000),
        b"Listening on port 8080\n",
        b"\n",
    ]

    assert [False] * len(not_taken) == [streams.offer(each) for each in not_taken]
    assert not asking.done()
    assert streams.offer(line(result={"text": "hello"}, jsonrpc="2.0", id=asked))
    assert {"text": "hello"} == await asking
    assert not streams.offer(line(jsonrpc="2.0", id=asked, result={}))


async def test_a_result_that_comes_right_before_the_end_is_the_result():
    streams = Streams()
    exchange = Exchange(streams, streams, why_ended)
    asking = asyncio.create_task(exchange.request("ping", None, timeout=20))
    asked = (await streams.requests.get()).id

    assert streams.offer(line(jsonrpc="2.0", id=asked, result={"number": 1}))
    assert not streams.offer(line(jsonrpc="2.0", id=asked, result={"number": 2}))
    exchange.end()

    assert {"number": 1} == await asking


@pytest.mark.parametrize("why", ["cancelled by the caller", "timed out"])
async def test_a_result_that_comes_when_nobody_waits_any_more_is_not_taken(why):
    streams = Streams()
    exchange = Exchange(streams, streams, why_ended)
    is_cancelled = why != "timed out"
    asking = asyncio.create_task(exchange.request("ping", None, timeout=20 if is_cancelled else 0.01))
    asked = (await streams.requests.get()).id
    if is_cancelled:
        asking.cancel()
    assert why == (await streams.requests.get()).params["reason"]

    assert not streams.offer(line(jsonrpc="2.0", id=asked, result={}))
    with pytest.raises(asyncio.CancelledError if is_cancelled else CallTimedOut):
        await asking
    assert not streams.offer(line(jsonrpc="2.0", id=asked, result={}))
