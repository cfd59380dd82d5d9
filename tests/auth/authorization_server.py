"""An authorization server and an MCP server that it protects, on loopback: honest, in memory, and counting.

    async with protected_server(AuthorizationServer()) as server:
        server.url           # of the MCP server: POST without a token is a 401
        server.authority     # the authorization server: what it was asked, and knobs for what it answers

Both are the SDK's: `MCPServer` serves its own authorization server, or, with `is_separate`, sends its users to one on
another port, which has a few things more that the SDK's lacks. Its user says yes at once to whoever asks.
"""

import asyncio
import base64
import contextlib
import secrets
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

import jwt
import uvicorn
from mcp.server import MCPServer
from mcp.server.auth.handlers.authorize import AuthorizationHandler
from mcp.server.auth.handlers.register import RegistrationHandler
from mcp.server.auth.handlers.revoke import RevocationHandler
from mcp.server.auth.handlers.token import TokenHandler
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.middleware.client_auth import ClientAuthenticator
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    AuthorizeError,
    OAuthAuthorizationServerProvider,
    RefreshToken,
    construct_redirect_uri,
)
from mcp.server.auth.routes import build_metadata
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions, RevocationOptions
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyHttpUrl, AnyUrl
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

Kind = Literal["http", "sse"]
PATHS: dict[Kind, str] = {"http": "/mcp", "sse": "/sse"}

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass
class AuthorizationServer(OAuthAuthorizationServerProvider[AuthorizationCode, RefreshToken, AccessToken]):
    """Everything it answers can be changed while it runs; everything it was asked can be looked up."""

    lifetime: int | None = 3600
    """Of access tokens, in seconds."""
    gives_refresh_tokens: bool = True
    scopes: list[str] | None = None
    """Those that it has; None for whatever is asked."""
    withheld: set[str] = field(default_factory=set)
    """Those that nobody gets."""
    refusal: AuthorizeError | None = None
    """What its user says instead of yes."""
    iss: str | None = None
    """What it calls itself in its answer to the browser, if not what it is."""
    sends_iss: bool = True
    programs: dict[str, str] = field(default_factory=dict)
    """The secrets of the programs that sign in for themselves, by client id."""
    keys: dict[str, str] = field(default_factory=dict)
    """The public keys, in PEM, of those that do with a private one."""

    # What only the separate one can be told.
    registers: bool = True
    reads_documents: bool = False
    """Whether a client may be the URL of its metadata document. (It believes what would stand there.)"""
    metadata: dict[str, Any] = field(default_factory=dict)
    """What it publishes instead of the truth."""
    trouble: Response | None = None
    """What its token endpoint answers, whatever it is asked."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, the token endpoint does what it is asked, and does not answer."""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the token endpoint has done something."""

    issuer: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    """How often for what: register, authorize, token, and each grant; revoke."""
    clients: dict[str, OAuthClientInformationFull] = field(default_factory=dict)
    authorizations: list[AuthorizationParams] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    """What the token endpoint was sent (of the separate one)."""
    codes: dict[str, AuthorizationCode] = field(default_factory=dict)
    access: dict[str, AccessToken] = field(default_factory=dict)
    refresh: dict[str, RefreshToken] = field(default_factory=dict)
    spent: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.gate.set()

    def expire(self) -> None:
        """All access tokens so far are worth nothing; their holders are not told."""
        self.access.clear()

    def register(self, client_id: str, secret: str | None, *redirect_uris: str, method: str | None = None) -> None:
        """Register a client by hand."""
        self.clients[client_id] = OAuthClientInformationFull(
            client_id=client_id,
            client_secret=secret,
            redirect_uris=[AnyUrl(uri) for uri in redirect_uris],
            token_endpoint_auth_method=method or ("none" if secret is None else "client_secret_basic"),
        )

    # What the SDK's handlers ask.

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        if self.reads_documents and client_id.startswith("https://"):
            return AnyRedirect(client_id=client_id, token_endpoint_auth_method="none")
        client = self.clients.get(client_id)
        # As servers do that let a native client have any port of loopback (RFC 8252, 7.3).
        return client and (client if client.redirect_uris else AnyRedirect(**client.model_dump()))

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        self.asked["register"] += 1
        self.clients[client_info.client_id] = client_info

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        self.asked["authorize"] += 1
        self.authorizations.append(params)
        if self.refusal is not None:
            raise self.refusal
        code = AuthorizationCode(
            code=secrets.token_urlsafe(24),
            scopes=params.scopes or [],
            expires_at=time.time() + 60,
            client_id=client.client_id,
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            resource=params.resource,
        )
        self.codes[code.code] = code
        return construct_redirect_uri(
            str(params.redirect_uri),
            code=code.code,
            state=params.state,
            iss=(self.iss or self.issuer) if self.sends_iss else None,
        )

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        return self.codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        self.asked["authorization_code"] += 1
        del self.codes[authorization_code.code]
        return self.issue(client.client_id, authorization_code.scopes, authorization_code.resource)

    async def load_refresh_token(self, client: OAuthClientInformationFull, refresh_token: str) -> RefreshToken | None:
        if refresh_token in self.spent:
            # Somebody has it who should not: the whole family is worth nothing from now on (RFC 9700, 4.14.2).
            self.refresh.clear()
            self.access.clear()
        return self.refresh.get(refresh_token)

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        self.asked["refresh_token"] += 1
        del self.refresh[refresh_token.token]
        self.spent.add(refresh_token.token)
        return self.issue(client.client_id, scopes, refresh_token.resource)

    async def load_access_token(self, token: str) -> AccessToken | None:
        return self.access.get(token)

    async def verify_token(self, token: str) -> AccessToken | None:
        return self.access.get(token)

    async def revoke_token(self, token: AccessToken | RefreshToken) -> None:
        self.asked["revoke"] += 1
        self.refresh.clear()
        self.access.clear()

    def issue(self, client_id: str, scopes: list[str], resource: str | None, *, may_refresh: bool = True) -> OAuthToken:
        scopes = [scope for scope in scopes if scope not in self.withheld]
        access, refresh = f"access-{secrets.token_urlsafe(12)}", f"refresh-{secrets.token_urlsafe(12)}"
        expires_at = None if self.lifetime is None else int(time.time()) + self.lifetime
        self.access[access] = AccessToken(
            token=access, client_id=client_id, scopes=scopes, expires_at=expires_at, resource=resource
        )
        has_refresh = may_refresh and self.gives_refresh_tokens
        if has_refresh:
            self.refresh[refresh] = RefreshToken(token=refresh, client_id=client_id, scopes=scopes, resource=resource)
        return OAuthToken(
            access_token=access,
            expires_in=self.lifetime,
            scope=" ".join(scopes) or None,
            refresh_token=refresh if has_refresh else None,
        )

    # On a port of its own.

    def app(self) -> ASGIApp:
        authenticator = ClientAuthenticator(self)
        registration = RegistrationHandler(self, options=self.registration)
        return Starlette(
            routes=[
                Route("/.well-known/oauth-authorization-server", self.publish),
                Route("/authorize", AuthorizationHandler(self).handle, methods=["GET", "POST"]),
                Route("/token", self.token, methods=["POST"]),
                Route("/register", registration.handle, methods=["POST"]),
                Route("/revoke", RevocationHandler(self, authenticator).handle, methods=["POST"]),
            ]
        )

    @property
    def registration(self) -> ClientRegistrationOptions:
        return ClientRegistrationOptions(enabled=self.registers, valid_scopes=self.scopes)

    async def publish(self, request: Request) -> Response:
        self.asked["metadata"] += 1
        found = build_metadata(AnyHttpUrl(self.issuer), None, self.registration, RevocationOptions(enabled=True))
        truth = found.model_dump(mode="json", exclude_none=True) | {
            "issuer": self.issuer,
            "client_id_metadata_document_supported": self.reads_documents,
            "authorization_response_iss_parameter_supported": self.sends_iss,
        }
        return JSONResponse(truth | self.metadata)

    async def token(self, request: Request) -> Response:
        self.asked["token"] += 1
        form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        self.forms.append(form)
        if self.trouble is not None:
            return self.trouble
        if form.get("grant_type") == "client_credentials":
            answer = self.token_for_program(request, form)
        else:
            answer = await TokenHandler(self, ClientAuthenticator(self)).handle(request)
        self.reached.set()
        await self.gate.wait()
        return answer

    def token_for_program(self, request: Request, form: dict[str, str]) -> Response:
        self.asked["client_credentials"] += 1
        try:
            client_id = self.program(request, form)
        except (LookupError, ValueError, jwt.PyJWTError):
            return JSONResponse({"error": "invalid_client", "error_description": str(form)}, status_code=401)
        scopes = form.get("scope", "").split()
        token = self.issue(client_id, scopes, form.get("resource"), may_refresh=False)
        return JSONResponse(token.model_dump(exclude_none=True))

    def program(self, request: Request, form: dict[str, str]) -> str:
        """Who asks. Raises what goes wrong where that cannot be believed."""
        if form.get("client_assertion_type") == ASSERTION_TYPE:
            claims = jwt.decode(form["client_assertion"], options={"verify_signature": False})
            client_id: str = claims["sub"]
            algorithm = jwt.get_unverified_header(form["client_assertion"])["alg"]
            jwt.decode(form["client_assertion"], self.keys[client_id], [algorithm], audience=self.issuer)
            return client_id
        client_id, secret = basic_credentials(request)
        if self.programs[client_id] != secret:
            raise ValueError(client_id)
        return client_id


class AnyRedirect(OAuthClientInformationFull):
    """A client that may come back wherever it says."""

    def validate_redirect_uri(self, redirect_uri: AnyUrl | None) -> AnyUrl:
        assert redirect_uri is not None
        return redirect_uri

    def validate_scope(self, requested_scope: str | None) -> list[str] | None:
        return requested_scope.split() if requested_scope else None


def basic_credentials(request: Request) -> tuple[str, str]:
    scheme, _, encoded = request.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    client_id, _, secret = base64.b64decode(encoded).decode().partition(":")
    return unquote(client_id), unquote(secret)


@dataclass
class ProtectedServer:
    """An MCP server that takes nobody without a token. Its tool `rights` says which scopes the token has."""

    url: str
    authority: AuthorizationServer
    needs: str | None = None
    """Scopes that a request has to have now, beyond those that the sign-in asks for."""
    answer: Response | None = None
    """What it answers to whatever comes with a token."""
    tokens: list[str | None] = field(default_factory=list)
    """What each request had in its Authorization header."""

    def guarding(self, app: ASGIApp, path: str) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"] != path:
                return await app(scope, receive, send)
            found = dict(scope["headers"]).get(b"authorization")
            self.tokens.append(found.decode() if found else None)
            answer = self.answer if found else None
            await (answer or self.refusal(found) or app)(scope, receive, send)
            return None

        return guarded

    def refusal(self, authorization: bytes | None) -> Response | None:
        """The 403 of a request whose token is good, and not good for this."""
        token = self.authority.access.get((authorization or b"").decode().removeprefix("Bearer "))
        if self.needs is None or token is None or set(self.needs.split()) <= set(token.scopes):
            return None
        challenge = f'Bearer error="insufficient_scope", scope="{self.needs}"'
        return Response(status_code=403, headers={"WWW-Authenticate": challenge})


@contextlib.asynccontextmanager
async def protected_server(
    authority: AuthorizationServer | None = None,
    *,
    is_separate: bool = False,
    kind: Kind = "http",
    required_scopes: list[str] | None = None,
    port: int = 0,
) -> AsyncIterator[ProtectedServer]:
    """Serve both, in this event loop, until the block ends; the MCP server at `port`, if it matters where."""
    authority = authority or AuthorizationServer()
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(bound(port))
        base = origin_of(listener)
        if is_separate:
            other = stack.enter_context(bound())
            authority.issuer = origin_of(other)
            await stack.enter_async_context(serving(authority.app(), other))
        else:
            authority.issuer = base
        server = ProtectedServer(f"{base}{PATHS[kind]}", authority)
        mcp = mcp_server(server, is_separate=is_separate, required_scopes=required_scopes)
        app = mcp.streamable_http_app() if kind == "http" else mcp.sse_app()
        await stack.enter_async_context(serving(server.guarding(app, PATHS[kind]), listener))
        yield server


def mcp_server(server: ProtectedServer, *, is_separate: bool, required_scopes: list[str] | None) -> MCPServer:
    authority = server.authority
    settings = AuthSettings.model_validate(
        {
            "issuer_url": authority.issuer,  # as text: parsed, it would end in a slash
            "resource_server_url": server.url,
            "required_scopes": required_scopes,
            "client_registration_options": authority.registration,
            "revocation_options": RevocationOptions(enabled=True),
            "validate_token_resource": True,
        }
    )
    if is_separate:
        mcp = MCPServer("protected", log_level="CRITICAL", token_verifier=authority, auth=settings)
    else:
        mcp = MCPServer("protected", log_level="CRITICAL", auth_server_provider=authority, auth=settings)

    @mcp.tool()
    def rights() -> str:
        """The scopes of the token that this call came with."""
        token = get_access_token()
        return " ".join(token.scopes) if token else "none"

    return mcp


def bound(port: int = 0) -> socket.socket:
    """A socket that listens on loopback."""
    # With this protocol asyncio knows it for TCP, and sends small answers at once.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


def origin_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    """Answer at `listener` with `app` until the block ends."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(20):
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.005)
        yield
    finally:
        server.should_exit = True
        await task
