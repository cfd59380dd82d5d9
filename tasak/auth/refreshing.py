"""The tokens of a person's sign-in: renewed with the refresh token, for as long as there is one."""

from typing import Any

from mcp.shared.auth import OAuthToken
from pydantic import ValidationError

from tasak.auth.account import Account
from tasak.auth.asking import Refused, ask_within_origin
from tasak.auth.flow import lack_of
from tasak.auth.keeping import remember
from tasak.auth.renewal import RenewedTokens
from tasak.auth.store import SignedIn
from tasak.auth.token_requests import refresh_request
from tasak.errors import NotExecuted, TasakError
from tasak.inert import one_line
from tasak.secret import Secret
from tasak.threads import aside

# What says that this refresh token is worth nothing any more.
SPENT = "invalid_grant"


class PersonTokens(RenewedTokens):
    """The access tokens of a person who has signed in."""

    async def lacking(self, token: Secret, scopes: str | None) -> Secret:
        await remember(self.account, scopes)
        raise self.sign_in_needed(lack_of(scopes))

    async def _renew(self, stale: Secret | None) -> Secret:
        issuer = self._found().server.issuer
        async with self.account.store.locked(issuer):
            found = self._found()
            assert found.login.token is not None
            if self._is_fresh(found.login, stale):
                return Secret(found.login.token.access_token)
            token = await self._refreshed(found, found.login.token)
            await self._put(found, token=token, obtained=self.account.now())
            return Secret(token.access_token)

    def _found(self) -> SignedIn:
        found = self.account.signed_in()
        if found is None or found.login.token is None:
            raise self.sign_in_needed("nobody is signed in")
        return found

    async def _refreshed(self, found: SignedIn, token: OAuthToken) -> OAuthToken:
        if token.refresh_token is None:
            has_expired = found.login.has_expired(self.account.now())
            raise self.sign_in_needed(
                "the sign-in has run out" if has_expired else "the server does not take the sign-in any more"
            )
        try:
            return await refreshed(self.account, found, token, token.refresh_token)
        except Refused as problem:
            await self._heed(problem, found, token)
            raise explained(self.account, found, problem) from None

    async def _heed(self, problem: Refused, found: SignedIn, token: OAuthToken) -> None:
        """Keep no longer what the authorization server does not know any more."""
        if problem.code == SPENT:
            await self._put(found, token=token.model_copy(update={"refresh_token": None}))
        elif problem.is_about_client and not self.account.is_registered_by_hand:
            await self._put(found, token=None, client=None)

    async def _put(self, found: SignedIn, **changes: Any) -> None:
        login = found.login.model_copy(update=changes)
        await aside(self.account.store.put, found.server, login)


async def refreshed(account: Account, found: SignedIn, token: OAuthToken, refresh_token: str) -> OAuthToken:
    """The token that the authorization server gives for this one.

    Raises:
        Refused: it gives none.
        NotExecuted: it does not answer, or not with a token.
    """
    account.reach.trust(found.server.metadata)
    request = refresh_request(account, found, refresh_token)
    async with account.client() as client:
        response = await ask_within_origin(client, request, account.reach)
    if problem := Refused.found_in(response):
        raise problem
    try:
        fresh = OAuthToken.model_validate_json(response.content)
    except ValidationError:  # which shows what it did not like, and that may be a token
        raise NotExecuted(
            f"the authorization server {one_line(found.server.issuer)} answered HTTP "
            f"{response.status_code} and no token that can be used",
            fix=f"try again later, or sign in anew: tasak auth login {account.app}",
        ) from None
    # What the answer leaves out is as it was (RFC 6749, 6).
    kept = {"scope": fresh.scope or token.scope, "refresh_token": fresh.refresh_token or refresh_token}
    return fresh.model_copy(update=kept)


def explained(account: Account, found: SignedIn, problem: Refused) -> TasakError:
    server = f"the authorization server {one_line(found.server.issuer)}"
    if problem.is_passing:
        return NotExecuted(f"{server} is in trouble, and the token has run out: {problem.said}", fix="try again later")
    return account.refused(f"{server} does not renew the sign-in", problem)
