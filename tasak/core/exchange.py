"""Our own requests on a session's two streams: who waits for which answer. What else comes is the SDK's to read.

The SDK's dispatcher could send them too, more slowly (docs/decisions/0009-our-own-requests.md); and only who writes the
request knows whether a byte of it was written, which is what decides over repeating it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import (
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)

from tasak.errors import CallTimedOut, NotExecuted, ServerError, SessionLost
from tasak.plugin import OnProgress, Progress

if TYPE_CHECKING:
    # Types alone: nothing that runs here depends on the SDK's private parts.
    from mcp.shared._stream_protocols import ReadStream, WriteStream

# Above the ids that the SDK's handshake uses: a session never uses one twice.
FIRST_ID = 1000

# A transport that does not take a cancellation any more is about to end anyway.
CANCEL_TIMEOUT = 1.0


class Ended(Exception):
    """The streams ended before the answer came."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Who waits for an answer, and until when."""

    answer: "asyncio.Future[dict[str, Any]]"
    deadline: asyncio.Timeout
    seconds: float
    on_progress: OnProgress | None

    def progressed(self, progress: Progress) -> None:
        """Begin the time anew, and pass it on."""
        if not self.deadline.expired():
            self.deadline.reschedule(asyncio.get_running_loop().time() + self.seconds)
        if self.on_progress:
            self.on_progress(progress)


class Exchange:
    """The requests of one session. Its `reader` and `writer` stand for the two streams to whoever uses them, too."""

    def __init__(
        self,
        read: "ReadStream[SessionMessage | Exception]",
        write: "WriteStream[SessionMessage]",
        why_ended: Callable[[], Awaitable[str]],
    ) -> None:
        self.ended = asyncio.Event()
        self.reader = Reader(read, self)
        self.writer = Writer(write, self)
        self._why_ended = why_ended
        self._ids = count(FIRST_ID)
        self._waiting: dict[RequestId, Waiting] = {}

    async def request(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        *,
        timeout: float,  # noqa: ASYNC109 - it starts anew at each progress notification
        on_progress: OnProgress | None = None,
    ) -> dict[str, Any]:
        """As `Session.request` promises."""
        if self.ended.is_set():
            raise NotExecuted(await self._why_ended())
        request = next(self._ids)
        was_begun = False
        try:
            async with asyncio.timeout(timeout) as deadline:
                answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
                self._waiting[request] = Waiting(answer, deadline, timeout, on_progress)
                message = SessionMessage(as_request(request, method, params))
                was_begun = True
                await self.writer.send(message)
                return await answer
        except anyio.ClosedResourceError:  # which means: before this message
            raise NotExecuted(await self._why_ended()) from None
        except (anyio.BrokenResourceError, Ended):  # perhaps in the middle of it, or later
            raise SessionLost(await self._why_ended()) from None
        except TimeoutError:
            await self._cancel(request, "timed out")
            raise CallTimedOut(f"no answer to {method} within {timeout:g} s") from None
        except asyncio.CancelledError:
            if was_begun:
                await self._cancel(request, "cancelled by the caller")
            raise
        finally:
            self._waiting.pop(request, None)

    def takes(self, message: JSONRPCMessage) -> bool:
        """Whether it is an answer to, or progress of, one of our requests; it is then dealt with."""
        match message:
            case JSONRPCResponse():
                return self._settle(message.id, lambda answer: answer.set_result(message.result))
            case JSONRPCError():
                return self._settle(message.id, lambda answer: answer.set_exception(server_error(message)))
            case JSONRPCNotification(method="notifications/progress", params=dict(params)):
                return self._progressed(params)
        return False

    def end(self) -> None:
        """There will be no more answers."""
        self.ended.set()
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(Ended())

    def _settle(self, request: RequestId | None, settle: "Callable[[asyncio.Future[dict[str, Any]]], None]") -> bool:
        waiting = self._waiting.get(as_number(request))
        if waiting is None:
            return False
        if not waiting.answer.done():
            settle(waiting.answer)
        return True

    def _progressed(self, params: Mapping[str, Any]) -> bool:
        waiting = self._waiting.get(as_number(params.get("progressToken")))
        progress = as_progress(params)
        if waiting is None or progress is None:
            return False
        waiting.progressed(progress)
        return True

    async def _cancel(self, request: RequestId, reason: str) -> None:
        """Tell the peer that nobody waits any more."""
        note = JSONRPCNotification(
            jsonrpc="2.0", method="notifications/cancelled", params={"requestId": request, "reason": reason}
        )
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                await self.writer.send(SessionMessage(note))
        except (TimeoutError, anyio.ClosedResourceError, anyio.BrokenResourceError):
            return  # it is told by the end of the session


class Reader:
    """The read stream less what the exchange takes; its end is the exchange's end."""

    def __init__(self, stream: "ReadStream[SessionMessage | Exception]", exchange: Exchange) -> None:
        self._stream = stream
        self._exchange = exchange

    async def receive(self) -> SessionMessage | Exception:
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            raise anyio.EndOfStream from None

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            while True:
                item = await self._stream.__anext__()
                if isinstance(item, Exception) or not self._exchange.takes(item.message):
                    return item
        except (StopAsyncIteration, anyio.ClosedResourceError):
            self._exchange.end()
            raise

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._exchange.end()
        return await self._stream.__aexit__(kind, error, trace)


class Writer:
    """The write stream; where it turns out to be closed, that is the exchange's end."""

    def __init__(self, stream: "WriteStream[SessionMessage]", exchange: Exchange) -> None:
        self._stream = stream
        self._exchange = exchange

    async def send(self, item: SessionMessage) -> None:
        try:
            await self._stream.send(item)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._exchange.end()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stream.__aexit__(kind, error, trace)


def as_request(request: RequestId, method: str, params: Mapping[str, Any] | None) -> JSONRPCRequest:
    """With a progress token in any case: progress is what keeps a slow call from its deadline."""
    given = params or {}
    meta = {**given.get("_meta", {}), "progressToken": request}
    return JSONRPCRequest(jsonrpc="2.0", id=request, method=method, params={**given, "_meta": meta})


def as_progress(params: Mapping[str, Any]) -> Progress | None:
    """What a notification tells; None where it tells no number."""
    match params:
        case {"progress": (int() | float()) as progress}:
            total, message = params.get("total"), params.get("message")
            return Progress(
                progress=float(progress),
                total=float(total) if isinstance(total, int | float) else None,
                message=message if isinstance(message, str) else None,
            )
    return None


def server_error(message: JSONRPCError) -> ServerError:
    return ServerError(f"{message.error.message} (JSON-RPC error {message.error.code})")


def as_number(request: Any) -> Any:
    """A peer may send back the text of a number."""
    return int(request) if isinstance(request, str) and request.isascii() and request.isdigit() else request
