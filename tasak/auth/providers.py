"""The SDK's OAuth flows, with what is decided here: scopes, which server to go to, how a client shows who it is."""

import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import httpx2
from jwt import PyJWTError
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.client.auth.oauth2 import OAuthContext
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthMetadata,
    OAuthToken,
    TokenEndpointAuthMethod,
)
from mcp.shared.exceptions import MCPDeprecationWarning
from pydantic import AnyUrl, ConfigDict, Field, ValidationInfo, field_validator

from tasak.auth.account import Account
from tasak.auth.options import ClientCredentials, OAuth
from tasak.auth.reach import same_issuer
from tasak.auth.scopes import has_all, union
from tasak.errors import BadConfig, SignInNeeded
from tasak.inert import one_line

PKCE_METHOD = "S256"

# How a client shows who it is (the names are OpenID Connect's). A server that does not say takes the first.
BASIC: TokenEndpointAuthMethod = "client_secret_basic"
POST: TokenEndpointAuthMethod = "client_secret_post"
PRIVATE_KEY: TokenEndpointAuthMethod = "private_key_jwt"
NO_SECRET: TokenEndpointAuthMethod = "none"  # noqa: S105 - the name of a method


class Outgrown(Exception):
    """The client was registered for fewer scopes than are to be asked for now; it takes another one."""


class ClientMetadata(OAuthClientMetadata):
    """What we are. Whatever scopes the flow sets, the `wanted` ones are among them."""

    model_config = ConfigDict(validate_assignment=True)

    client_name: str | None = "TASAK"
    wanted: str | None = Field(default=None, exclude=True)

    @field_validator("scope")
    @classmethod
    def _with_wanted(cls, scope: str | None, info: ValidationInfo) -> str | None:
        return union(info.data.get("wanted"), scope)


class Beginning:
    """What the flow begins with: no token, and perhaps a client. What it ends with is in its context."""

    def __init__(self, client: OAuthClientInformationFull | None) -> None:
        self._client = client

    async def get_tokens(self) -> OAuthToken | None:
        return None

    async def set_tokens(self, tokens: OAuthToken) -> None: ...

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self._client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None: ...


class PersonProvider(OAuthClientProvider):
    """A person signs in, in a browser."""

    def __init__(
        self,
        account: Account,
        auth: OAuth,
        *,
        client: OAuthClientInformationFull | None,
        wanted: str | None,
        redirect_uri: str,
        redirect: Callable[[str], Awaitable[None]],
        callback: Callable[[], Awaitable[AuthorizationCodeResult]],
    ) -> None:
        metadata = ClientMetadata(redirect_uris=[AnyUrl(redirect_uri)], wanted=wanted)
        super().__init__(account.url, metadata, Beginning(client), redirect, callback, auth.client_metadata_url)
        self._account = account
        self._issuer = account.issuer
        self._client = client

    def _select_authorization_server(self, advertised: list[str]) -> str:
        if self._issuer is None:
            return advertised[0]
        for server in advertised:
            if same_issuer(server, self._issuer):
                return server
        raise wrong_issuer(self._account, advertised[0], self._issuer)

    async def _perform_authorization(self) -> httpx2.Request:
        hold_to_issuer(self._account, self.context)
        refuse_without_pkce(self._account, self.context.oauth_metadata)
        self._refuse_outgrown()
        choose_how_to_show_secret(self._account, self.context)
        return await super()._perform_authorization()

    def _refuse_outgrown(self) -> None:
        """Many a server gives a client no scope that it was not registered with. It knows so of one of this run."""
        client = self.context.client_info
        if client is None or client is not self._client or self._account.is_registered_by_hand:
            return
        if not has_all(client.scope, self.context.client_metadata.scope):
            raise Outgrown


class SecretProvider(ClientCredentialsOAuthProvider):
    """The program signs in with its secret."""

    def __init__(self, account: Account, auth: ClientCredentials, wanted: str | None) -> None:
        with no_warning_without_issuer():
            super().__init__(
                account.url, Beginning(None), auth.client_id, auth.client_secret or "", issuer=account.issuer
            )
        self._account = account
        self.context.client_metadata = machine(BASIC, wanted)

    async def _perform_authorization(self) -> httpx2.Request:
        hold_to_issuer(self._account, self.context)
        choose_how_to_show_secret(self._account, self.context)
        return await super()._perform_authorization()


class KeyProvider(PrivateKeyJWTOAuthProvider):
    """The program signs in with its private key."""

    def __init__(self, account: Account, auth: ClientCredentials, key: str, wanted: str | None) -> None:
        with no_warning_without_issuer():
            super().__init__(
                account.url, Beginning(None), auth.client_id, signer(account, auth, key), issuer=account.issuer
            )
        self._account = account
        self.context.client_metadata = machine(PRIVATE_KEY, wanted)

    async def _perform_authorization(self) -> httpx2.Request:
        hold_to_issuer(self._account, self.context)
        return await super()._perform_authorization()


def machine(method: TokenEndpointAuthMethod, wanted: str | None) -> ClientMetadata:
    return ClientMetadata(
        redirect_uris=None, grant_types=["client_credentials"], token_endpoint_auth_method=method, wanted=wanted
    )


def signer(account: Account, auth: ClientCredentials, key: str) -> Callable[[str], Awaitable[str]]:
    """Makes an assertion for an authorization server: the SDK's, with an error that can be read and shows no key."""
    claims = SignedJWTParameters(
        issuer=auth.client_id, subject=auth.client_id, signing_key=key, signing_algorithm=auth.signing_algorithm
    )
    sign = claims.create_assertion_provider()

    async def signed(audience: str) -> str:
        try:
            return await sign(audience)
        except (PyJWTError, ValueError, TypeError):
            raise BadConfig(
                f"`auth.private_key` cannot sign with {auth.signing_algorithm}",
                fix="write a key in PEM, and its algorithm as `signing_algorithm`",
            ) from None

    return signed


def choose_how_to_show_secret(account: Account, context: OAuthContext) -> None:
    """A client that was registered by hand does not say how it shows its secret; the server says what it takes."""
    client = context.client_info
    if client is None or not account.is_registered_by_hand:
        return
    taken = context.oauth_metadata and context.oauth_metadata.token_endpoint_auth_methods_supported
    if client.client_secret is None:
        client.token_endpoint_auth_method = NO_SECRET
    else:
        client.token_endpoint_auth_method = POST if taken and BASIC not in taken else BASIC


def refuse_without_pkce(account: Account, metadata: OAuthMetadata | None) -> None:
    methods = metadata and metadata.code_challenge_methods_supported
    if methods and PKCE_METHOD not in methods:
        raise account.sign_in_needed(
            "the authorization server does not take PKCE with S256, without which a code is loose"
        )


def issuer_of(context: OAuthContext) -> str:
    """The authorization server that the flow has come to; of the first days of MCP, the server's own origin."""
    if context.oauth_metadata is not None:
        return str(context.oauth_metadata.issuer)
    return context.auth_server_url or context.get_authorization_base_url(context.server_url)


def hold_to_issuer(account: Account, context: OAuthContext) -> None:
    """Go on only at the authorization server to which the client belongs.

    Raises:
        BadConfig: it would be shown a secret, and the user has not named it.
        SignInNeeded: it is another one.
    """
    found = issuer_of(context)
    if account.auth.has_secret and account.auth.issuer is None:
        raise unnamed_issuer(account, found)
    if account.issuer is not None and not same_issuer(found, account.issuer):
        raise wrong_issuer(account, found, account.issuer)


def unnamed_issuer(account: Account, found: str) -> BadConfig:
    return BadConfig(
        f"{account.app}: the server sends the sign-in to {one_line(found)}, "
        "and the config does not say that the client belongs there",
        fix=f"if you registered the client there, write this under `auth:`, too: `issuer: {one_line(found)}`",
    )


def wrong_issuer(account: Account, found: str, wanted: str) -> SignInNeeded:
    if account.auth.issuer is not None:
        mend = "change `issuer:` in the config"
    else:
        mend = f"forget the old one: tasak auth logout {account.app}"
    return SignInNeeded(
        f"the server sends the sign-in to {one_line(found)}, but it belongs to {one_line(wanted)}",
        fix=f"if that is right, {mend}",
    )


@contextmanager
def no_warning_without_issuer() -> Iterator[None]:
    """The SDK wants an issuer at once; where ours is missing, the error is to name the one that the server names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        yield
