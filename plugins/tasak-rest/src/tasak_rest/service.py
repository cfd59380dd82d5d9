"""The service, over HTTP: requests that never leave its origin, and what is known of those that fail."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Self

import httpcore2
import httpx2
from tasak.plugin import BadConfig, CallTimedOut, ConnectFailed, NotExecuted, OutcomeUnknown, TasakError

from tasak_rest.options import Options

# As large as the results that TASAK carries.
LARGEST_ANSWER = 64 << 20

# Trailing slashes and moved paths take one; a circle takes all.
MAX_REDIRECTS = 5

# Below the 5 s after which many servers close an idle connection: a request that is written into one that is being
# closed has no known outcome.
KEEPALIVE = 4.0
# As many calls as are made at once in a busy hour; the others open connections of their own.
IDLE_CONNECTIONS = 50

# Only these repeat the request as it was; after 301 and 302, clients turn a POST into a GET.
SAME_REQUEST = (307, 308)
SAFE_METHODS = ("GET", "HEAD")


class TooLarge(Exception):
    """The service answered with more than is taken: its message says so."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, and its whole body without content encodings."""

    response: httpx2.Response
    body: bytes

    @property
    def status(self) -> str:
        return f"{self.response.status_code} {self.response.reason_phrase}".strip()

    @property
    def text(self) -> str:
        return self.body.decode(self.response.encoding or "utf-8", "replace")


class Service:
    """One HTTP origin. Makes an SSL context: 20 ms and more that a thread should pay."""

    def __init__(self, base: httpx2.URL, options: Options, *, headers: Mapping[str, str]) -> None:
        self.base = base
        self._connect_timeout = options.timeout
        self._client = client(options, headers)

    @classmethod
    async def open(cls, base: httpx2.URL, options: Options, *, headers: Mapping[str, str]) -> Self:
        return await asyncio.to_thread(cls, base, options, headers=headers)

    def request(
        self, method: str, url: httpx2.URL, *, headers: Any = None, content: bytes | None = None
    ) -> httpx2.Request:
        """A request that has the service's headers, too."""
        return self._client.build_request(method, url, headers=headers, content=content)

    async def send(self, request: httpx2.Request, *, seconds: float, largest: int = LARGEST_ANSWER) -> Answer:
        """The service's answer, whatever its status. `seconds` count from the first byte that is written.

        Raises:
            NotExecuted: no byte was written.
            OutcomeUnknown: everything else but an answer.
            TooLarge: the answer is more than `largest` bytes.
        """
        writing = Writing(seconds)
        try:
            async with asyncio.timeout(self._connect_timeout) as writing.deadline:
                request.extensions = {**request.extensions, "trace": writing.trace}
                return await self._answer(request, largest)
        except TimeoutError:
            raise writing.timed_out(place(request)) from None
        except httpx2.RequestError as problem:
            raise writing.failure(place(request), problem) from problem
        finally:
            await writing.let_go()

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _answer(self, request: httpx2.Request, largest: int) -> Answer:
        response = await self._client.send(request, stream=True)
        for _ in range(MAX_REDIRECTS):
            if not self._may_follow(response):
                break
            assert response.next_request is not None
            await response.aclose()
            response = await self._client.send(response.next_request, stream=True)
        try:
            return Answer(response, await whole_body(response, largest))
        finally:
            await response.aclose()

    def _may_follow(self, response: httpx2.Response) -> bool:
        """Whether it leads to the same request at another place of the same origin, which the headers are meant for."""
        if response.next_request is None or response.next_request.url.origin != self.base.origin:
            return False
        return response.status_code in SAME_REQUEST or response.request.method in SAFE_METHODS


class Writing:
    """Whether a byte of a request may have been written; from then on its `seconds` count."""

    deadline: asyncio.Timeout

    def __init__(self, seconds: float) -> None:
        self.has_begun = False
        self._is_certain = False
        self._seconds = seconds
        self._half_open: httpcore2.AsyncNetworkStream | None = None

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """What httpcore2 tells of a request's progress; of each one, where it was redirected."""
        match event:
            case "connection.connect_tcp.complete":
                self._half_open = info["return_value"]
            case "connection.start_tls.complete":
                self._half_open = None
            # A CONNECT is to a proxy: nothing of the request itself.
            case "http11.send_request_headers.started" if info["request"].method != b"CONNECT":
                self._begin()
            case "http11.send_request_headers.complete":
                self._is_certain = self.has_begun
            # It is checked before it is written.
            case "http11.send_request_headers.failed" if isinstance(info["exception"], httpcore2.LocalProtocolError):
                self.has_begun = self._is_certain

    def timed_out(self, where: str) -> TasakError:
        if self.has_begun:
            return CallTimedOut(f"no answer to {where} within {self._seconds:g} s")
        return NotExecuted(
            f"{where}: no connection in time", fix="is the service up? raise `timeout` if it is far away"
        )

    def failure(self, where: str, problem: httpx2.RequestError) -> TasakError:
        # httpx2 quotes the header that HTTP cannot carry; it may be a secret.
        reason = "a header that HTTP cannot carry" if isinstance(problem, httpx2.LocalProtocolError) else told(problem)
        if self.has_begun:
            return OutcomeUnknown(f"{where}: the connection broke before the answer was there: {reason}")
        return NotExecuted(f"{where}: it cannot be reached: {reason}")

    async def let_go(self) -> None:
        """Close what httpcore2 2.16 leaves open when TLS is cancelled, as by a timeout, before it stands."""
        if self._half_open is not None:
            await self._half_open.aclose()

    def _begin(self) -> None:
        self._half_open = None
        if not self.has_begun and not self.deadline.expired():
            self.deadline.reschedule(asyncio.get_running_loop().time() + self._seconds)
        self.has_begun = True


async def whole_body(response: httpx2.Response, largest: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > largest:
            raise TooLarge(f"the answer to {place(response.request)} is larger than {largest >> 20} MiB")
    return bytes(body)


def place(request: httpx2.Request) -> str:
    """How messages call it."""
    return f"{request.method} {bare(request.url)}"


def bare(url: httpx2.URL) -> httpx2.URL:
    """Without what may be a secret in it."""
    return url.copy_with(query=None, fragment=None, userinfo=b"")


def told(problem: Exception) -> str:
    return str(problem) or type(problem).__name__


def client(options: Options, headers: Mapping[str, str]) -> httpx2.AsyncClient:
    """
    Raises:
        BadConfig: the proxy or the certificates are of no use.
    """
    own = {"User-Agent": f"tasak-rest/{version('tasak-rest')}", "Accept": "application/json, */*;q=0.5"}
    verify = trusted(options)
    try:
        return httpx2.AsyncClient(
            headers={**own, **headers},
            timeout=None,
            verify=verify,
            proxy=options.proxy,
            trust_env=False,  # the environment is the daemon's, and ~/.netrc nobody's business
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=IDLE_CONNECTIONS, keepalive_expiry=KEEPALIVE
            ),
        )
    except (httpx2.InvalidURL, ValueError) as problem:
        raise BadConfig(f"proxy: {options.proxy} cannot be used: {problem}") from problem


def trusted(options: Options) -> ssl.SSLContext | bool:
    if options.ca_file is None:
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(options.ca_file)
    except (OSError, ssl.SSLError) as problem:
        raise BadConfig(f"ca_file: {options.ca_file} cannot be used: {problem}") from problem
    return context


def as_url(url: str, what: str, *, against: httpx2.URL | None = None, fix: str | None = None) -> httpx2.URL:
    """
    Raises:
        ConnectFailed: `url`, which is `what`, is none.
    """
    try:
        parsed = httpx2.URL(url) if against is None else against.join(url)
    except (httpx2.InvalidURL, ValueError) as problem:
        raise ConnectFailed(f"{what}: {url!r} is no URL: {problem}", fix=fix) from problem
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConnectFailed(f"{what}: {url!r} is no http:// or https:// URL", fix=fix)
    return parsed
