"""JSON-RPC messages over two byte streams, one a line: what a process on stdio, or one behind a pipe, speaks."""

import json
import logging
import math
import re
from typing import TYPE_CHECKING, Any, Self

import anyio

from tasak.inert import one_line
from tasak.plugin import LineSink, LineSource
from tasak.transports.pace import Pace

if TYPE_CHECKING:
    from mcp.shared.message import SessionMessage

# The largest message we promise to carry is 64 MiB of text, which JSON may escape to twice that.
MAX_LINE = 128 << 20

# The first strange lines of a server tell what it prints; the rest would fill the log.
SHOWN_STRANGE_LINES = 3

# How answers begin that name their request first, and end that name it last.
BEGINNING = re.compile(rb'\s*\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*([0-9]{1,18})\s*,\s*"(?:result|error)"')
END = re.compile(rb'"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*([0-9]{1,18})\s*\}\s*$')
LONGEST_END = 200
LONGEST_ID = 18

# What JSON-RPC calls it.
PARSE_ERROR = -32700

log = logging.getLogger(__name__)


class LineReader:
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
        from mcp.shared.message import SessionMessage
        from mcp_types import jsonrpc_message_adapter

        while line := await self._line():
            with self._pace.spending():
                try:
                    return SessionMessage(jsonrpc_message_adapter.validate_python(parse(line)))
                except (ValueError, RecursionError):
                    self._note(line)
        raise anyio.EndOfStream

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

    async def aclose(self) -> None:
        """Nothing: the stream ends with its process."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> "SessionMessage | Exception":
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


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
        from mcp_types import JSONRPCNotification

        if self._stream.is_closing():
            raise anyio.ClosedResourceError
        line = item.message.model_dump_json(by_alias=True, exclude_unset=True)
        self._stream.write(line.encode() + b"\n")
        if isinstance(item.message, JSONRPCNotification):
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


def parse(line: bytes) -> Any:
    """JSON as RFC 8259 has it; bytes that are not UTF-8 become U+FFFD rather than the end of the session.

    An answer that says what we do not take becomes an error to the same request: nobody waits for another one.

    Raises:
        ValueError: it is not JSON.
    """
    text = line.decode("utf-8", "replace")
    try:
        return DECODER.decode(text)
    except RecursionError:
        found = BEGINNING.match(line) or END.search(line[-LONGEST_END:])
        if not found:
            raise
        return refused(int(found[1]), "it is nested too deep")
    except ValueError:
        match loosely(text):
            case {"id": int() | str() as request, "result": _} | {"id": int() | str() as request, "error": _}:
                return refused(request, "a number in it is none, or beyond what we take")
        raise


def refused(request: int | str, why: str) -> dict[str, Any]:
    error = {"code": PARSE_ERROR, "message": f"its answer cannot be read: {why}"}
    return {"jsonrpc": "2.0", "id": request, "error": error}


def loosely(text: str) -> Any:
    """The value less the numbers that are none, or too long; None if that is no JSON either."""
    try:
        return json.loads(text, parse_constant=lambda _: None, parse_float=lambda _: None, parse_int=short)
    except (ValueError, RecursionError):
        return None


def refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits} is beyond floating point")
    return number


def short(digits: str) -> int | None:
    return int(digits) if len(digits) <= LONGEST_ID else None


# Made once: `json.loads` would make one for every line.
DECODER = json.JSONDecoder(parse_constant=refuse, parse_float=finite)
