"""HTTP with server-sent events, as MCP had it in 2024: one long GET for what the server says, a POST for each message.

Imports httpx2 and the SDK's types: a thread should pay for it.
"""

import logging
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import anyio
import httpx2
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCRequest

from tasak.errors import ConnectFailed, NotExecuted, OutcomeUnknown, ServerError
from tasak.plugin import AppConfig, Host, Peer
from tasak.threads import aside
from tasak.transports.messages import as_text, message_of
from tasak.transports.pace import HANDLING_EVENT, Pace
from tasak.transports.reading import Messages
from tasak.transports.site import Site, place, why
from tasak.transports.web import open_site

STREAM_HEADERS = {"accept": "text/event-stream", "cache-control": "no-store"}
MESSAGE_HEADERS = {"content-type": "application/json"}

log = logging.getLogger(__name__)


async def open_peer(app: AppConfig, host: Host) -> "EventStreamPeer":
    """Open the app's event stream, and learn where messages go.

    Raises:
        ConnectFailed: there is no such stream.
        SignInNeeded: the server wants to know first who asks.
    """
    async with AsyncExitStack() as stack:
        site = await aside(open_site, app, host)
        stack.push_async_callback(site.aclose)
        try:
            response = await stack.enter_async_context(site.exchange("GET", STREAM_HEADERS))
            await site.require_success(response)
        except (NotExecuted, OutcomeUnknown, ServerError) as problem:
            # Nothing was asked for yet but the stream.
            raise ConnectFailed(problem.message, fix=problem.fix) from problem
        events = Events(site, response)
        target = target_of(response.url, await events.endpoint())
        return EventStreamPeer(site, target, events, stack.pop_all())


class EventStreamPeer(Peer):
    """A server of 2024: it is the peer and the `write` stream of its session; `read` are its events."""

    def __init__(self, site: Site, target: str, events: "Events", closing: AsyncExitStack) -> None:
        super().__init__(closing)
        self.read = events
        self._site = site
        self._target = target

    async def send(self, item: SessionMessage) -> None:
        """Send one message.

        Raises:
            anyio.ClosedResourceError: the session is over, and the message was not taken.
            TasakError: what became of this request.
        """
        if self.read.has_ended:
            raise anyio.ClosedResourceError
        body = as_text(item.message)
        if not isinstance(item.message, JSONRPCRequest):
            await self._site.tell(MESSAGE_HEADERS, body, url=self._target)
            return
        async with self._site.exchange("POST", MESSAGE_HEADERS, url=self._target, content=body) as response:
            if response.status_code == httpx2.codes.NOT_FOUND:  # at an address that it gave us for this session
                self.read.end("has forgotten the session")
                raise anyio.ClosedResourceError
            await self._site.require_success(response)

    async def why_ended(self) -> str:
        if not self.read.has_ended:
            return "the session was closed"
        return f"{self._site.place} {self.read.problem or 'ended its event stream'}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing: whoever opened it closes it."""


class Events(Messages):
    """The messages among the events of one response."""

    def __init__(self, site: Site, response: httpx2.Response) -> None:
        self.has_ended = False
        self.problem: str | None = None
        """What ended it, where it was not the end of the stream."""
        self._site = site
        self._events = aiter(site.events(response))
        self._pace = Pace(handling=HANDLING_EVENT)

    async def endpoint(self) -> str:
        """Where messages go: what the first event says.

        Raises:
            ConnectFailed: it says something else.
        """
        event = await self._next()
        if event is None or event.event != "endpoint":
            trouble = f", and {self.problem}" if self.problem else ""
            raise ConnectFailed(f"{self._site.place} names no endpoint, as a server with events would{trouble}")
        return event.data

    def end(self, problem: str | None = None) -> None:
        """What comes now belongs to no session."""
        if not self.has_ended:
            self.has_ended = True
            self.problem = problem

    async def receive(self) -> SessionMessage | Exception:
        while event := await self._next():
            with self._pace:
                if event.event == "message" and event.data:
                    try:
                        return SessionMessage(message_of(event.data.encode()))
                    except ValueError:
                        log.debug("%s sent an event that is no JSON-RPC", self._site.place)
        raise anyio.EndOfStream

    def forgive(self) -> None:
        """The message that came last was asked for: it is not held against the peer."""
        self._pace.forgive()

    async def _next(self) -> httpx2.ServerSentEvent | None:
        await self._pace.keep()
        try:
            return await anext(self._events)
        except StopAsyncIteration:
            self.end()
        except httpx2.HTTPError as problem:
            self.end(f"broke off its event stream: {why(problem)[0]}")
        return None


def target_of(base: httpx2.URL, endpoint: str) -> str:
    """The URL that messages are posted to.

    Raises:
        ConnectFailed: it is none, or one of another origin.
    """
    try:
        target = base.join(endpoint)
        is_within = target.origin == base.origin
    except (httpx2.InvalidURL, ValueError) as problem:
        raise ConnectFailed(f"{place(base)} wants its messages sent to what is no URL") from problem
    if not is_within:
        raise ConnectFailed(f"{place(base)} wants its messages sent to {place(target)}, which is another origin")
    return str(target)
