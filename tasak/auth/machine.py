"""The tokens of a program that signs in for itself (client credentials): no person is needed, ever."""

import asyncio

from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import OAuthToken

from tasak.auth.account import Account
from tasak.auth.conversation import Conversation
from tasak.auth.flow import lack_of
from tasak.auth.keeping import keep, remember, wanted
from tasak.auth.options import ClientCredentials
from tasak.auth.providers import KeyProvider, SecretProvider
from tasak.auth.renewal import RenewedTokens
from tasak.auth.scopes import has_all
from tasak.errors import NotExecuted
from tasak.secret import Secret

# Half a dozen requests, each with a bound of its own.
FETCH_TIMEOUT = 60.0


class MachineTokens(RenewedTokens):
    """The access tokens of a program."""

    def __init__(self, account: Account, auth: ClientCredentials) -> None:
        super().__init__(account)
        self._auth = auth

    async def lacking(self, token: Secret, scopes: str | None) -> Secret:
        found = self.account.signed_in()
        has_asked = found is not None and has_all(found.login.asked, scopes)
        if scopes is None or has_asked:
            raise self.sign_in_needed(lack_of(scopes))
        await remember(self.account, scopes)
        return await self.renewed(token)

    async def _renew(self, stale: Secret | None) -> Secret:
        # Which authorization server it is turns out on the way: what is locked is the place where the token goes.
        async with self.account.store.locked(f"{self.account.place} {self._auth.client_id}"):
            found = self.account.signed_in()
            if found and found.login.token and self._is_fresh(found.login, stale):
                return Secret(found.login.token.access_token)
            return Secret((await fetch(self.account, self._auth)).access_token)


async def fetch(account: Account, auth: ClientCredentials) -> OAuthToken:
    """Sign in, and keep the token.

    Raises:
        SignInNeeded: the authorization server refused.
        NotExecuted: it could not be asked.
    """
    provider = provider_for(account, auth)
    try:
        async with asyncio.timeout(FETCH_TIMEOUT), account.client() as client:
            await Conversation(account, provider, client).run()
    except TimeoutError:
        raise NotExecuted(f"no token within {FETCH_TIMEOUT:g} s", fix="try again later") from None
    return await keep(account, provider.context)


def provider_for(account: Account, auth: ClientCredentials) -> OAuthClientProvider:
    if auth.private_key is None:
        return SecretProvider(account, auth, wanted(account))
    return KeyProvider(account, auth, auth.private_key(), wanted(account))
