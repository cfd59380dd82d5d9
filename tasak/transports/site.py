"""One app's server, as HTTP reaches it: a request and its response, and what is known of one that failed.

Imports httpx2, which comes with mcp: a thread should pay for it.
"""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import anyio
import httpx2

from tasak.errors import NotExecuted, OutcomeUnknown, ServerError, SessionLost, SignInNeeded, TasakError
from tasak.inert import one_line
from tasak.transports.reading import MAX_LINE

# A server that is not there, on a bad line. How long an answer may take is the caller's to say.
CONNECT_TIMEOUT = 10.0

# A server that does not take what it need not answer.
TELL_TIMEOUT = 10.0

# A trailing slash, a moved path: more than that is a loop.
MAX_REDIRECTS = 5

# As much of a refusal's body as tells what it is about.
SHOWN_BODY = 300

log = logging.getLogger(__name__)


class Site:
    """The server at `url`. No message of it may be larger than `limit` bytes; `proxy` is named where it fails."""

    def __init__(
        self, client: httpx2.AsyncClient, url: str, *, proxy: str | None = None, limit: int = MAX_LINE
    ) -> None:
        self.url = url
        self.place = place(url)
        self.closed = asyncio.Event()
        self._client = client
        self._proxy = proxy
        self._limit = limit

    @asynccontextmanager
    async def exchange(
        self, method: str, headers: Mapping[str, str], *, url: str | None = None, content: bytes | None = None
    ) -> AsyncIterator[httpx2.Response]:
        """One request and its response, whose body is there to be read inside the block.

        Redirects are followed inside the URL's origin, where they keep the method: all that the request carries is
        meant for that origin.

        Raises:
            NotExecuted: no byte of the request was written.
            SessionLost: the connection broke later, in the block too.
            SignInNeeded: the app's `auth` has nothing that the server takes.
        """
        if self.closed.is_set():
            raise NotExecuted("the session was closed")
        written = Written(method)
        request = self._client.build_request(
            method, url or self.url, headers=utf8(headers), content=content, extensions={"trace": written.note}
        )
        try:
            async with aclosing(await self._followed(request)) as response:
                yield response
        except httpx2.HTTPError as problem:
            raise self._failure(problem, was_written=written.has_begun) from problem

    async def tell(self, headers: Mapping[str, str], content: bytes, *, url: str | None = None) -> None:
        """Post what needs no answer, and so is not worth an error: if the server is gone, the next request says so."""
        try:
            with anyio.fail_after(TELL_TIMEOUT):
                async with self.exchange("POST", headers, url=url, content=content) as response:
                    await self.require_success(response)
        except (TasakError, TimeoutError) as problem:
            log.info("%s did not take a message: %s", self.place, problem)

    async def require_success(self, response: httpx2.Response) -> None:
        """Raises what `refused` says, unless the server took the request."""
        if not response.is_success:
            raise self.refused(response, await beginning(response))

    def refused(self, response: httpx2.Response, body: bytes) -> SignInNeeded | ServerError | OutcomeUnknown:
        """What it means that the server did not take the request, and answered with this body (or its beginning).

        It wants to know first who asks; or it has nothing to do with such a request; or it failed, and nobody knows
        how far it had come.
        """
        if response.status_code == httpx2.codes.UNAUTHORIZED:
            return self._sign_in_needed()
        said = f"{self.place} answered {refusal(response, body)}"
        return OutcomeUnknown(said) if response.is_server_error else ServerError(said)

    async def whole(self, response: httpx2.Response) -> bytes:
        """The body.

        Raises:
            OutcomeUnknown: it is larger than any message may be.
        """
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > self._limit:
                raise OutcomeUnknown(f"the answer of {self.place} is larger than {self._limit >> 20} MiB")
        return bytes(body)

    def events(self, response: httpx2.Response) -> AsyncGenerator[httpx2.ServerSentEvent]:
        """The body as events; raises `httpx2.HTTPError` where it breaks off, or is none."""
        events = aiter(httpx2.EventSource(response, max_event_size=self._limit))
        return cast("AsyncGenerator[httpx2.ServerSentEvent]", events)  # of which httpx2 promises less than it is

    async def aclose(self) -> None:
        self.closed.set()
        await self._client.aclose()

    async def _followed(self, request: httpx2.Request) -> httpx2.Response:
        """The response after the redirects, or the first one that is not followed."""
        response = await self._client.send(request, stream=True)
        for _ in range(MAX_REDIRECTS):
            following = response.next_request
            if following is None or not stays(request, following):
                break
            await response.aclose()
            request = following
            response = await self._client.send(request, stream=True)
        return response

    def _sign_in_needed(self) -> SignInNeeded:
        # Where the config says how to sign in, the core knows what to advise.
        fix = None if self._client.auth else "write `auth: oauth` in its config, or mend the token in its headers"
        return SignInNeeded(f"{self.place} wants to know who asks (HTTP 401)", fix=fix)

    def _failure(self, problem: httpx2.HTTPError, *, was_written: bool) -> NotExecuted | SessionLost:
        reason, fix = why(problem)
        if was_written:
            return SessionLost(f"the connection to {self.place} broke before the answer: {reason}")
        through = f" through the proxy {place(self._proxy)}" if self._proxy else ""
        doubt = f"is the server running, and is `{'proxy' if self._proxy else 'url'}:` right?"
        return NotExecuted(f"{self.place} cannot be reached{through}: {reason}", fix=fix or doubt)


class Written:
    """Whether a byte of the request may have left us. A proxy's CONNECT is no byte of it."""

    def __init__(self, method: str) -> None:
        self.has_begun = False
        self._method = method.encode()

    async def note(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith("send_request_headers.started"):
            self.has_begun = self.has_begun or info["request"].method == self._method


def utf8(headers: Mapping[str, str]) -> httpx2.Headers:
    """Headers of any alphabet; httpx2 by itself refuses what is not ASCII."""
    return httpx2.Headers(headers, encoding="utf-8")


def stays(request: httpx2.Request, following: httpx2.Request) -> bool:
    is_same = request.url.origin == following.url.origin and request.method == following.method
    return is_same and not following.url.userinfo


def place(url: str | httpx2.URL) -> str:
    """Where it is, without what may be a secret in it."""
    return one_line(str(httpx2.URL(url).copy_with(userinfo=b"", query=None, fragment=None)))


def why(problem: httpx2.HTTPError) -> tuple[str, str | None]:
    """The reason for a reader, and what to do about it."""
    for cause in causes(problem):
        match cause:
            case ssl.SSLCertVerificationError():
                advice = "if you trust who issued it, write the file of that certificate as `ca_file:` in its config"
                return f"its certificate is not trusted: {cause.verify_message.rstrip('.')}", advice
            case ssl.SSLError():
                return f"no TLS: {cause.reason or cause}", None
            case socket.gaierror():
                return f"{cause.strerror}".lower(), None
            case OSError(errno=int(number)):
                return os.strerror(number).lower(), None
    if isinstance(problem, httpx2.ConnectTimeout):
        return f"no connection within {CONNECT_TIMEOUT:g} s", None
    return one_line(str(problem)).rstrip(".") or type(problem).__name__, None


def causes(problem: BaseException) -> Iterator[BaseException]:
    """The error, and what it came from."""
    found: BaseException | None = problem
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__
        if isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]


def refusal(response: httpx2.Response, body: bytes) -> str:
    status = f"HTTP {response.status_code} {one_line(response.reason_phrase)}".strip()
    if response.next_request is not None:
        return f"{status}: it points to {place(response.next_request.url)}, which is not followed"
    said = one_line(body[:SHOWN_BODY].decode("utf-8", "replace").strip())
    return f"{status}: {said}" if said else status


async def beginning(response: httpx2.Response) -> bytes:
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) >= SHOWN_BODY:
            break
    return body


def kind_of(response: httpx2.Response) -> str:
    """Its media type, without parameters."""
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()
