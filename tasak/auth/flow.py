"""Puts a token on each request of an app. It asks no person, opens nothing, and sends the token nowhere else."""

from collections.abc import AsyncGenerator
from typing import Protocol

import httpx2
from mcp.client.auth.utils import extract_field_from_www_auth, extract_scope_from_www_auth

from tasak.auth.reach import same_origin
from tasak.errors import SignInNeeded
from tasak.inert import one_line
from tasak.secret import Secret

UNAUTHORIZED = 401
FORBIDDEN = 403


class Tokens(Protocol):
    """Where the token comes from."""

    async def current(self) -> Secret:
        """A token that is good now."""
        ...

    async def renewed(self, stale: Secret) -> Secret:
        """The one after `stale`, which the server does not take."""
        ...

    async def lacking(self, token: Secret, scopes: str | None) -> Secret:
        """One that has these scopes too, which `token` has not; they are asked for from now on."""
        ...

    def sign_in_needed(self, message: str) -> SignInNeeded:
        """The error with what its reader can do."""
        ...


class TokenFlow(httpx2.Auth):
    """The `httpx2.Auth` of one app: it says a request again once, if the server has read no more of it than the token.

    Raises, from the request:
        SignInNeeded: there is no token that the server takes, and only the user can get one.
        NotExecuted: the token has run out, and the authorization server gives no other at the moment.
    """

    def __init__(self, url: str, tokens: Tokens) -> None:
        self._url = httpx2.URL(url)
        self._tokens = tokens

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        if not same_origin(request.url, self._url):
            yield request
            return
        token = await self._tokens.current()
        response = yield with_token(request, token)
        if response.status_code == UNAUTHORIZED:
            token = await self._tokens.renewed(token)
        elif is_lacking(response):
            token = await self._tokens.lacking(token, extract_scope_from_www_auth(response))
        else:
            return
        response = yield with_token(request, token)
        if response.status_code == UNAUTHORIZED:
            raise self._tokens.sign_in_needed("the server does not take even a new token")
        if is_lacking(response):
            await self._tokens.lacking(token, extract_scope_from_www_auth(response))


def with_token(request: httpx2.Request, token: Secret) -> httpx2.Request:
    request.headers["Authorization"] = f"Bearer {token}"
    return request


def is_lacking(response: httpx2.Response) -> bool:
    """Whether the token has not the scopes that this takes (RFC 6750, 3.1)."""
    return response.status_code == FORBIDDEN and extract_field_from_www_auth(response, "error") == "insufficient_scope"


def lack_of(scopes: str | None) -> str:
    """What is missing, for an error."""
    return f"this needs rights that the token does not give{f': {one_line(scopes)}' if scopes else ''}"
