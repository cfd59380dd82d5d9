"""A session with a peer that speaks MCP over two streams. Imports mcp: 560 ms that a thread should pay."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from mcp.client.session import ClientSession, IncomingMessage
from mcp.shared.message import SessionMessage
from mcp_types import ToolListChangedNotification

from tasak.core.exchange import Exchange
from tasak.core.handshake import agree
from tasak.failure import kind
from tasak.plugin import Era, Peer

if TYPE_CHECKING:
    # Types alone: nothing that runs here depends on the SDK's private parts.
    from mcp.shared._stream_protocols import ReadStream, WriteStream

log = logging.getLogger(__name__)


class StreamSession:
    """One session, of either era. `open` and `aclose` belong to one task.

    The SDK answers what the server asks of its client; requests are the exchange's.
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
        self.era: Era = "handshake"
        self.protocol_version: str | None = None
        self.server_info: Mapping[str, Any] | None = None

    async def open(self, *, first: Era, only: bool, seconds: float) -> Self:
        """Agree with the peer on how to speak, as `handshake.agree` says; where that fails, it is closed."""
        try:
            session = await self._stack.enter_async_context(
                ClientSession(self._exchange.reader, self._exchange.writer, message_handler=self._on_message)
            )
            agreed = await agree(self._exchange, first=first, only=only, seconds=seconds)
            session.adopt(agreed)
        except BaseException:
            await self.aclose()
            raise
        self.era = "handshake" if session.discover_result is None else "stateless"
        self.protocol_version = session.protocol_version
        info = session.server_info
        self.server_info = info.model_dump(by_alias=True, mode="json", exclude_none=True) if info else None
        return self

    @property
    def is_outdated(self) -> bool:
        """What it was agreed on holds no more: no call should begin on it."""
        return self._exchange.is_outdated

    async def ping(self, timeout: float) -> None:  # noqa: ASYNC109 - as for `request`
        await self.request("ping" if self.era == "handshake" else "server/discover", None, timeout=timeout)

    def last_words(self) -> Sequence[str]:
        return self._peer.last_words()

    async def aclose(self) -> None:
        """Close the session, then its peer. Never raises for a dead one."""
        try:
            await self._stack.aclose()
        except Exception as problem:  # noqa: BLE001 - the SDK's task group wraps whatever its transport raised
            log.info("closing: %s", kind(problem))
        finally:
            await self._peer.aclose()

    async def _on_message(self, message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._on_tools_changed()
