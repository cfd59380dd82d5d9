"""The user's sign-in to one app's server: `tasak.plugin.SignIn`, as the host hands it to a transport."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2

from tasak.auth.account import Account
from tasak.auth.asking import ClientFactory, ask_within_origin
from tasak.auth.configured import ConfiguredToken
from tasak.auth.flow import TokenFlow
from tasak.auth.keeping import forget
from tasak.auth.machine import MachineTokens, fetch
from tasak.auth.options import Bearer, ClientCredentials, OAuth, parse
from tasak.auth.reach import Reach
from tasak.auth.refreshing import PersonTokens
from tasak.auth.scopes import words
from tasak.auth.store import SignedIn, TokenStore
from tasak.auth.token_requests import revocation_request
from tasak.auth.user import Ask, Say, User
from tasak.errors import BadConfig, TasakError

# A password, a second factor, a consent.
SIGN_IN_TIMEOUT = 300.0

# A courtesy to the user, who has logged out already.
REVOCATION_TIMEOUT = 5.0


def in_silence(text: str) -> None: ...


class AppSignIn:
    """The sign-in of the app that is called `app`; what is kept of it is in `folder`.

    `say` shows a text to the user; `ask` waits for a line, in a thread ("" when no more will come), and is None where
    nobody would answer. `own_port` is where this program itself listens on this machine. A sign-in may take `patience`
    seconds.
    """

    def __init__(
        self,
        app: str,
        folder: Path,
        *,
        say: Say = in_silence,
        ask: Ask | None = None,
        own_port: int | None = None,
        patience: float = SIGN_IN_TIMEOUT,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._store = TokenStore(folder)
        self._say = say
        self._ask = ask
        self._own_port = own_port
        self._patience = patience
        self._now = now

    def flow(self, url: str, auth: Any, *, client: ClientFactory) -> httpx2.Auth:
        """As `SignIn.flow`.

        Raises:
            BadConfig: `auth` makes no sense.
        """
        match parse(auth):
            case Bearer() as bearer:
                return TokenFlow(url, ConfiguredToken(bearer))
            case ClientCredentials() as machine:
                return TokenFlow(url, MachineTokens(self._account(url, machine, client), machine))
            case OAuth() as person:
                return TokenFlow(url, PersonTokens(self._account(url, person, client)))

    async def login(self, url: str, auth: Any, *, client: ClientFactory, opens_browser: bool) -> None:
        """As `SignIn.login`. A program's sign-in needs no person: it is tried.

        Raises:
            SignInNeeded: it did not come to an end.
            NotExecuted: a server that it needs could not be reached, or is in trouble.
            BadConfig: there is nothing to sign in to.
        """
        match parse(auth):
            case Bearer():
                raise BadConfig("its token is in the config, and there is no sign-in", fix="call it")
            case ClientCredentials() as machine:
                await fetch(self._account(url, machine, client), machine)
            case OAuth() as person:
                # Lazy: the callback is a server of aiohttp's, which a call has no need for.
                from tasak.auth.login import login

                account = self._account(url, person, client)
                user = User(opens_browser=opens_browser, say=self._say, ask=self._ask)
                await login(account, person, user, self._patience)

    def status(self, url: str, auth: Any) -> Mapping[str, Any]:
        """As `SignIn.status`: signed_in, issuer, scopes, expires_in (seconds), can_refresh, asked_for (scopes).

        Raises:
            BadConfig: what is kept cannot be read.
        """
        match parse(auth):
            case Bearer() as bearer:
                return status_of_token(bearer)
            case ClientCredentials() | OAuth() as kept:
                account = self._account(url, kept, httpx2.AsyncClient)
                return status_of(account, account.signed_in())

    async def logout(self, url: str, auth: Any) -> bool:
        """As `SignIn.logout`. The authorization server is told, where it wants to know and can be reached."""
        match parse(auth):
            case Bearer():
                return False
            case ClientCredentials() | OAuth() as kept:
                account = self._account(url, kept, httpx2.AsyncClient)
                dropped = await forget(account)
                await asyncio.gather(*(revoke(account, each) for each in dropped))
                return any(each.login.token is not None for each in dropped)

    def _account(self, url: str, auth: OAuth | ClientCredentials, client: ClientFactory) -> Account:
        try:
            reach = Reach(url, auth.issuer, own_port=self._own_port)
        except httpx2.InvalidURL as problem:
            raise BadConfig(f"`url` or `auth.issuer` is no URL: {problem}", fix="mend it") from None
        return Account(app=self._app, url=url, auth=auth, store=self._store, client=client, reach=reach, now=self._now)


def status_of(account: Account, found: SignedIn | None) -> Mapping[str, Any]:
    login = found.login if found else None
    token = login.token if login else None
    left = login.seconds_left(account.now()) if login else None
    is_machine = isinstance(account.auth, ClientCredentials)
    can_refresh = token is not None and (is_machine or token.refresh_token is not None)
    return {
        "signed_in": token is not None and (can_refresh or left is None or left > 0),
        "issuer": found.server.issuer if found else None,
        "scopes": words(token.scope if token else None),
        "expires_in": None if left is None else max(0, round(left)),
        "can_refresh": can_refresh,
        "asked_for": words(login.asked if login else None),
    }


def status_of_token(bearer: Bearer) -> Mapping[str, Any]:
    """Of a token from the config nothing is known but whether it is there."""
    try:
        is_there = bool(bearer.token())
    except BadConfig:
        is_there = False
    return {
        "signed_in": is_there,
        "issuer": None,
        "scopes": [],
        "expires_in": None,
        "can_refresh": False,
        "asked_for": [],
    }


async def revoke(account: Account, dropped: SignedIn) -> None:
    """Tell the authorization server that the token is needed no more. It runs out anyway, if this does not arrive."""
    request = revocation_request(account, dropped)
    if request is None:
        return
    with suppress(TasakError, TimeoutError):
        account.reach.trust(dropped.server.metadata)
        async with asyncio.timeout(REVOCATION_TIMEOUT), account.client() as client:
            await ask_within_origin(client, request, account.reach)
