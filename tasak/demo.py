"""The embedded demo server: what a fresh install runs without any config. `tasak demo` lists its tools."""

import asyncio

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError


def make() -> MCPServer:
    """The server, ready to `run("stdio")`.

    Its tools are coroutines, since the SDK runs plain functions in threads: side by side, where `counter` would lose
    count, and later than where they are called.
    """
    server = MCPServer("tasak-demo")
    count = 0

    @server.tool()
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool()
    async def echo(text: str) -> str:
        """Give the text back."""
        return text

    @server.tool()
    async def counter() -> int:
        """Count the calls of this tool: state that a warm session keeps from one command to the next."""
        nonlocal count
        count += 1
        return count

    @server.tool()
    async def sleep(seconds: float, context: Context) -> str:
        """Sleep, and report progress once a second."""
        whole = int(seconds)
        for second in range(whole):
            await context.report_progress(second, seconds, f"{second} of {seconds:g} s")
            await asyncio.sleep(1)
        await asyncio.sleep(seconds - whole)
        return f"slept {seconds:g} s"

    @server.tool()
    async def fail(reason: str = "because you asked for it") -> str:
        """Fail, with the reason that you give."""
        raise ToolError(reason)

    return server


if __name__ == "__main__":
    make().run("stdio")
