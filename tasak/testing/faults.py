"""What a server may do to a request instead of answering it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from aiohttp import web

from tasak.testing.tools import Message

HTML = "<html><body><h1>It does not work</h1></body></html>"

# After so many events the stream is given up, with ids for a client that wants the rest.
ENDS_AFTER = web.RequestKey("ends_after", int)

Execute = Callable[[], Awaitable[Message]]
"""Carries the request out; its JSON-RPC response, which nobody has been sent."""
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Fault(Protocol):
    async def spoil(self, request: web.Request, answer: Answer, execute: Execute) -> web.StreamResponse: ...


@dataclass(frozen=True, slots=True)
class Answers:
    """A response of its own: an error page, nothing at all, a status that does not belong there, a wrong type."""

    status: int
    body: str | bytes = HTML
    content_type: str = "text/html"
    headers: Mapping[str, str] = field(default_factory=dict)
    executes: bool = False
    """The request is carried out before."""

    async def spoil(self, request: web.Request, answer: Answer, execute: Execute) -> web.StreamResponse:
        if self.executes:
            await execute()
        body = self.body.encode() if isinstance(self.body, str) else self.body
        headers = {"Content-Type": self.content_type, **self.headers}
        return web.Response(status=self.status, body=body, headers=headers)


def redirect(to: str, status: int = 307) -> Answers:
    """To another path of the server (it serves the same at `/moved` as at `/mcp`), or to another server."""
    return Answers(status, body=b"", headers={"Location": to})


@dataclass(frozen=True, slots=True)
class CutOff:
    """The connection breaks: before a byte of the answer, after its headers, or in the middle of its body."""

    after: Literal["nothing", "headers", "half"] = "nothing"
    executes: bool = True
    """The request is carried out before; there is no half of a body otherwise."""

    async def spoil(self, request: web.Request, answer: Answer, execute: Execute) -> web.StreamResponse:
        body = json.dumps(await execute()).encode() if self.executes else b"never sent"
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(body)
        if self.after != "nothing":
            await response.prepare(request)
            await response.write(body[: len(body) // 2 if self.after == "half" else 0])
        if request.transport is not None:
            request.transport.close()
        return response


@dataclass(frozen=True, slots=True)
class EndsEarly:
    """The event stream that carries the answer ends after so many messages of it.

    In the handshake era its events have ids, and a client may have the rest with `Last-Event-ID`; there is nothing
    of the kind in the stateless era, nor in the legacy transport.
    """

    after: int = 0

    async def spoil(self, request: web.Request, answer: Answer, execute: Execute) -> web.StreamResponse:
        request[ENDS_AFTER] = self.after
        return await answer(request)


@dataclass(frozen=True, slots=True)
class Hangs:
    """The connection stays, and no answer comes."""

    executes: bool = False
    """The request is carried out before."""

    async def spoil(self, request: web.Request, answer: Answer, execute: Execute) -> web.StreamResponse:
        if self.executes:
            await execute()
        await asyncio.Event().wait()
        raise AssertionError("only the end of the connection ends this")
