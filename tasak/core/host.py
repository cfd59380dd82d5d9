"""What a transport plugin may ask of TASAK, for one connection."""

import asyncio
import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasak.plugin import McpSession, Peer


@dataclass(kw_only=True)
class AppHost:
    """The `Host` of one connection."""

    instance: str
    app_log: Path | None
    init_timeout: float
    log: logging.Logger
    on_tools_changed: Callable[[], None]
    peer: Peer | None = field(default=None, init=False)
    """Whom the plugin is talking to, once it has told us."""

    async def mcp_session(self, read: Any, write: Any, peer: Peer) -> McpSession:
        self.peer = peer
        try:
            # Lazy, and in a thread: 560 ms for which the loop has other callers.
            module = await asyncio.to_thread(importlib.import_module, "tasak.core.mcp_session")
        except BaseException:
            await peer.aclose()
            raise
        session: McpSession = await module.StreamSession(
            read, write, peer, on_tools_changed=self.on_tools_changed
        ).open()
        return session

    def tools_changed(self) -> None:
        self.on_tools_changed()

    def last_words(self) -> Sequence[str]:
        return self.peer.last_words() if self.peer else ()
