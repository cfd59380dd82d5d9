"""A REST service with the tools that the contract of transports asks for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from aiohttp import web

# Beside the names of tools, what the witness writes when it learns that nobody waits for a call any more.
CANCEL = "cancel"


def operation(name: str, **properties: str) -> dict[str, Any]:
    body = {
        "type": "object",
        "required": list(properties),
        "properties": {key: {"type": kind} for key, kind in properties.items()},
    }
    content = {"application/json": {"schema": body}}
    return {
        "operationId": name,
        "responses": {"200": {"description": "done"}},
        **({"requestBody": {"required": True, "content": content}} if properties else {}),
    }


OPERATIONS = [
    operation("echo", text="string"),
    operation("counter"),
    operation("sleep", seconds="number"),
    operation("big", size="integer"),
    operation("fail", reason="string"),
    operation("die", status="integer"),
]

DESCRIPTION = {
    "openapi": "3.1.0",
    "info": {"title": "Workshop", "version": "1"},
    "servers": [{"url": "/"}],
    "paths": {f"/{each['operationId']}": {"post": each} for each in OPERATIONS},
}


class Workshop:
    """The service on a port of 127.0.0.1; `async with` opens and closes it."""

    def __init__(self) -> None:
        self.executed: list[str] = []
        self.count = 0
        self._goes_on = asyncio.Event()
        self._goes_on.set()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/openapi.json", self._describe)
        app.router.add_route("HEAD", "/", self._root)
        app.router.add_post("/{tool}", self._run)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.0, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.cut()

    async def cut(self) -> None:
        """Gone, with all its connections."""
        if self._runner.server is not None:
            for site in list(self._runner.sites):
                await site.stop()
            for connection in list(self._runner.server.connections):
                if connection.transport is not None:
                    connection.transport.abort()
        await self._runner.cleanup()

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Takes connections and requests, and does nothing."""
        self._goes_on.clear()
        try:
            yield
        finally:
            self._goes_on.set()

    async def _describe(self, request: web.Request) -> web.Response:
        return web.json_response(DESCRIPTION)

    async def _root(self, request: web.Request) -> web.Response:
        await self._goes_on.wait()
        return web.Response()

    async def _run(self, request: web.Request) -> web.Response:
        given = await request.json() if request.can_read_body else {}
        self.executed.append(request.match_info["tool"])
        match request.match_info["tool"]:
            case "counter":
                self.count += 1
                return web.Response(text=str(self.count))
            case "sleep":
                await self._sleep(given["seconds"])
            case "big":
                return web.Response(text="x" * given["size"])
            case "fail":
                return web.Response(status=409, text=given["reason"])
            case "die":
                await self.cut()
        return web.Response(text=given.get("text", ""))

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.executed.append(CANCEL)
            raise
