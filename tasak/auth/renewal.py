"""Tokens that are renewed before they run out: once, for however many callers find the same one stale.

A renewal runs in a task of its own, so that a caller who goes away does not take with it a refresh token that is good
for one use. Against other processes it holds the lock of the store, and looks first whether one of them has done it.
"""

import asyncio
from abc import ABC, abstractmethod

from tasak.auth.account import Account
from tasak.auth.store import Login
from tasak.errors import SignInNeeded, TasakError
from tasak.secret import Secret

# A token is renewed this long before its end, or in the last tenth of a short life: a request takes time to arrive.
MARGIN = 30.0
MARGIN_OF_LIFE = 0.1


class RenewedTokens(ABC):
    """The access tokens of one app."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._renewals: dict[Secret | None, asyncio.Task[Secret]] = {}

    async def current(self) -> Secret:
        """A token that is good now.

        Raises:
            SignInNeeded: there is none, and only the user can get one.
            NotExecuted: there is none, and the authorization server does not give one at the moment.
        """
        found = self.account.signed_in()
        if found is None or found.login.token is None:
            return await self.renewed(None)
        login, token = found.login, Secret(found.login.token.access_token)
        if not self._is_due(login):
            return token
        try:
            return await self.renewed(token)
        except TasakError:
            if login.has_expired(self.account.now()):
                raise
            return token

    async def renewed(self, stale: Secret | None) -> Secret:
        """The token that comes after `stale`, which has run out or was refused; raises as `current`."""
        renewal = self._renewals.get(stale)
        if renewal is None:
            renewal = self._renewals[stale] = asyncio.create_task(self._renew(stale), name="renewal of a token")
            renewal.add_done_callback(lambda done: self._settle(stale, done))
        return await asyncio.shield(renewal)

    def sign_in_needed(self, message: str) -> SignInNeeded:
        return self.account.sign_in_needed(message)

    @abstractmethod
    async def lacking(self, token: Secret, scopes: str | None) -> Secret:
        """The token to try instead of one that has not these scopes; they are asked for from now on.

        Raises:
            SignInNeeded: only the user can get one.
        """

    @abstractmethod
    async def _renew(self, stale: Secret | None) -> Secret:
        """The next token, kept already. Others may be at it in other processes."""

    def _is_due(self, login: Login) -> bool:
        left = login.seconds_left(self.account.now())
        if left is None or login.token is None or login.token.expires_in is None:
            return False
        return left <= min(MARGIN, login.token.expires_in * MARGIN_OF_LIFE)

    def _is_fresh(self, login: Login, stale: Secret | None) -> bool:
        """Whether somebody else has renewed the token since it was found stale."""
        return (
            login.token is not None and login.token.access_token != stale and not login.has_expired(self.account.now())
        )

    def _settle(self, stale: Secret | None, done: asyncio.Task[Secret]) -> None:
        del self._renewals[stale]
        if not done.cancelled():
            done.exception()  # heard, though every caller may have gone
