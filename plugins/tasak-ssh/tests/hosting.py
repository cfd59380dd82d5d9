"""Sessions with an app, opened by what the daemon opens them with."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tasak.testing
from tasak.plugin import ConnectFailed, McpSession
from tasak.testing.stage import Stage

PATIENCE = 30.0

STDIO_SERVER = (sys.executable, "-I", "-S", str(Path(tasak.testing.__file__).with_name("stdio_server.py")))

# Nothing polite ends it, and its child holds its stdout.
STUBBORN = f"trap '' TERM; {' '.join(STDIO_SERVER)}; sleep 1000 & while :; do sleep 1000; done"

# A server that goes away is not tried again in the other era of MCP.
ONE_TRY = {"protocol": "handshake"}


Options = Mapping[str, Any]
NO_OPTIONS: Options = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    message: str
    fix: str
    last_words: Sequence[str]


@asynccontextmanager
async def connected(options: Options = NO_OPTIONS, /, **more: Any) -> AsyncIterator[McpSession]:
    """A session with the app that has these options, closed at the end."""
    async with asyncio.timeout(PATIENCE), a_stage() as stage:
        app = stage.app({**ONE_TRY, **options, **more})
        session: Any = await stage.transport.connect(app.config, stage.host_for(app))
        try:
            yield session
        finally:
            await stage.transport.close(session)


async def refusal(options: Options = NO_OPTIONS, /, **more: Any) -> Refusal:
    """Why there is no session with that app."""
    async with asyncio.timeout(PATIENCE), a_stage() as stage:
        app = stage.app({**ONE_TRY, **options, **more})
        host = stage.host_for(app)
        try:
            session = await stage.transport.connect(app.config, host)
        except ConnectFailed as problem:
            return Refusal(message=problem.message, fix=problem.fix or "", last_words=host.last_words())
        await stage.transport.close(session)
        raise AssertionError("it connected")


async def text_of(session: McpSession, tool: str, **arguments: Any) -> str:
    """The text that a tool answers."""
    result = await session.request("tools/call", {"name": tool, "arguments": arguments}, timeout=PATIENCE)
    (block,) = result["content"]
    return str(block["text"])


@asynccontextmanager
async def a_stage() -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory() as folder:
        async with Stage(Path(folder), "ssh", init_timeout=PATIENCE) as stage:
            yield stage
