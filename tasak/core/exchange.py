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
from mcp.shared.message import ClientMessageMetadata, SessionMessage
from mcp_types import (
    HEADER_MISMATCH,
    UNSUPPORTED_PROTOCOL_VERSION,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)

from tasak.core.stamp import Stamp
from tasak.errors import CallTimedOut, NotExecuted, ServerError, SessionLost, TasakError
from tasak.plugin import OnProgress, Progress
from tasak.transports.messages import answered_in, result_in
from tasak.transports.pace import Paced
from tasak.transports.reading import Prompt

if TYPE_CHECKING:
    # Types alone: nothing that runs here depends on the SDK's private parts.
    from mcp.shared._stream_protocols import ReadStream, WriteStream

# Above the ids that the SDK might use: a session never uses one twice.
FIRST_ID = 1000

# What began a session may not be cancelled (MCP, basic/utilities/cancellation).
GREETINGS = ("initialize", "server/discover")

# The server speaks another version than it did, or its tools take other headers: it has read no further, and what we
# know of it is worth nothing (MCP 2026-07-28, basic/transports).
OUTDATED = (HEADER_MISMATCH, UNSUPPORTED_PROTOCOL_VERSION)

# A server that asks more than this at once does not read what we answer.
MOST_QUESTIONS = 100

# No id of ours is that long.
LONGEST_ID = 20

# A server's error is for a reader, and goes into messages and logs.
LONGEST_MESSAGE = 1 << 16

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
        self.stamp = Stamp()
        self.is_outdated = False
        """The server has changed: what is under way may still be answered, and nothing more is asked."""
        self.reader = Reader(read, self)
        self.writer = Writer(write, self)
        self._why_ended = why_ended
        self._ids = count(FIRST_ID)
        self._waiting: dict[RequestId, Waiting] = {}
        self._questions: set[RequestId] = set()

    async def request(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        *,
        timeout: float,  # noqa: ASYNC109 - it starts anew at each progress notification
        on_progress: OnProgress | None = None,
        stamp: Stamp | None = None,
    ) -> dict[str, Any]:
        """As `Session.request` promises. `stamp` stands in for the session's own."""
        if self.ended.is_set():
            raise NotExecuted(await self._why_ended())
        if self.is_outdated:
            raise NotExecuted("the server has changed since this session began")
        stamp = stamp or self.stamp
        request = next(self._ids)
        was_begun = False
        try:
            async with asyncio.timeout(timeout) as deadline:
                answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
                self._waiting[request] = Waiting(answer, deadline, timeout, on_progress)
                message = as_request(request, method, params or {}, stamp)
                was_begun = True
                await self.writer.send(message)
                return stamp.heard(method, await answer)
        except anyio.ClosedResourceError:  # which means: before this message
            raise NotExecuted(await self._why_ended()) from None
        except (anyio.BrokenResourceError, Ended):  # perhaps in the middle of it, or later
            raise SessionLost(await self._why_ended()) from None
        except TimeoutError:
            await self._cancel(request, method, "timed out")
            raise CallTimedOut(f"no answer to {method} within {timeout:g} s") from None
        except asyncio.CancelledError:
            if was_begun:
                await self._cancel(request, method, "cancelled by the caller")
            raise
        finally:
            self._waiting.pop(request, None)

    async def notify(self, method: str) -> None:
        """Tell the peer something that it does not answer.

        Raises:
            SessionLost: it is gone.
        """
        try:
            await self.writer.send(as_notification(method, None, self.stamp))
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            raise SessionLost(await self._why_ended()) from None

    def takes(self, message: JSONRPCMessage) -> bool:
        """Whether it is an answer to, or progress of, one of our requests; it is then dealt with."""
        match message:
            case JSONRPCResponse():
                return self._settle(message.id, lambda answer: answer.set_result(message.result))
            case JSONRPCError():
                return self._refused(message)
            case JSONRPCNotification(method="notifications/progress", params=dict(params)):
                return self._progressed(params)
        return False

    def takes_line(self, line: bytes) -> bool:
        """Whether it is the result of one of our requests, dealt with now. All else is for who reads the stream."""
        request = answered_in(line)
        waiting = self._waiting.get(request) if request else None
        if waiting is None or waiting.answer.done() or (result := result_in(line, request)) is None:
            return False
        waiting.answer.set_result(result)
        return True

    def hears(self, message: JSONRPCMessage) -> bool:
        """Whether what the server says of its own accord is passed on.

        Of a server that asks on and on and reads no answer, no more questions are: they would fill our memory.
        """
        match message:
            case JSONRPCRequest(id=question):
                if question in self._questions or len(self._questions) >= MOST_QUESTIONS:
                    return False
                self._questions.add(question)
            case JSONRPCNotification(
                method="notifications/cancelled", params={"requestId": (int() | str()) as question}
            ):
                self._questions.discard(question)
        return True

    def answered(self, message: JSONRPCMessage) -> None:
        """It was sent, or cannot be; where it is an answer, the server may ask again."""
        if isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
            self._questions.discard(message.id)

    def end(self) -> None:
        """There will be no more answers."""
        self.ended.set()
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                fail(waiting.answer, Ended())

    def _settle(self, request: RequestId | None, settle: "Callable[[asyncio.Future[dict[str, Any]]], None]") -> bool:
        waiting = self._waiting.get(as_number(request))
        if waiting is None:
            return False
        if not waiting.answer.done():
            settle(waiting.answer)
        return True

    def _progressed(self, params: Mapping[str, Any]) -> bool:
        token = params.get("progressToken")
        waiting = self._waiting.get(as_number(token)) if isinstance(token, int | str) else None
        progress = as_progress(params)
        if waiting is None or progress is None:
            return False
        waiting.progressed(progress)
        return True

    def _refused(self, message: JSONRPCError) -> bool:
        is_outdated = message.error.code in OUTDATED and self.stamp.is_agreed
        said = quoted(message.error.message)
        problem = (
            NotExecuted(f"the server has changed: {said}")
            if is_outdated
            else ServerError(f"{said} (JSON-RPC error {message.error.code})")
        )
        is_ours = self._settle(message.id, lambda answer: fail(answer, problem))
        self.is_outdated = self.is_outdated or (is_ours and is_outdated)
        return is_ours

    async def _cancel(self, request: RequestId, method: str, reason: str) -> None:
        """Tell the peer that nobody waits any more."""
        if method in GREETINGS:
            return
        note = as_notification("notifications/cancelled", {"requestId": request, "reason": reason}, self.stamp)
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                await self.writer.send(note)
        except (TimeoutError, TasakError, anyio.ClosedResourceError, anyio.BrokenResourceError):
            return  # it is told by the end of the session


class Reader:
    """The read stream less what the exchange takes; its end is the exchange's end."""

    def __init__(self, stream: "ReadStream[SessionMessage | Exception]", exchange: Exchange) -> None:
        self._stream = stream
        self._exchange = exchange
        if isinstance(stream, Prompt):
            stream.offer_to(exchange.takes_line)
        self._forgive = stream.forgive if isinstance(stream, Paced) else lambda: None

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
                if isinstance(item, Exception):
                    return item
                if self._exchange.takes(item.message):
                    if isinstance(item.message, JSONRPCResponse | JSONRPCError):
                        self._forgive()
                elif self._exchange.hears(item.message):
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
        finally:
            self._exchange.answered(item.message)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stream.__aexit__(kind, error, trace)


def fail(answer: "asyncio.Future[dict[str, Any]]", problem: Exception) -> None:
    answer.set_exception(problem)
    # Where the request cannot even be sent, nobody else looks at it, which asyncio would tell the log.
    answer.exception()


def as_request(request: RequestId, method: str, params: Mapping[str, Any], stamp: Stamp) -> SessionMessage:
    """With a progress token in any case: progress is what keeps a slow call from its deadline."""
    meta = {**params.get("_meta", {}), **stamp.meta(), "progressToken": request}
    message = JSONRPCRequest(jsonrpc="2.0", id=request, method=method, params={**params, "_meta": meta})
    return SessionMessage(message, ClientMessageMetadata(headers=stamp.headers(method, params)))


def as_notification(method: str, params: Mapping[str, Any] | None, stamp: Stamp) -> SessionMessage:
    given = {"params": params} if params else {}
    message = JSONRPCNotification.model_validate({"jsonrpc": "2.0", "method": method, **given})
    return SessionMessage(message, ClientMessageMetadata(headers=stamp.headers(method, params or {})))


def as_progress(params: Mapping[str, Any]) -> Progress | None:
    """What a notification tells; None where it tells no number."""
    progress, message = as_amount(params.get("progress")), params.get("message")
    if progress is None:
        return None
    return Progress(
        progress=progress,
        total=as_amount(params.get("total")),
        message=message if isinstance(message, str) else None,
    )


def as_amount(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def as_number(request: Any) -> Any:
    """A peer may send back the text of a number."""
    is_digits = isinstance(request, str) and request.isascii() and request.isdigit() and len(request) < LONGEST_ID
    return int(request) if is_digits else request


def quoted(said: str) -> str:
    """A server's words for a message of ours: not without end, and no line of them looks like one of ours."""
    cut = said if len(said) <= LONGEST_MESSAGE else f"{said[: LONGEST_MESSAGE - 1]}…"
    return "\n  | ".join(cut.splitlines())
