"""All that the author of a transport plugin imports."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pluggy

from tasak.errors import ConnectFailed, NotExecuted, OutcomeUnknown, ServerError, SessionLost, TasakError

__all__ = [
    "AppConfig",
    "ConnectFailed",
    "Host",
    "NotExecuted",
    "OnProgress",
    "OutcomeUnknown",
    "Peer",
    "Progress",
    "ServerError",
    "Session",
    "SessionLost",
    "TasakError",
    "hookimpl",
]

hookimpl = pluggy.HookimplMarker("tasak")


@dataclass(frozen=True, slots=True, kw_only=True)
class AppConfig:
    """One app of the user's config, as its transport sees it: checked, with every `${…}` filled in."""

    name: str
    options: Mapping[str, Any]
    """What the plugin's `transport_schema` describes. A property with `"format": "command"` arrives as a
    tuple of words, the program's absolute path first."""
    directory: Path | None
    """Where the app runs; None for one that has a `url`."""
    path: str
    """The caller's PATH."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One progress notification, as the server sent it."""

    progress: float
    total: float | None
    message: str | None


OnProgress = Callable[[Progress], None]


class Session(Protocol):
    """One live peer that answers requests. Many tasks may have requests under way at once."""

    ended: asyncio.Event
    """Set as soon as the peer is known to be gone."""
    pid: int | None
    protocol_version: str | None
    server_info: Mapping[str, Any] | None
    """Name and version, as the peer says them."""

    async def request(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        *,
        timeout: float,  # noqa: ASYNC109 - it starts anew at each progress notification, which no outer scope can know
        on_progress: OnProgress | None = None,
    ) -> dict[str, Any]:
        """Ask the peer and return its result. Cancelling the awaiting task cancels the request at the peer.

        `timeout` is in seconds, from the write, and starts anew at each progress notification.

        Raises:
            NotExecuted: no byte of the request was written. Only then.
            ServerError: the peer answered with an error.
            OutcomeUnknown: everything else; the request may have been carried out.
        """
        ...

    def last_words(self) -> Sequence[str]:
        """What the peer wrote on stderr lately, oldest line first; nothing where there is no stderr."""
        ...


class Peer:
    """What stands at the far end of a session's two streams: how it is called, and how it is let go."""

    pid: int | None = None

    def __init__(self, closing: AsyncExitStack) -> None:
        self._closing = closing

    def last_words(self) -> Sequence[str]:
        return ()

    async def why_ended(self) -> str:
        """Why there will be no more answers, for the error's reader. Takes half a second at the most."""
        return "the connection was closed"

    async def aclose(self) -> None:
        """Let go of the peer, alive or dead. Called once, in the task that connected."""
        await self._closing.aclose()


class McpSession(Session, Protocol):
    """A session that `Host.mcp_session` opened."""

    async def aclose(self) -> None:
        """Close the session, then its peer. In the task that opened it; never raises for a dead peer."""
        ...


class Host(Protocol):
    """What a plugin may ask of TASAK."""

    log: logging.Logger
    instance: str
    """This daemon's (or direct call's) id: children carry it as `TASAK_TREE`."""
    app_log: Path | None
    """Where an app's stderr goes; None where the home folder cannot be written."""
    init_timeout: float
    """Seconds that one attempt to connect may take, the handshake included."""

    def mcp_session(self, read: Any, write: Any, peer: Peer) -> Awaitable[McpSession]:
        """Shake hands over two streams of `SessionMessage` (as the MCP SDK's transports yield them).

        Raises:
            ConnectFailed: the handshake failed; the peer is closed.
        """
        ...

    def tools_changed(self) -> None:
        """The app's tool list is no longer what it was."""
        ...
