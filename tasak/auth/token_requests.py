"""What is sent to an authorization server for a token that is kept already: renew it, or take it back."""

import httpx2
from mcp.client.auth.oauth2 import OAuthContext
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata

from tasak.auth.account import Account
from tasak.auth.providers import Beginning
from tasak.auth.store import SignedIn


def refresh_request(account: Account, found: SignedIn, refresh_token: str) -> httpx2.Request:
    """RFC 6749, 6. It goes to the authorization server that issued the token, which need not be where the app is."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    if found.login.resource is not None:
        form["resource"] = found.login.resource
    return as_client(account, found, token_endpoint(found), form)


def revocation_request(account: Account, found: SignedIn) -> httpx2.Request | None:
    """RFC 7009, where the server takes it: for the refresh token, with which the rest goes too."""
    metadata, token = found.server.metadata, found.login.token
    if metadata is None or metadata.revocation_endpoint is None or token is None:
        return None
    kind = "refresh_token" if token.refresh_token else "access_token"
    form = {"token": token.refresh_token or token.access_token, "token_type_hint": kind}
    return as_client(account, found, str(metadata.revocation_endpoint), form)


def token_endpoint(found: SignedIn) -> str:
    if found.server.metadata is not None:
        return str(found.server.metadata.token_endpoint)
    return str(httpx2.URL(found.login.url).join("/token"))


def as_client(account: Account, found: SignedIn, url: str, form: dict[str, str]) -> httpx2.Request:
    client = account.client_of(found.login)
    if client is not None:
        form["client_id"] = client.client_id
    form, headers = context_of(account, client).prepare_token_auth(form, {})
    return httpx2.Request("POST", url, data=form, headers=headers)


def context_of(account: Account, client: OAuthClientInformationFull | None) -> OAuthContext:
    """What the SDK wants around a client before it says who it is."""
    return OAuthContext(
        server_url=account.url,
        client_metadata=OAuthClientMetadata(redirect_uris=None),
        storage=Beginning(client),
        redirect_handler=None,
        callback_handler=None,
        client_info=client,
    )
