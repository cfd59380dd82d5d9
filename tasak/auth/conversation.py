"""Runs a flow of the SDK's against a server, from its 401 to a token.

The flow decides what to ask; every request goes through here, so that each is held against the rules, bounded, and its
refusal told in words. The request that provokes the 401 does nothing at the server, and is not sent again.
"""

import logging
from collections.abc import Iterator
from contextlib import aclosing, contextmanager

import httpx2
from mcp.client.auth import OAuthClientProvider, OAuthFlowError, OAuthRegistrationError, OAuthTokenError

from tasak.auth.account import Account
from tasak.auth.asking import Refused, ask, ask_within_origin, is_passing
from tasak.auth.providers import issuer_of
from tasak.errors import BadConfig, NotExecuted, SignInNeeded, TasakError
from tasak.inert import one_line

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
ACCEPT = {"Accept": "application/json, text/event-stream"}
ACCEPT_STREAM = {"Accept": "text/event-stream"}

UNAUTHORIZED = 401
# What a server of the older transport has to say to a POST at its URL.
NOT_FOR_POST = (404, 405)


class Conversation:
    """One run of a flow."""

    def __init__(self, account: Account, provider: OAuthClientProvider, client: httpx2.AsyncClient) -> None:
        self._account = account
        self._context = provider.context
        self._provider = provider
        self._client = client
        self._trouble: Refused | None = None

    async def run(self) -> None:
        """Go on until the flow's context holds a token.

        Raises:
            SignInNeeded: it came to another end.
            NotExecuted: a server that it needs could not be reached, or is in trouble.
            BadConfig: the server wants no sign-in.
        """
        challenge = await challenged(self._account, self._client)
        try:
            with unheard():
                await self._answer(challenge)
        except Refused as problem:
            raise self._refusal(problem) from None
        except OAuthFlowError as problem:
            # Without its cause: what the SDK says may quote an answer with a token in it.
            raise self._failure(problem) from None
        except (httpx2.InvalidURL, ValueError):
            raise self._account.sign_in_needed("the server's answers make no sense for a sign-in") from None

    async def _answer(self, challenge: httpx2.Response) -> None:
        async with aclosing(self._provider.async_auth_flow(challenge.request)) as flow:
            await anext(flow)  # the request that was sent already
            outgoing = await flow.asend(challenge)
            while outgoing is not challenge.request:
                outgoing = await flow.asend(await self._ask(outgoing))

    async def _ask(self, outgoing: httpx2.Request) -> httpx2.Response:
        self._hold_against_what_is_known(outgoing)
        response = await ask(self._client, outgoing, self._account.reach)
        problem = Refused.found_in(response)
        if problem and outgoing.method == "POST":
            raise problem
        # The flow looks for metadata in several places, and may still find them in the next.
        if problem is None or problem.is_passing:
            self._trouble = problem
        return response

    def _hold_against_what_is_known(self, outgoing: httpx2.Request) -> None:
        metadata, named = self._context.oauth_metadata, self._context.auth_server_url
        if metadata is None and named is not None and outgoing.method == "POST":
            # The SDK would go on at the server itself, which has sent us away.
            raise OAuthFlowError(f"the authorization server {named} publishes nothing that can be used")
        self._account.reach.trust(metadata)

    def _refusal(self, problem: Refused) -> TasakError:
        server = one_line(issuer_of(self._context))
        if problem.is_passing:
            return in_trouble(self._account, server, problem)
        if self._context.client_info is None:
            return SignInNeeded(
                f"the authorization server {server} registers no client for us: {problem.said}",
                fix="register one there by hand, and write its `client_id` (and `client_secret`) under `auth:`",
            )
        return self._account.refused(f"the authorization server {server} refused", problem)

    def _failure(self, problem: OAuthFlowError) -> TasakError:
        server = one_line(issuer_of(self._context))
        if self._trouble is not None:
            return in_trouble(self._account, server, self._trouble)
        match problem:
            case OAuthRegistrationError():
                said = f"{server} answered the registration with nothing that can be used"
            case OAuthTokenError():
                said = f"{server} answered with no token that can be used"
            case _:
                said = one_line(str(problem))
        return self._account.sign_in_needed(said)


async def challenged(account: Account, client: httpx2.AsyncClient) -> httpx2.Response:
    """The 401 with which the server asks for a sign-in."""
    ping = client.build_request("POST", account.url, json=PING, headers=ACCEPT)
    response = await ask_within_origin(client, ping, account.reach, is_read=False)
    if response.status_code in NOT_FOR_POST:
        stream = client.build_request("GET", account.url, headers=ACCEPT_STREAM)
        response = await ask_within_origin(client, stream, account.reach, is_read=False)
    if response.status_code == UNAUTHORIZED:
        return response
    said = f"HTTP {response.status_code}"
    if is_passing(response.status_code):
        raise NotExecuted(f"the server is in trouble: {said}", fix="try again later")
    raise BadConfig(
        f"the server asks for no sign-in (it answered {said})",
        fix="remove `auth:` from the app, or see whether its `url:` is right",
    )


def in_trouble(account: Account, server: str, problem: Refused) -> NotExecuted:
    return NotExecuted(f"the authorization server {server} is in trouble: {problem.said}", fix="try again later")


@contextmanager
def unheard() -> Iterator[None]:
    """Keep the SDK's own report of a failure out of the logs: it quotes what servers answered, tokens included."""
    logger = logging.getLogger("mcp.client.auth.oauth2")

    def nothing(record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(nothing)
    try:
        yield
    finally:
        logger.removeFilter(nothing)
