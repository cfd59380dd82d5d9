"""Calls a stdio server with the mcp SDK and nothing else: the script that a user without TASAK would write.

    python sdk_script.py TOOL ARGUMENTS COMMAND…

prints what the tool answers. Then each line on stdin is a number of further calls to make, of whose seconds it prints
the least.
"""

import asyncio
import json
import sys
from time import perf_counter

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import TextContent


async def main(tool: str, arguments: str, program: str, *words: str) -> None:
    given = json.loads(arguments)
    server = StdioServerParameters(command=program, args=list(words))
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        result = await session.call_tool(tool, given)
        print(*(block.text for block in result.content if isinstance(block, TextContent)), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(min([await seconds(session, tool, given) for _ in range(int(line))]), flush=True)


async def seconds(session: ClientSession, tool: str, given: dict[str, object]) -> float:
    began = perf_counter()
    await session.call_tool(tool, given)
    return perf_counter() - began


asyncio.run(main(*sys.argv[1:]))
