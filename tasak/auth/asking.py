"""One request of a sign-in, and what its answer means: bounded, and never led away from where it was sent."""

import asyncio
import base64
from collections.abc import Callable
from urllib.parse import parse_qs, unquote

import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError

from tasak.auth.reach import Reach, same_origin, shown
from tasak.errors import NotExecuted
from tasak.inert import one_line

# An authorization server may wake up another one behind it.
REQUEST_TIMEOUT = 20.0

# Metadata and tokens are a few kilobytes.
MAX_ANSWER = 1 << 20

# As many as the SDK follows.
REDIRECT_LIMIT = 5
# These say: the same request again, over there. The others would drop its body.
KEEPING_THE_METHOD = (307, 308)

TOO_MANY_REQUESTS = 429

# They tell how it was sent.
OF_THE_BODY = ("content-encoding", "content-length", "transfer-encoding")

PASSING_CODES = ("server_error", "temporarily_unavailable")
UNKNOWN_CLIENT_CODES = ("invalid_client", "unauthorized_client")

SECRET_FIELDS = ("client_secret", "client_assertion", "code", "code_verifier", "refresh_token", "token")

ClientFactory = Callable[[], httpx2.AsyncClient]


class Refused(Exception):
    """An authorization server said no. `code` is OAuth's word for why, where it gave one."""

    @classmethod
    def found_in(cls, response: httpx2.Response) -> "Refused | None":
        """The refusal in an answer that should be a token or a client. Some servers send one with status 200."""
        return cls(response) if response.is_error or Problem.of(response).error else None

    def __init__(self, response: httpx2.Response) -> None:
        answer = Problem.of(response)
        self.status = response.status_code
        self.code = answer.error
        secrets = secrets_in(response.request)
        words = [word for word in (answer.error, answer.error_description) if word]
        self.said = one_line(without(": ".join(words), secrets)) if words else f"HTTP {self.status}"
        super().__init__(f"{shown(response.request.url)} answered: {self.said}")

    @property
    def is_passing(self) -> bool:
        """Whether it says nothing about us, and may be over in a moment."""
        return is_passing(self.status) or self.code in PASSING_CODES

    @property
    def is_about_client(self) -> bool:
        return self.code in UNKNOWN_CLIENT_CODES


class Problem(BaseModel):
    """How OAuth says no (RFC 6749, 5.2)."""

    model_config = ConfigDict(extra="ignore")

    error: str | None = None
    error_description: str | None = None

    @classmethod
    def of(cls, response: httpx2.Response) -> "Problem":
        try:
            return cls.model_validate_json(response.content)
        except ValidationError:
            return cls()


def is_passing(status: int) -> bool:
    return status >= 500 or status == TOO_MANY_REQUESTS


async def ask(
    client: httpx2.AsyncClient, request: httpx2.Request, reach: Reach, *, is_read: bool = True
) -> httpx2.Response:
    """The answer to one request; a redirect is an answer. The body may be an endless stream: it is read if `is_read`.

    Raises:
        SignInNeeded: the request leads where none may go.
        NotExecuted: there is no answer.
    """
    await reach.check(request.url)
    reach.watch(request)
    # The SDK makes its requests without a client; a few servers answer in another form to one that does not say.
    request.headers.setdefault("Accept", "application/json")
    request.headers.setdefault("User-Agent", client.headers["User-Agent"])
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT):
            response = await client.send(request, stream=True, auth=None, follow_redirects=False)
            try:
                if is_read:
                    response = await read(response)
            finally:
                await response.aclose()
    except (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL) as problem:
        reason = one_line(str(problem)) or f"no answer within {REQUEST_TIMEOUT:g} s"
        raise NotExecuted(
            f"{shown(request.url)}, which the sign-in needs, cannot be reached: {reason}", fix="try again later"
        ) from None
    return response


async def read(response: httpx2.Response) -> httpx2.Response:
    """The same answer with its body in memory.

    Raises:
        NotExecuted: it does not end.
    """
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER:
            await response.aclose()
            raise NotExecuted(
                f"{shown(response.request.url)}, which the sign-in needs, answers with more than "
                f"{MAX_ANSWER >> 20} MiB",
                fix="see whether it is what it should be",
            )
    headers = [(name, value) for name, value in response.headers.multi_items() if name not in OF_THE_BODY]
    whole = httpx2.Response(response.status_code, headers=headers, content=bytes(body), request=response.request)
    whole.next_request = response.next_request
    await response.aclose()
    return whole


async def ask_within_origin(
    client: httpx2.AsyncClient, request: httpx2.Request, reach: Reach, *, is_read: bool = True
) -> httpx2.Response:
    """As `ask`, after the redirects that stay where the request was sent and keep what it says."""
    response = await ask(client, request, reach, is_read=is_read)
    for _ in range(REDIRECT_LIMIT):
        following = response.next_request
        if following is None or not is_followed(response, following):
            break
        response = await ask(client, following, reach, is_read=is_read)
    return response


def is_followed(response: httpx2.Response, following: httpx2.Request) -> bool:
    sent = response.request.url
    return (
        response.status_code in KEEPING_THE_METHOD
        and same_origin(sent, following.url)
        and following.url.userinfo in (b"", sent.userinfo)
    )


def secrets_in(request: httpx2.Request) -> list[str]:
    """What was sent and must not be shown: an answer may quote it."""
    form = parse_qs(request.content.decode(errors="replace"))
    secrets = [value for name in SECRET_FIELDS for value in form.get(name, ())]
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme == "Basic":
        secrets.append(unquote(base64.b64decode(credentials).decode().partition(":")[2]))
    return secrets


def without(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    return text
