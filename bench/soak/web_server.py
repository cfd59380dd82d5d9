"""The kit's HTTP server as a process that writes down each call, and that does harm when it is told to.

    python -m bench.soak.web_server WITNESS

prints its URLs as JSON. Then each line on stdin is a harm:

    cut SECONDS   be gone, as a process that was killed, and come back on the same port
    fail          answer the next call with 503

With the end of stdin it goes.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tasak.testing import Answers, HttpServer
from tasak.testing.tools import PARAMETERS, TEXT, Message, Report, Tools, describe

TOOLS = ("echo", "sleep", "refuse")


class ScribingServer(HttpServer):
    """Its witness gets the `text` of each call instead of the tool's name."""

    def _new_tools(self) -> Tools:
        tools = ScribingTools(self._witness, listed=self.listed, die=self._die)
        # Nobody asks what was heard, and it would fill the memory.
        tools.forget = self.requests.clear
        return tools


class ScribingTools(Tools):
    forget: Callable[[], None]

    async def call(self, name: str, given: Mapping[str, Any], report: Report) -> Message:
        self.forget()
        self.witness.note(given["text"])
        return await self._run(name, given, report)


async def main(witness: str) -> None:
    async with ScribingServer(witness=Path(witness)) as server:
        server.listed[:] = [describe(name, {**PARAMETERS[name], "text": TEXT}) for name in TOOLS]
        print(json.dumps({"url": server.url, "sse_url": server.sse_url}), flush=True)
        commands = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(commands), sys.stdin.buffer
        )
        while line := await commands.readline():
            await harm(server, *line.decode().split())


async def harm(server: HttpServer, what: str, seconds: str = "0") -> None:
    if what == "cut":
        await server.cut()
        await asyncio.sleep(float(seconds))
        await server.start()
    else:
        server.spoil("tools/call", Answers(503))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
