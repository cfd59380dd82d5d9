"""Server-sent events: streams of messages that a client which lost one may have again from where it was."""

import asyncio
import json
from collections.abc import Callable, Mapping

from aiohttp import web

from tasak.testing.tools import Message

HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream:
    """The messages of one stream, kept."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._messages: list[Message] = []
        self._is_over = False
        self._changed = asyncio.Event()

    def send(self, message: Message) -> None:
        self._messages.append(message)
        self._wake()

    def end(self) -> None:
        """There will be no more messages."""
        self._is_over = True
        self._wake()

    async def message(self, number: int) -> Message | None:
        """The message of that number, counted from 1, once it is there; None where the stream ends before."""
        while len(self._messages) < number and not self._is_over:
            await self._changed.wait()
        return self._messages[number - 1] if number <= len(self._messages) else None

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def event(data: str, **fields: str | int | None) -> bytes:
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\n".join([*lines, f"data: {data}", "", ""]).encode()


def event_id(stream: EventStream, number: int) -> str:
    return f"{stream.name}/{number}"


def parsed_id(text: str) -> tuple[str, int]:
    """The stream's name and the message's number.

    Raises:
        ValueError: it is no id of ours.
    """
    name, _, number = text.rpartition("/")
    return name, int(number)


async def write(
    request: web.Request,
    stream: EventStream,
    *,
    after: int = 0,
    until: int | None = None,
    first: bytes = b"",
    is_resumable: bool = False,
    on_sent: Callable[[int], None] | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Answer with the stream's messages from number `after` on, an event each, to its end or to number `until`.

    `first` goes before them; with `is_resumable` the events have ids that a client may come back with.
    """
    response = web.StreamResponse(headers={**HEADERS, **(headers or {})})
    await response.prepare(request)
    await response.write(first)
    number = after
    while number != until and (message := await stream.message(number + 1)):
        number += 1
        await response.write(event(json.dumps(message), id=event_id(stream, number) if is_resumable else None))
        if on_sent:
            on_sent(number)
    await response.write_eof()
    return response
