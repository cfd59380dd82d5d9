"""A person signs in, in a browser: the callback listens, the flow sends them off, and what comes of it is kept."""

import asyncio
from contextlib import AsyncExitStack

from mcp.client.auth.oauth2 import OAuthContext
from mcp.shared.auth import OAuthClientInformationFull

from tasak.auth.account import Account
from tasak.auth.callback import Callback, Declined, listening
from tasak.auth.conversation import Conversation
from tasak.auth.keeping import keep, wanted
from tasak.auth.options import OAuth
from tasak.auth.providers import Outgrown, PersonProvider
from tasak.auth.store import Login
from tasak.auth.user import User
from tasak.auth.visit import Visit
from tasak.errors import BadConfig


async def login(account: Account, auth: OAuth, user: User, patience: float) -> None:
    """Sign the user in within `patience` seconds, and keep it.

    Raises:
        SignInNeeded: it did not come to an end.
        NotExecuted: a server that it needs could not be reached, or is in trouble.
        BadConfig: the config does not fit the server.
    """
    account.store.create()  # what cannot be kept is not asked for
    try:
        async with asyncio.timeout(patience), AsyncExitStack() as stack:
            callback = await opened(stack, account, auth)
            visit = Visit(account, callback, user)
            try:
                context = await authorized(account, auth, visit, client_for(account, auth, callback))
            except Outgrown:
                context = await authorized(account, auth, visit, None)
            await keep(account, context, callback.port)
    except TimeoutError:
        raise account.sign_in_needed(f"nobody signed in within {patience:g} s") from None
    except Declined as problem:
        raise account.sign_in_needed(f"the authorization server refused: {problem}") from None


async def authorized(
    account: Account, auth: OAuth, visit: Visit, client: OAuthClientInformationFull | None
) -> OAuthContext:
    """What the flow has come to, with a token in it.

    Raises:
        Outgrown: the client is worth nothing for this.
    """
    provider = PersonProvider(
        account,
        auth,
        client=client,
        wanted=wanted(account),
        redirect_uri=visit.redirect_uri,
        redirect=visit.send_off,
        callback=visit.answer,
    )
    async with account.client() as http:
        await Conversation(account, provider, http).run()
    return provider.context


async def opened(stack: AsyncExitStack, account: Account, auth: OAuth) -> Callback:
    """The callback, at the port that the client is registered with; else at the port of before, or at any."""
    known = account.signed_in()
    port = auth.redirect_port or (known.login.redirect_port if known else None)
    try:
        return await stack.enter_async_context(listening(port))
    except OSError as problem:
        if auth.redirect_port is not None:
            raise BadConfig(
                f"port {port} of this machine, the `redirect_port`, cannot be used: {problem}",
                fix="end the program that has it",
            ) from None
    return await stack.enter_async_context(listening(None))


def client_for(account: Account, auth: OAuth, callback: Callback) -> OAuthClientInformationFull | None:
    """The client to sign in as; None to get one from the authorization server."""
    if auth.client_id is not None:
        return OAuthClientInformationFull(client_id=auth.client_id, client_secret=auth.client_secret)
    known = account.signed_in()
    return known.login.client if known and is_usable(known.login, callback, account.now()) else None


def is_usable(login: Login, callback: Callback, now: float) -> bool:
    """Whether the client of a sign-in before may have this callback."""
    if login.client is None or login.redirect_port != callback.port:
        return False
    end = login.client.client_secret_expires_at
    return not end or end > now
