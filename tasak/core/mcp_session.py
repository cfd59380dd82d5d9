"""A session with a peer that speaks MCP over two streams. Imports mcp: 560 ms that a thread should pay."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
from mcp.client.session import ClientSession, IncomingMessage
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.shared.message import SessionMessage
from mcp_types import CONNECTION_CLOSED, Implementation, JSONRPCRequest, RequestId, ToolListChangedNotification

from tasak import __version__
from tasak.errors import CallTimedOut, ConnectFailed, NotExecuted, ServerError, SessionLost, TasakError
from tasak.plugin import OnProgress, Peer, Progress

if TYPE_CHECKING:
    # Types alone: nothing that runs here depends on the SDK's private parts.
    from mcp.shared._stream_protocols import ReadStream, WriteStream

# Above the ids that the handshake used: a session never uses one twice.
FIRST_ID = 1000

log = logging.getLogger(__name__)


class WatchedReader:
    """A read stream that says at once when it has ended."""

    def __init__(self, stream: "ReadStream[SessionMessage | Exception]", ended: asyncio.Event) -> None:
        self._stream = stream
        self._ended = ended

    async def receive(self) -> SessionMessage | Exception:
        return await self._stream.receive()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self._stream.__anext__()
        except (StopAsyncIteration, anyio.ClosedResourceError):
            self._ended.set()
            raise

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._ended.set()
        return await self._stream.__aexit__(kind, error, trace)


class WatchedWriter:
    """A write stream that knows of which requests a byte may have gone out."""

    def __init__(self, stream: "WriteStream[SessionMessage]", ended: asyncio.Event) -> None:
        self._stream = stream
        self._ended = ended
        self._under_way: set[RequestId] = set()

    def has_written(self, request: RequestId) -> bool:
        return request in self._under_way

    def forget(self, request: RequestId) -> None:
        self._under_way.discard(request)

    async def send(self, item: SessionMessage) -> None:
        request = item.message.id if isinstance(item.message, JSONRPCRequest) else None
        if request is not None:
            self._under_way.add(request)
        try:
            await self._stream.send(item)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError) as problem:
            self._ended.set()
            # Closed means: before this message. Broken may mean: in the middle of it.
            if request is not None and isinstance(problem, anyio.ClosedResourceError):
                self._under_way.discard(request)
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


class StreamSession:
    """One handshaken session (MCP 2024-11-05 to 2025-11-25). `open` and `aclose` belong to one task."""

    def __init__(
        self,
        read: "ReadStream[SessionMessage | Exception]",
        write: "WriteStream[SessionMessage]",
        peer: Peer,
        *,
        on_tools_changed: Callable[[], None],
    ) -> None:
        self.ended = asyncio.Event()
        self._writer = WatchedWriter(write, self.ended)
        self._dispatcher: JSONRPCDispatcher = JSONRPCDispatcher(WatchedReader(read, self.ended), self._writer)
        self._peer = peer
        self._on_tools_changed = on_tools_changed
        self._ids = count(FIRST_ID)
        self._stack = AsyncExitStack()
        self.pid = peer.pid
        self.protocol_version: str | None = None
        self.server_info: Mapping[str, Any] | None = None

    async def open(self) -> Self:
        """Shake hands.

        Raises:
            ConnectFailed: the peer refused, went away or spoke nonsense; it is closed.
        """
        try:
            session = await self._stack.enter_async_context(
                ClientSession(
                    dispatcher=self._dispatcher,
                    message_handler=self._on_message,
                    client_info=Implementation(name="tasak", version=__version__),
                )
            )
            await self._initialize(session)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def _initialize(self, session: ClientSession) -> None:
        try:
            answer = await session.initialize()
        except MCPError as problem:
            if problem.error.code == CONNECTION_CLOSED and self.ended.is_set():
                raise ConnectFailed(await self._peer.why_ended()) from problem
            raise ConnectFailed(f"the handshake was refused: {problem.error.message}") from problem
        except (ValueError, RuntimeError) as problem:
            raise ConnectFailed(f"the handshake failed: {problem}") from problem
        self.protocol_version = str(answer.protocol_version)
        self.server_info = answer.server_info.model_dump(by_alias=True, mode="json", exclude_none=True)

    async def request(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        *,
        timeout: float,  # noqa: ASYNC109 - it starts anew at each progress notification
        on_progress: OnProgress | None = None,
    ) -> dict[str, Any]:
        request = next(self._ids)
        try:
            async with asyncio.timeout(timeout) as deadline:
                options = self._options(request, deadline, timeout, on_progress)
                return await self._dispatcher.send_raw_request(method, params, options)
        except MCPError as problem:
            raise await self._translated(problem, request) from problem
        except (TimeoutError, anyio.BrokenResourceError, anyio.ClosedResourceError) as problem:
            if not self._writer.has_written(request):
                raise NotExecuted("the session was closed before the request was written") from problem
            raise CallTimedOut(f"no answer to {method} within {timeout:g} s") from problem
        finally:
            self._writer.forget(request)

    def _options(
        self, request: RequestId, deadline: asyncio.Timeout, seconds: float, on_progress: OnProgress | None
    ) -> CallOptions:
        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            if not deadline.expired():
                deadline.reschedule(asyncio.get_running_loop().time() + seconds)
            if on_progress:
                on_progress(Progress(progress=progress, total=total, message=message))

        return {"request_id": request, "on_progress": progressed}

    async def _translated(self, problem: MCPError, request: RequestId) -> TasakError:
        # Servers use this code for errors of their own, too: only a session that has ended means the end.
        if problem.error.code != CONNECTION_CLOSED or not self.ended.is_set():
            return ServerError(f"{problem.error.message} (JSON-RPC error {problem.error.code})")
        why = await self._peer.why_ended()
        return SessionLost(why) if self._writer.has_written(request) else NotExecuted(why)

    def last_words(self) -> Sequence[str]:
        return self._peer.last_words()

    async def aclose(self) -> None:
        """Close the session, then its peer. Never raises for a dead one."""
        try:
            await self._stack.aclose()
        except Exception as problem:  # noqa: BLE001 - the SDK's task group wraps whatever its transport raised
            log.info("closing: %r", problem)
        finally:
            await self._peer.aclose()

    async def _on_message(self, message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._on_tools_changed()
