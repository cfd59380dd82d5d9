"""The MCP SDK's own HTTP servers, in the test's loop: what the rest of the world runs."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context


class Witness:
    """What the server did, and how often each."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.noted = asyncio.Event()

    def note(self, word: str) -> None:
        self.words.append(word)
        self.noted.set()

    async def says(self, word: str) -> None:
        async with asyncio.timeout(20):
            while word not in self.words:
                self.noted.clear()
                await self.noted.wait()


def server(witness: Witness) -> MCPServer:
    """Tools that answer, report progress, and notice that nobody waits any more."""
    made = MCPServer("sdk", log_level="CRITICAL")

    @made.tool()
    async def echo(text: str) -> str:
        witness.note("echo")
        return text

    @made.tool()
    async def big(size: int) -> str:
        return "x" * size

    @made.tool()
    async def steps(count: int, seconds: float, ctx: Context[Any, Any]) -> str:
        for step in range(count):
            await asyncio.sleep(seconds)
            await ctx.report_progress(step + 1, count)
        return "done"

    @made.tool()
    async def sleep(seconds: float) -> str:
        witness.note("sleep")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            witness.note("cancel")
            raise
        return "slept"

    return made


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """The origin at which this ASGI app is served."""
    # The protocol is said outright: asyncio turns Nagle's delay off only where it is.
    place = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    place.bind(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none", timeout_graceful_shutdown=1))
    task = asyncio.create_task(running.serve(sockets=[place]))
    try:
        async with asyncio.timeout(20):
            while not running.started:  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
    finally:
        running.should_exit = True
        await task
        place.close()
