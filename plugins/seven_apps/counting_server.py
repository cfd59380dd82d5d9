"""An MCP server made with the Python SDK: `counting_server.py` on stdio, `counting_server.py PORT sse`, or `PORT http`.

It counts for as long as its process lives.
"""

import asyncio
import sys
from typing import Any

import uvicorn
from mcp.server import MCPServer
from notes import leave
from places import listening


def make() -> MCPServer:
    server = MCPServer("counting", log_level="CRITICAL")
    count = 0

    @server.tool()
    def counter() -> int:
        """Count the calls of this tool."""
        nonlocal count
        count += 1
        return count

    @server.tool()
    def echo(text: str) -> str:
        """Give the text back."""
        return text

    @server.tool()
    async def slow(note: str) -> None:
        """Leave the note, and never answer."""
        leave(note)
        await asyncio.Event().wait()

    return server


def serve(app: Any, port: int) -> None:
    with listening(port) as place:
        uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none")).run(sockets=[place])


match sys.argv[1:]:
    case []:
        make().run("stdio")
    case [port, "sse"]:
        serve(make().sse_app(), int(port))
    case [port, "http"]:
        serve(make().streamable_http_app(), int(port))
