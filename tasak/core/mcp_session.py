"""A session with a peer that speaks MCP over two streams. Imports mcp: 560 ms that a thread should pay."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from mcp.client.session import ClientSession, IncomingMessage
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types import CONNECTION_CLOSED, Implementation, ToolListChangedNotification

from tasak import __version__
from tasak.core.exchange import Exchange
from tasak.errors import ConnectFailed
from tasak.plugin import Peer

if TYPE_CHECKING:
    # Types alone: nothing that runs here depends on the SDK's private parts.
    from mcp.shared._stream_protocols import ReadStream, WriteStream

log = logging.getLogger(__name__)


class StreamSession:
    """One handshaken session (MCP 2024-11-05 to 2025-11-25). `open` and `aclose` belong to one task.

    The SDK shakes hands, and answers what the server asks of its client; requests are the exchange's.
    """

    def __init__(
        self,
        read: "ReadStream[SessionMessage | Exception]",
        write: "WriteStream[SessionMessage]",
        peer: Peer,
        *,
        on_tools_changed: Callable[[], None],
    ) -> None:
        self._exchange = Exchange(read, write, peer.why_ended)
        self._peer = peer
        self._on_tools_changed = on_tools_changed
        self._stack = AsyncExitStack()
        self.request = self._exchange.request
        self.ended = self._exchange.ended
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
                    self._exchange.reader,
                    self._exchange.writer,
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
            # Servers use this code for errors of their own, too: only a session that has ended means the end.
            if problem.error.code == CONNECTION_CLOSED and self.ended.is_set():
                raise ConnectFailed(await self._peer.why_ended()) from problem
            raise ConnectFailed(f"the handshake was refused: {problem.error.message}") from problem
        except (ValueError, RuntimeError) as problem:
            raise ConnectFailed(f"the handshake failed: {problem}") from problem
        self.protocol_version = str(answer.protocol_version)
        self.server_info = answer.server_info.model_dump(by_alias=True, mode="json", exclude_none=True)

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
