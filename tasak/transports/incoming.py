"""What a server says over streamable HTTP: the answers to requests, fetched again where a stream broke, and the rest.

Imports httpx2 and the SDK's types: a thread should pay for it.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing

import anyio
import httpx2
from mcp_types import JSONRPCError, JSONRPCMessage, JSONRPCResponse, RequestId

from tasak.errors import NotExecuted, OutcomeUnknown, ServerError, SessionLost, SignInNeeded, TasakError
from tasak.inert import one_line
from tasak.transports.mailbox import Mailbox
from tasak.transports.messages import message_of
from tasak.transports.pace import HANDLING_EVENT, Pace
from tasak.transports.site import Site, kind_of

JSON, EVENTS = "application/json", "text/event-stream"
STREAM_HEADERS = {"accept": EVENTS, "cache-control": "no-store"}
LAST_EVENT = "last-event-id"

# Where the server does not say when to come back, or did not answer; a pause that it asks for is within these bounds.
RETRY_DELAY = 1.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.01, 30.0

# So many times in a row: a server that is gone, and with it what it would send again; callers are told at once.
RETRIES = 2

# The end of a stream comes with the answer, or a moment later; for one that comes later nobody waits.
END_TIMEOUT = 0.1

log = logging.getLogger(__name__)


class Bookmark:
    """How far an event stream was read, and when the server wants us back."""

    def __init__(self) -> None:
        self.event = ""
        self.heard = 0
        self._delay = RETRY_DELAY

    def note(self, event: httpx2.ServerSentEvent) -> None:
        self.heard += 1
        self.event = event.id or self.event
        if event.retry is not None:
            # Held against the bounds first: it may be beyond floating point.
            self._delay = min(max(event.retry, SHORTEST_PAUSE * 1000), LONGEST_PAUSE * 1000) / 1000

    def pause(self, failed: int) -> float:
        """Seconds to wait after so many tries in a row that brought nothing."""
        # Thirty doublings are longer than the longest.
        backoff = RETRY_DELAY * 2 ** min(failed - 1, 30) if failed else 0.0
        return min(max(self._delay, backoff), LONGEST_PAUSE)


class Incoming:
    """Puts all that the server says into `mailbox`. `identity` gives the headers that say who we are to it."""

    def __init__(self, site: Site, mailbox: Mailbox, identity: Callable[[], Mapping[str, str]]) -> None:
        self._site = site
        self._mailbox = mailbox
        self._identity = identity
        self._pace = Pace(handling=HANDLING_EVENT)

    async def read(self, response: httpx2.Response, request: RequestId, bookmark: Bookmark) -> bool:
        """Read until the answer; whether it came. Where it did not, `resume` may have it still.

        Raises:
            SessionLost, OutcomeUnknown: it is no answer, or breaks off.
        """
        kind = kind_of(response)
        if kind == EVENTS:
            return await self._read_events(response, request, bookmark)
        if kind != JSON:
            raise OutcomeUnknown(f"{self._site.place} sent no answer, but {described(response)}")
        body = await self._site.whole(response)
        with contextlib.suppress(ValueError):
            if self._put(message_of(body), request):
                return True
        raise OutcomeUnknown(f"{self._site.place} sent an answer that is no JSON-RPC response")

    async def read_refusal(self, response: httpx2.Response, request: RequestId) -> None:
        """Read a refusal that is a JSON-RPC error, which is an answer.

        Raises:
            SignInNeeded, ServerError, OutcomeUnknown: it is any other.
        """
        if response.status_code == httpx2.codes.UNAUTHORIZED or kind_of(response) != JSON:
            await self._site.require_success(response)
        body = await self._site.whole(response)
        with contextlib.suppress(ValueError):
            answer = message_of(body)
            if isinstance(answer, JSONRPCError):
                self._put(answer, request)
                return
        raise self._site.refused(response, body)

    async def resume(self, request: RequestId, bookmark: Bookmark) -> None:
        """Fetch the rest of a stream that broke: what was sent before is sent again, and nothing is run again.

        Raises:
            SessionLost: the answer is not to be had.
        """
        failed = 0
        while bookmark.event and failed < RETRIES:
            await self._wait(bookmark.pause(failed))
            heard = bookmark.heard
            try:
                if await self._read_again(request, bookmark):
                    return
            except (NotExecuted, OutcomeUnknown) as problem:
                log.info("an answer is not resumed yet: %s", problem.message)
            except (ServerError, SignInNeeded) as problem:
                # It did take the request, at first.
                raise SessionLost(f"{self._site.place} broke off its answer, and then: {problem.message}") from problem
            failed = 0 if bookmark.heard > heard else failed + 1
        raise SessionLost(f"{self._site.place} broke off before it had answered")

    async def listen(self) -> None:
        """Read what a handshaken server says of its own accord, for as long as it offers to."""
        bookmark, failed = Bookmark(), 0
        while True:
            heard = bookmark.heard
            try:
                await self._read_again(None, bookmark)
            except ServerError:
                return
            except TasakError as problem:
                log.debug("listening: %s", problem.message)
            failed = 0 if bookmark.heard > heard else failed + 1
            await asyncio.sleep(bookmark.pause(failed))

    async def _wait(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._site.closed.wait()
            raise SessionLost("the session was closed")

    async def _read_again(self, request: RequestId | None, bookmark: Bookmark) -> bool:
        place = {LAST_EVENT: bookmark.event} if bookmark.event else {}
        async with self._site.exchange("GET", {**STREAM_HEADERS, **self._identity(), **place}) as response:
            await self._site.require_success(response)
            if kind_of(response) != EVENTS:
                raise ServerError(f"{self._site.place} sent no event stream, but {described(response)}")
            return await self._read_events(response, request, bookmark)

    async def _read_events(self, response: httpx2.Response, request: RequestId | None, bookmark: Bookmark) -> bool:
        """Pass on what the stream brings until the answer to `request`; whether that came."""
        try:
            async with aclosing(self._site.events(response)) as events:
                async for event in events:
                    bookmark.note(event)
                    with self._pace:
                        is_answer = event.event == "message" and self._take(event, request)
                    if is_answer:
                        self._pace.forgive()
                        await read_to_end(events)
                        return True
                    await self._pace.keep()
        except httpx2.SSEError as problem:
            raise OutcomeUnknown(f"{self._site.place} sent a broken event stream: {problem}") from problem
        except httpx2.TransportError:
            if not bookmark.event:
                raise
        return False

    def _take(self, event: httpx2.ServerSentEvent, request: RequestId | None) -> bool:
        """Keep the event's message; whether it was the answer."""
        try:
            message = message_of(event.data.encode())
        except ValueError:
            log.debug("%s sent an event that is no JSON-RPC", self._site.place)
            return False
        return self._put(message, request)

    def _put(self, message: JSONRPCMessage, request: RequestId | None) -> bool:
        """Keep the message; whether it is the answer to `request`."""
        is_answer = False
        if request is not None and isinstance(message, JSONRPCResponse | JSONRPCError):
            # The response belongs to the request; a server that refused it unread could not name it.
            message.id = request
            is_answer = True
        self._mailbox.put(message)
        return is_answer


def described(response: httpx2.Response) -> str:
    return f"HTTP {response.status_code} with {one_line(kind_of(response)) or 'no content type'}"


async def read_to_end(events: AsyncIterator[httpx2.ServerSentEvent]) -> None:
    """Where the stream's end comes at once, its connection serves the next call, too."""
    with contextlib.suppress(httpx2.HTTPError), anyio.move_on_after(END_TIMEOUT):
        async for _ in events:
            pass
