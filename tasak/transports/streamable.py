"""Streamable HTTP, both eras: one POST a message, whose response carries the answer (MCP, basic/transports).

A request is sent and its response read in the task that asks, so a caller that is cancelled closes the response, and
what fails is its own call only. Imports httpx2 and the SDK's types: a thread should pay for it.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import anyio
import httpx2
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp.shared.message import ClientMessageMetadata, SessionMessage
from mcp_types import JSONRPCMessage, JSONRPCNotification, JSONRPCRequest
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from tasak.errors import TasakError
from tasak.plugin import AppConfig, Host, Peer
from tasak.threads import aside
from tasak.transports.incoming import EVENTS, JSON, Bookmark, Incoming
from tasak.transports.mailbox import Mailbox
from tasak.transports.messages import as_text
from tasak.transports.site import Site
from tasak.transports.web import open_site

SESSION = "mcp-session-id"

# What a server answers that does not take a POST (MCP 2025-11-25, basic/transports, backwards compatibility).
KNOWS_NO_POST = (400, 404, 405)

# A server that does not let a session go.
GOODBYE_TIMEOUT = 2.0

Headers = dict[str, str]


async def open_peer(app: AppConfig, host: Host) -> "StreamablePeer":
    return StreamablePeer(await aside(open_site, app, host))


class StreamablePeer(Peer):
    """A server at one URL: it is both the peer and the `write` stream of its session."""

    def __init__(self, site: Site) -> None:
        super().__init__(AsyncExitStack())
        self.read = Mailbox()
        self.knows_no_post = False
        """It refused a message as a server does that only has an event stream."""
        self._site = site
        self._incoming = Incoming(site, self.read, self._identity)
        self._session: str | None = None
        self._version: str | None = None
        self._why_ended: str | None = None
        self._listening: asyncio.Task[None] | None = None
        self._hearing = anyio.CancelScope()
        self._asked = 0
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()

    async def send(self, item: SessionMessage) -> None:
        """Send one message; for a request, until its answer is in `read`.

        Raises:
            anyio.ClosedResourceError: the session is over, and the message was not taken.
            TasakError: what became of this request.
        """
        if self._why_ended is not None:
            raise anyio.ClosedResourceError
        headers = self._headers(item)
        match item.message:
            case JSONRPCRequest() as request:
                with self._under_way():
                    await self._ask(request, headers)
            case JSONRPCNotification(method="notifications/cancelled") if self._version in MODERN_PROTOCOL_VERSIONS:
                return  # closing the response was the cancellation
            case message:
                await self._tell(message, headers)

    async def why_ended(self) -> str:
        return self._why_ended or "the session was closed"

    async def aclose(self) -> None:
        """Say goodbye, and close the client. Never raises for a dead server."""
        try:
            if self._listening:
                # Not the task itself: httpx2 shields what it closes from anyio's cancellation, and from no other.
                self._hearing.cancel()
                await asyncio.wait([self._listening])
            await self._let_go()
        finally:
            self._end("the session was closed")
            await self._site.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.read.close()

    def _headers(self, item: SessionMessage) -> Headers:
        stamped = (item.metadata.headers if isinstance(item.metadata, ClientMessageMetadata) else None) or {}
        self._version = stamped.get(MCP_PROTOCOL_VERSION_HEADER, self._version)
        # A greeting has no stamp, and agrees on the version; the SDK's answers to the server have none either.
        known = self._session_header() if isinstance(item.message, JSONRPCRequest) else self._identity()
        return {"accept": f"{JSON}, {EVENTS}", "content-type": JSON, **known, **stamped}

    def _identity(self) -> Headers:
        version = {MCP_PROTOCOL_VERSION_HEADER: self._version} if self._version else {}
        return version | self._session_header()

    def _session_header(self) -> Headers:
        return {SESSION: self._session} if self._session else {}

    @contextlib.contextmanager
    def _under_way(self) -> Iterator[None]:
        self._asked += 1
        self._is_quiet.clear()
        try:
            yield
        finally:
            self._asked -= 1
            if not self._asked:
                self._is_quiet.set()

    async def _ask(self, request: JSONRPCRequest, headers: Headers) -> None:
        bookmark = Bookmark()
        async with self._site.exchange("POST", headers, content=as_text(request)) as response:
            if not response.is_success:
                self._note_refusal(response, is_in_session=SESSION in headers)
                await self._incoming.read_refusal(response, request.id)
                return
            if request.method == "initialize":
                self._session = response.headers.get(SESSION)
            if await self._incoming.read(response, request.id, bookmark):
                return
        await self._incoming.resume(request.id, bookmark)

    async def _tell(self, message: JSONRPCMessage, headers: Headers) -> None:
        await self._site.tell(headers, as_text(message))
        if isinstance(message, JSONRPCNotification) and message.method == "notifications/initialized":
            self._listening = asyncio.create_task(self._listen(), name=f"what {self._site.place} says")

    async def _listen(self) -> None:
        with self._hearing:
            await self._incoming.listen()

    def _note_refusal(self, response: httpx2.Response, *, is_in_session: bool) -> None:
        """
        Raises:
            anyio.ClosedResourceError: it means that there is no such session.
        """
        self.knows_no_post = response.status_code in KNOWS_NO_POST
        if response.status_code == httpx2.codes.NOT_FOUND and is_in_session:
            self._end(f"{self._site.place} has forgotten the session")
            raise anyio.ClosedResourceError

    async def _let_go(self) -> None:
        """Part with the server, which may take a moment."""
        with contextlib.suppress(TasakError), anyio.move_on_after(GOODBYE_TIMEOUT):
            if self._why_ended is not None:
                # Whoever else was asking then is about to be told by the server itself that nothing was done.
                await self._is_quiet.wait()
            elif self._session:
                async with self._site.exchange("DELETE", self._identity()):
                    return

    def _end(self, why: str) -> None:
        if self._why_ended is None:
            self._why_ended = why
            self.read.close()
