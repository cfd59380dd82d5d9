"""All that the author of a transport plugin imports."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import pluggy

from tasak.errors import (
    BadArguments,
    BadConfig,
    CallTimedOut,
    ConnectFailed,
    NotExecuted,
    OutcomeUnknown,
    ServerError,
    SessionLost,
    SignInNeeded,
    TasakError,
)

__all__ = [
    "AppConfig",
    "BadArguments",
    "BadConfig",
    "CallTimedOut",
    "ConnectFailed",
    "Era",
    "Host",
    "LineSink",
    "LineSource",
    "McpSession",
    "NotExecuted",
    "OnProgress",
    "OutcomeUnknown",
    "Peer",
    "Progress",
    "ServerError",
    "Session",
    "SessionLost",
    "SignIn",
    "SignInNeeded",
    "SpeaksAnother",
    "TasakError",
    "hookimpl",
]

hookimpl = pluggy.HookimplMarker("tasak")


@dataclass(frozen=True, slots=True, kw_only=True)
class AppConfig:
    """One app of the user's config, as its transport sees it: checked, with every `${…}` filled in."""

    name: str
    options: Mapping[str, Any] = field(repr=False)
    """What the plugin's `transport_schema` describes. A property with `"format": "command"` arrives as a
    tuple of words, the program's absolute path first."""
    directory: Path | None
    """Where the app runs; None for one that has a `url`."""
    path: str
    """The caller's PATH."""
    program_folder: Path | None = None
    """Where a program with a slash in its name is looked for; None where `directory` is None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One progress notification, as the server sent it."""

    progress: float
    total: float | None
    message: str | None


OnProgress = Callable[[Progress], None]

Era = Literal["handshake", "stateless"]
"""How MCP is spoken: with `initialize` (2024-11-05 to 2025-11-25), or with no session at all (2026-07-28)."""


class SpeaksAnother(Exception):
    """Raised by `connect`: the peer is there, and speaks the transport of this name. It is opened with that one."""

    def __init__(self, transport: str) -> None:
        super().__init__(transport)
        self.transport = transport


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
        """What the peer wrote on stderr lately, oldest line first."""
        return ()

    async def why_ended(self) -> str:
        """Why there will be no more answers, for the error's reader. Takes half a second at the most."""
        return "the connection was closed"

    async def aclose(self) -> None:
        """Let go of the peer, alive or dead, in the task that connected. The second time it does nothing."""
        await self._closing.aclose()


class McpSession(Session, Protocol):
    """A session that `Host.mcp_session` opened."""

    async def ping(self, timeout: float) -> None:  # noqa: ASYNC109 - as for `request`
        """Make a round trip, within `timeout` seconds: `ping`, or `server/discover` where there is no `ping`."""
        ...

    async def aclose(self) -> None:
        """Close the session, then its peer. In the task that opened it; never raises for a dead peer."""
        ...


class LineSource(Protocol):
    """Where lines come from: an `asyncio.StreamReader`, or what reads like one."""

    async def readline(self) -> bytes:
        """A line with its end; b"" at the end of the stream. Raises ValueError for one that is too long."""
        ...


class LineSink(Protocol):
    """Where lines go to: an `asyncio.StreamWriter`, or what writes like one."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None:
        """Wait until what was written is on its way. Raises OSError where it will not arrive."""
        ...

    def is_closing(self) -> bool: ...

    def close(self) -> None: ...


class SignIn(Protocol):
    """The user's sign-in to one app's server. `auth` is the app's `auth:` as the config has it, checked by the schema;
    `client` makes an `httpx2.AsyncClient` that reaches what the app's own does, without its headers."""

    def flow(self, url: str, auth: Any, *, client: Callable[[], Any]) -> Any:
        """An `httpx2.Auth` for the app's requests: it adds the token, and refreshes it.

        A request that it cannot authorize raises `SignInNeeded`; it never opens a browser.
        """
        ...

    async def login(self, url: str, auth: Any, *, client: Callable[[], Any], opens_browser: bool) -> None:
        """Sign the user in.

        Raises:
            SignInNeeded: it did not come to an end.
        """
        ...

    def status(self, url: str, auth: Any) -> Mapping[str, Any]:
        """What is known of it, as JSON; no token is in it."""
        ...

    async def logout(self, url: str, auth: Any) -> bool:
        """Forget the tokens; whether there were any."""
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

    @property
    def sign_in(self) -> SignIn: ...

    def load(self, module: str) -> Awaitable[Any]:
        """Import a heavy module in a thread, one after the other: `session = await host.load("mine.session")`.

        Threads that import at the same time what imports mcp may find it half made.
        """
        ...

    def lines(self, source: LineSource, sink: LineSink) -> tuple[Any, Any]:
        """The two streams for `mcp_session`, of a peer that speaks one JSON-RPC message a line."""
        ...

    def mcp_session(self, read: Any, write: Any, peer: Peer, *, first: Era = "handshake") -> Awaitable[McpSession]:
        """Open a session over two streams of `SessionMessage`, such as the MCP SDK's transports yield.

        `first` is the era that is tried first, where the app's `protocol:` does not say which. `write.send` raises
        `anyio.ClosedResourceError` only if no byte of its message was written; a `TasakError` that it raises is the
        failure of that one request, and the session goes on.

        Raises:
            ConnectFailed: the peer refused, or spoke nonsense; it is closed. Other exceptions are for the host alone,
                and pass through `connect`: the peer may have to be opened afresh.
        """
        ...

    def tools_changed(self) -> None:
        """The app's tool list is no longer what it was."""
        ...

    def call(
        self,
        app: str,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Awaitable[Mapping[str, Any]]:
        """The result of another app's tool, over the pool: one of those that the plugin's `parts` named.

        `timeout` counts as for `Session.request`; None is what the other app's config says. For whom it is, and so what
        may be called, is known in the task of that `request` and in those that it starts.

        Raises:
            TasakError: as that call's own caller would get it.
        """
        ...

    def waits_for_sign_in(self, problem: SignInNeeded) -> None:
        """`connect` goes on only once the user has signed in somewhere else; callers are told `problem` meanwhile.

        From now on it may take five minutes instead of `init_timeout`.
        """
        ...
