"""JSON-RPC messages over two byte streams, one a line: what a process on stdio, or one behind a pipe, speaks."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import anyio

from tasak.inert import one_line
from tasak.plugin import LineSink, LineSource
from tasak.transports.pace import Pace
from tasak.transports.reading import MAX_LINE, Messages
from tasak.transports.stdout import Stdout

if TYPE_CHECKING:
    from mcp.shared.message import SessionMessage

# The first strange lines of a server tell what it prints; the rest would fill the log.
SHOWN_STRANGE_LINES = 3

log = logging.getLogger(__name__)


class LineReader(Messages):
    """The `read` half. Strange lines are counted, shown and passed over.

    A peer that talks without end is read at a pace; a stream that has little room then keeps more from coming.
    """

    def __init__(self, stream: LineSource) -> None:
        self.strange_lines = 0
        self.first_strange = ""
        self.problem: str | None = None
        """Why reading stopped, where it was not the end of the stream."""
        self._stream = stream
        self._pace = Pace()

    async def receive(self) -> "SessionMessage | Exception":
        # Lazy: the process starts while a thread imports mcp; by now it is here.
        from tasak.transports.messages import received

        try:
            while line := await self._line():
                with self._pace:
                    try:
                        return received(line)
                    except ValueError:
                        self._note(line)
        except MemoryError:
            self.problem = "sent more than there is memory for"
        raise anyio.EndOfStream

    def offer_to(self, takes: Callable[[bytes], bool]) -> None:
        """Offer it what comes, a line at a time, before it is kept for who reads."""
        if isinstance(self._stream, Stdout):
            self._stream.first = takes

    def forgive(self) -> None:
        """The message that came last was asked for: it is not held against the peer."""
        self._pace.forgive()

    async def _line(self) -> bytes:
        await self._pace.keep()
        try:
            return await self._stream.readline()
        except ValueError:
            self.problem = f"sent a line of more than {MAX_LINE >> 20} MiB"
            return b""
        except OSError as problem:
            self.problem = f"broke off the connection: {problem}"
            return b""

    def _note(self, line: bytes) -> None:
        if not line.strip():
            return
        self.strange_lines += 1
        if self.strange_lines <= SHOWN_STRANGE_LINES:
            shown = one_line(line[:400].decode(errors="replace").strip())
            self.first_strange = self.first_strange or shown
            log.warning("not JSON-RPC on stdout: %s", shown)


class LineWriter:
    """The `write` half. A line goes to the pipe whole, in the task that sends it."""

    def __init__(self, stream: LineSink) -> None:
        self._stream = stream

    async def send(self, item: "SessionMessage") -> None:
        """Write one message.

        Raises:
            anyio.ClosedResourceError: the pipe was closed before; nothing was written.
            anyio.BrokenResourceError: it broke; some of it may have been.
        """
        # Lazy: whoever has a message has imported it.
        from tasak.transports.messages import as_text, is_notification

        if self._stream.is_closing():
            raise anyio.ClosedResourceError
        self._stream.write(as_text(item.message) + b"\n")
        if is_notification(item.message):
            # Short, and often the last word of a call whose time is over: it waits for no server that does not read.
            return
        try:
            await self._stream.drain()
        except OSError:
            raise anyio.BrokenResourceError from None
        if self._stream.is_closing():  # asyncio tells of a broken pipe one turn of the loop too late for `drain`
            raise anyio.BrokenResourceError

    def close(self) -> None:
        self._stream.close()

    async def aclose(self) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
