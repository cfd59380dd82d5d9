"""What comes of a sign-in goes into the store, and out of it again."""

from mcp.client.auth.oauth2 import OAuthContext
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from tasak.auth.account import Account
from tasak.auth.providers import issuer_of
from tasak.auth.reach import same_issuer
from tasak.auth.scopes import has_all, union
from tasak.auth.store import AuthorizationServer, Login, SignedIn
from tasak.threads import aside


async def keep(account: Account, context: OAuthContext, redirect_port: int | None = None) -> OAuthToken:
    """Keep the token that a flow has come to, in place of anything older, and return it."""
    token = context.current_tokens
    assert token is not None
    server = AuthorizationServer(issuer=issuer_of(context), metadata=context.oauth_metadata)
    login = Login(
        url=account.place,
        key=account.auth.key,
        client=client_to_keep(account, context),
        redirect_port=redirect_port,
        resource=context.get_resource_url() if context.should_include_resource_param() else None,
        asked=context.client_metadata.scope,
        token=token,
        obtained=account.now(),
    )
    async with account.store.locked(server.issuer):
        await aside(account.store.put, server, login)
    await forget(account, but=server.issuer)
    return token


async def remember(account: Account, scopes: str | None) -> None:
    """Have the next sign-in ask for these scopes too, beside those that it has asked for."""
    found = account.signed_in()
    if found is None or has_all(found.login.asked, scopes):
        return
    async with account.store.locked(found.server.issuer):
        found = account.signed_in() or found
        asked = union(found.login.asked, scopes)
        await aside(account.store.put, found.server, found.login.model_copy(update={"asked": asked}))


async def forget(account: Account, *, but: str | None = None) -> list[SignedIn]:
    """Drop what is kept, except at the authorization server `but`; returns what was dropped."""
    dropped = [each for each in account.everywhere() if but is None or not same_issuer(each.server.issuer, but)]
    for each in dropped:
        async with account.store.locked(each.server.issuer):
            await aside(account.store.drop, each)
    return dropped


def wanted(account: Account) -> str | None:
    """The scopes to ask for beside those that the flow finds out: the configured ones, and those of before."""
    found = account.signed_in()
    return union(account.auth.scopes, found.login.asked if found else None)


def client_to_keep(account: Account, context: OAuthContext) -> OAuthClientInformationFull | None:
    client = context.client_info
    if client is None:
        return None
    if account.is_registered_by_hand:
        # A secret that stands in the config stays there, and may change there.
        return client.model_copy(update={"client_secret": None})
    # For which scopes it was to be registered, too: what it did not get then it would not get now.
    return client.model_copy(update={"scope": union(client.scope, context.client_metadata.scope)})
