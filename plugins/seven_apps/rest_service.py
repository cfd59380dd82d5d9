"""A REST service that describes itself with OpenAPI: `rest_service.py PORT`. It counts while its process lives."""

import asyncio
import sys

from aiohttp import web
from notes import leave
from places import listening

NOTE = {"type": "object", "properties": {"note": {"type": "string"}}, "required": ["note"]}

DESCRIPTION = {
    "openapi": "3.1.0",
    "info": {"title": "Counting", "version": "1"},
    "servers": [{"url": "/v1"}],
    "paths": {
        "/counter": {
            "post": {
                "operationId": "counter",
                "summary": "Count the requests",
                "responses": {"200": {"description": "how many there were"}},
            }
        },
        "/notes": {
            "post": {
                "operationId": "slow",
                "summary": "Leave the note, and never answer",
                "requestBody": {"required": True, "content": {"application/json": {"schema": NOTE}}},
                "responses": {"200": {"description": "never"}},
            }
        },
    },
}


class Service:
    def __init__(self) -> None:
        self._count = 0

    async def describe(self, request: web.Request) -> web.Response:
        return web.json_response(DESCRIPTION)

    async def counter(self, request: web.Request) -> web.Response:
        self._count += 1
        return web.json_response(self._count)

    async def slow(self, request: web.Request) -> web.Response:
        leave((await request.json())["note"])
        await asyncio.Event().wait()
        raise AssertionError("only the end of the process ends this")

    def app(self) -> web.Application:
        made = web.Application()
        made.router.add_get("/openapi.json", self.describe)
        made.router.add_post("/v1/counter", self.counter)
        made.router.add_post("/v1/notes", self.slow)
        return made


with listening(int(sys.argv[1])) as place:
    web.run_app(Service().app(), sock=place, print=None)
