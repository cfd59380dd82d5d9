"""An MCP server over HTTP in the test's own loop: honest, unless a test asks it not to be.

`python -m tasak.testing.http_server` runs one as a process: its first line is a JSON object with its URLs.
"""

import argparse
import asyncio
import contextlib
import functools
import json
import os
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from aiohttp.typedefs import Handler

from tasak.plugin import Era
from tasak.testing.faults import Fault
from tasak.testing.legacy_sse import LegacySse
from tasak.testing.listener import Listener
from tasak.testing.peer import ContractPeer
from tasak.testing.streamable import MESSAGE, Form, Sessions, StreamableHttp
from tasak.testing.tools import Message, Tools, described
from tasak.testing.witness import Witness

BOTH_ERAS: tuple[Era, ...] = ("handshake", "stateless")

# A request may be as large as any result.
MAX_BODY = 256 << 20


@dataclass(frozen=True, slots=True)
class Heard:
    """One request, as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By names in any case."""
    message: Message
    """The JSON-RPC message; empty where there is none."""


class HttpServer:
    """The tools of `stdio_server` at `url` (streamable HTTP) and `sse_url` (HTTP+SSE), on a free port of 127.0.0.1.

    `async with` starts and stops it. A server with `only_sse` is one of 2024-11-05: its `url` refuses a POST with
    405 (or `refusal`), and a GET of it opens the stream.
    """

    def __init__(
        self,
        *,
        eras: Collection[Era] = BOTH_ERAS,
        form: Form = "either",
        only_sse: bool = False,
        refusal: int = 405,
        witness: Path | None = None,
    ) -> None:
        self.requests: list[Heard] = []
        """All that came, oldest first."""
        self.listed: list[Message] = described()
        """The tools as clients see them; a test may change this list, and call `tools_changed`."""
        self._witness = Witness(witness)
        self.streamable = StreamableHttp(self._new_tools, eras=eras, form=form)
        self.legacy = LegacySse(self._new_tools)
        self._only_sse = only_sse
        self._refusal = refusal
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._listener: Listener | None = None
        self._dying: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        assert self._listener is not None, "it has not been started"
        return self._listener.port

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/mcp"

    @property
    def sse_url(self) -> str:
        return f"{self.origin}/sse"

    @property
    def sessions(self) -> Sessions:
        """Those of streamable HTTP. `sessions.forget()` makes the next request of each get a 404."""
        return self.streamable.sessions

    async def __aenter__(self) -> Self:
        self._listener = Listener()
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        assert self._listener is not None
        await self.cut()
        self._listener.close()

    async def start(self) -> None:
        """Listen, on the same port as before: a process that was started again, with nothing in its memory."""
        assert self._listener is not None
        await self._listener.serve(self._app())

    async def cut(self) -> None:
        """Be gone at once, as a process that was killed: every connection breaks, nothing listens."""
        assert self._listener is not None
        if self._dying is not None and self._dying is not asyncio.current_task():
            await self._dying
        ended = self._stop()
        await self._listener.cut()
        # Some may have come while it was cut off.
        await asyncio.gather(*ended, *self._stop(), return_exceptions=True)
        self._dying = None

    def peer(self, options: Mapping[str, Any]) -> ContractPeer:
        """The peer that is reached with these options."""
        return ContractPeer(options=options, cut=self.cut, executed=self.executed, frozen=self.frozen)

    def spoil(self, what: str, *faults: Fault) -> None:
        """Do this to the next requests of a JSON-RPC method, or to the next `GET` or `DELETE`: a fault each."""
        self._faults[what].extend(faults)

    @contextlib.asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Connections stay, and nothing is answered or carried out meanwhile."""
        self._thawed.clear()
        try:
            yield
        finally:
            self._thawed.set()

    def tools_changed(self) -> None:
        """Tell all clients that listen that the list of tools has changed."""
        self.streamable.tools_changed()
        self.legacy.tools_changed()

    def executed(self) -> list[str]:
        """The tools that were called, by name, and `cancel` for each call that was cancelled."""
        return self._witness.words()

    def heard(self, method: str) -> list[Heard]:
        """The requests of one JSON-RPC method."""
        return [each for each in self.requests if each.message.get("method") == method]

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._hear], client_max_size=MAX_BODY)
        app.router.add_get("/sse", self.legacy.get, allow_head=False)
        app.router.add_post("/messages", self.legacy.post)
        for path in ("/mcp", "/moved"):
            if self._only_sse:
                app.router.add_get(path, self.legacy.get, allow_head=False)
                app.router.add_post(path, self._refuse)
            else:
                app.router.add_get(path, self.streamable.get, allow_head=False)
                app.router.add_post(path, self.streamable.post)
                app.router.add_delete(path, self.streamable.delete)
        return app

    @web.middleware
    async def _hear(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        message = request[MESSAGE] = await message_of(request)
        self.requests.append(Heard(request.method, request.path, request.headers, message))
        await self._thawed.wait()
        if request.headers.get("Origin", self.origin) != self.origin:
            return web.Response(status=403, text="another origin")
        try:
            return await self._answer(request, handler, message)
        except ConnectionError:  # nobody is there any more to be answered
            return web.Response()

    async def _answer(self, request: web.Request, handler: Handler, message: Message) -> web.StreamResponse:
        faults = self._faults[message.get("method", request.method)]
        if not faults:
            return await handler(request)
        endpoint = self.legacy if request.path == "/messages" else self.streamable
        return await faults.popleft().spoil(request, handler, functools.partial(endpoint.execute, request, message))

    async def _refuse(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=self._refusal)

    def _stop(self) -> "list[asyncio.Task[None]]":
        return [*self.streamable.stop(), *self.legacy.stop()]

    def _new_tools(self) -> Tools:
        return Tools(self._witness, listed=self.listed, die=self._die)

    async def _die(self) -> None:
        self._dying = asyncio.create_task(self.cut(), name="death of the server")
        await asyncio.Event().wait()


async def message_of(request: web.Request) -> Message:
    """The JSON object of the body; an empty one where there is none."""
    try:
        message: Any = json.loads(await request.read())
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


async def serve(*, only_sse: bool) -> None:
    witness = os.environ.get("EXEC")
    async with HttpServer(only_sse=only_sse, witness=Path(witness) if witness else None) as server:
        print(json.dumps({"url": server.url, "sse_url": server.sse_url}), flush=True)  # noqa: T201 - a program's output
        await asyncio.Event().wait()


def main() -> None:
    options = argparse.ArgumentParser(description="an MCP server over HTTP, to try things on")
    options.add_argument("--only-sse", action="store_true", help="speak nothing but HTTP+SSE")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(only_sse=options.parse_args().only_sse))


if __name__ == "__main__":
    main()
