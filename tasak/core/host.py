"""What a transport plugin may ask of TASAK, for one connection."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from tasak.core.era import Spoken
from tasak.importing import load_aside
from tasak.plugin import Era, LineSink, LineSource, McpSession, OnProgress, Peer, SignIn, SignInNeeded
from tasak.transports.lines import LineReader, LineWriter


class CallPart(Protocol):
    """Calls a tool of one of the apps that this one is made of."""

    def __call__(
        self,
        app: str,
        tool: str,
        arguments: Mapping[str, Any],
        on_progress: OnProgress | None,
        timeout: float | None,
        /,
    ) -> Awaitable[Mapping[str, Any]]: ...


@dataclass(kw_only=True)
class AppHost:
    """The `Host` of one connection."""

    instance: str
    app_log: Path | None
    init_timeout: float
    log: logging.Logger
    protocol: Spoken
    open_sign_in: Callable[[], SignIn]
    on_tools_changed: Callable[[], None]
    call_part: CallPart
    era: Era | None = None
    """The one that the peer was found to speak; set before it is opened, the one that is tried first."""
    on_sign_in_needed: Callable[[SignInNeeded], None] = field(default=lambda problem: None, init=False)
    peer: Peer | None = field(default=None, init=False)
    """Whom the plugin is talking to, once it has told us."""

    @cached_property
    def sign_in(self) -> SignIn:
        return self.open_sign_in()

    async def load(self, module: str) -> ModuleType:
        return await load_aside(module)

    def lines(self, source: LineSource, sink: LineSink) -> tuple[LineReader, LineWriter]:
        return LineReader(source), LineWriter(sink)

    async def mcp_session(self, read: Any, write: Any, peer: Peer, *, first: Era = "handshake") -> McpSession:
        self.peer = peer
        try:
            # Lazy: 560 ms.
            module = await self.load("tasak.core.mcp_session")
        except BaseException:
            await peer.aclose()
            raise
        opening = module.StreamSession(read, write, peer, on_tools_changed=self.on_tools_changed)
        if self.protocol == "auto":
            session = await opening.open(first=self.era or first, only=False, seconds=self.init_timeout)
        else:
            session = await opening.open(first=self.protocol, only=True, seconds=self.init_timeout)
        self.era = session.era
        opened: McpSession = session
        return opened

    def tools_changed(self) -> None:
        self.on_tools_changed()

    async def call(
        self,
        app: str,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as for `Session.request`
        on_progress: OnProgress | None = None,
    ) -> Mapping[str, Any]:
        return await self.call_part(app, tool, arguments, on_progress, timeout)

    def waits_for_sign_in(self, problem: SignInNeeded) -> None:
        self.on_sign_in_needed(problem)

    def last_words(self) -> Sequence[str]:
        return self.peer.last_words() if self.peer else ()
