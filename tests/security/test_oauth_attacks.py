"""Signing in where a server, or an authorization server, is no friend: who gets what, as servers here write it down."""

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import AnyHttpUrl

from tasak.auth import asking
from tasak.auth.sign_in import AppSignIn
from tasak.auth.store import TokenStore
from tasak.errors import BadConfig, NotExecuted, SignInNeeded, TasakError
from tasak.plugin import AppConfig
from tasak.transports.web import plain_client
from tests.auth.authorization_server import AuthorizationServer, bound, origin_of, protected_server
from tests.auth.signing_in import Clock, signed_in, status_of_call
from tests.http_client import http_client

PATIENCE = 20.0

METADATA = "/.well-known/oauth-authorization-server"
RESOURCE = "/.well-known/oauth-protected-resource"


@dataclass
class Stranger:
    """A server on this machine that writes down all that it gets, and answers by path what the test says."""

    answers: dict[str, web.Response] = field(default_factory=dict)
    """404 for any other path."""
    got: list[str] = field(default_factory=list)
    """Each request, whole."""
    origin: str = ""

    @property
    def port(self) -> int:
        return int(self.origin.rpartition(":")[2])

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Stranger"]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        with bound() as listener:
            self.origin = origin_of(listener)
            await web.SockSite(runner, listener).start()
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        headers = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
        self.got.append(f"{request.method} {request.path_qs}\n{headers}\n\n{await request.text()}")
        found = self.answers.get(request.path)
        if found is None:
            return web.Response(status=404)
        return web.Response(status=found.status, body=found.body, headers=found.headers)

    @property
    def requests(self) -> list[str]:
        """The first line of each."""
        return [each.partition("\n")[0] for each in self.got]

    def challenge(self, metadata: str | None = None) -> None:
        """Ask for a sign-in at `/mcp`, whose metadata are at this URL."""
        value = "Bearer" if metadata is None else f'Bearer resource_metadata="{metadata}"'
        self.answers["/mcp"] = web.Response(status=401, headers={"WWW-Authenticate": value})

    def name_server(self, *issuers: str) -> None:
        """Have these for authorization servers."""
        self.challenge(f"{self.origin}{RESOURCE}")
        self.answers[RESOURCE] = as_json({"resource": f"{self.origin}/mcp", "authorization_servers": list(issuers)})

    def publish(self, **metadata: Any) -> None:
        """Be an authorization server that says this of itself."""
        truth = {
            "issuer": self.origin,
            "authorization_endpoint": f"{self.origin}/authorize",
            "token_endpoint": f"{self.origin}/token",
            "registration_endpoint": f"{self.origin}/register",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
        }
        self.answers[METADATA] = as_json(truth | metadata)
        client = {"client_id": "made", "redirect_uris": ["http://127.0.0.1/callback"]}
        self.answers["/register"] = as_json(client, 201)


class Capture:
    """A listener on this machine that keeps every byte, and answers any request but a proxy's CONNECT with this."""

    def __init__(self, answer: bytes = b"") -> None:
        self.answer = answer
        self.got: asyncio.Queue[bytes] = asyncio.Queue()
        """What came over each connection, once that has ended."""
        self.port = 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Capture"]:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = await reader.read(4096)
        if got and not got.startswith(b"CONNECT"):
            writer.write(self.answer)
        with contextlib.suppress(ConnectionError):
            writer.write_eof()
            got += await reader.read()
        writer.close()
        self.got.put_nowait(got)

    async def ended(self) -> bytes:
        """What came over the next connection to end."""
        async with asyncio.timeout(PATIENCE):
            return await self.got.get()


class Names:
    """A resolver whose answers for `login.example.com` are these, one after the other, and the last one ever after.

    None is no answer. Other names are looked up as ever.
    """

    name = "login.example.com"

    def __init__(self, *addresses: str | None) -> None:
        self.addresses = list(addresses)
        self.lookups = 0
        self._other = asyncio.get_running_loop().getaddrinfo

    async def getaddrinfo(self, host: str | bytes, port: Any, **how: Any) -> list[Any]:
        if host not in (self.name, self.name.encode()):
            return await self._other(host, port, **how)
        self.lookups += 1
        address = self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]
        if address is None:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port or 0))]

    def are_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self.getaddrinfo)


def as_json(body: Any, status: int = 200) -> web.Response:
    return web.json_response(body, status=status)


def redirect(url: str, status: int = 307) -> web.Response:
    return web.Response(status=status, headers={"Location": url})


@pytest.fixture
async def server() -> AsyncIterator[Stranger]:
    async with Stranger().listening() as made:
        yield made


@pytest.fixture
async def other() -> AsyncIterator[Stranger]:
    """One that nobody has a reason to come to."""
    async with Stranger().listening() as made:
        yield made


async def login(folder: Path, url: str, auth: Any = "oauth", **how: Any) -> TasakError:
    """How a sign-in fails."""
    with pytest.raises(TasakError) as refused:
        async with asyncio.timeout(PATIENCE):
            await AppSignIn("app", folder, **how).login(url, auth, client=http_client, opens_browser=False)
    return refused.value


async def page_shown(sign_in: Callable[[Callable[[str], None]], Awaitable[None]]) -> str:
    """What a sign-in, which is given a way to say something, says first: where to go. It is ended then."""
    said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    under_way = asyncio.ensure_future(sign_in(said.set_result))
    try:
        await asyncio.wait([said, under_way], timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        return said.result()
    finally:
        under_way.cancel()
        await asyncio.wait([under_way])


# ── where a server may have us go ────────────────────────────────────────────────────────────────────────────────

SPELLINGS = ["127.0.0.1", "localhost", "127.1", "0177.0.0.1", "0x7f000001", "2130706433", "0.0.0.0"]


@pytest.mark.parametrize("host", [*SPELLINGS, "[::ffff:127.0.0.1]"])
async def test_no_server_makes_us_ask_ourselves_for_its_metadata_however_it_spells_us(tmp_path, server, other, host):
    server.challenge(f"http://{host}:{other.port}/connections")

    refused = await login(tmp_path, f"{server.origin}/mcp", own_port=other.port)

    assert SignInNeeded is type(refused)
    assert [] == other.got


@pytest.mark.parametrize("endpoint", ["registration_endpoint", "authorization_endpoint"])
async def test_no_authorization_server_makes_us_ask_ourselves(tmp_path, server, other, endpoint):
    server.name_server(server.origin)
    server.publish(**{endpoint: f"http://127.0.0.1:{other.port}/shutdown"})
    said: list[str] = []

    refused = await login(tmp_path, f"{server.origin}/mcp", own_port=other.port, say=said.append)

    assert "which is this program itself" in refused.message
    assert ([], []) == (said, other.got)


async def test_no_authorization_server_makes_us_give_ourselves_a_code(tmp_path, other):
    authority = AuthorizationServer(metadata={"token_endpoint": f"http://127.0.0.1:{other.port}/shutdown"})
    async with protected_server(authority, is_separate=True) as server:
        with pytest.raises(SignInNeeded, match="which is this program itself"):
            await signed_in(server, tmp_path, own_port=other.port)

    assert 1 == authority.asked["authorize"]
    assert [] == other.got


async def test_we_are_no_authorization_server(tmp_path, server, other):
    server.name_server(other.origin)

    refused = await login(tmp_path, f"{server.origin}/mcp", own_port=other.port)

    assert "which is this program itself" in refused.message
    assert [] == other.got


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_leads_the_search_for_metadata_elsewhere_not_even_one_after_another(
    tmp_path, server, other, status
):
    server.challenge(f"{server.origin}/one")
    server.answers["/one"] = redirect("/two", status)
    server.answers["/two"] = redirect(f"{other.origin}{RESOURCE}", status)
    server.answers[METADATA] = redirect(f"{other.origin}{METADATA}", status)

    await login(tmp_path, f"{server.origin}/mcp")

    assert {"GET /one", f"GET {METADATA}"} <= set(server.requests)
    assert [] == other.got


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_registration_that_is_redirected_goes_nowhere(tmp_path, server, other, status):
    server.name_server(server.origin)
    server.publish()
    server.answers["/register"] = redirect(f"{other.origin}/register", status)

    await login(tmp_path, f"{server.origin}/mcp")

    assert "POST /register" in server.requests
    assert [] == other.got


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_question_who_asks_is_not_led_elsewhere(tmp_path, server, other, status):
    server.answers["/mcp"] = redirect(f"{other.origin}/mcp", status)

    await login(tmp_path, f"{server.origin}/mcp")

    assert [] == other.got


PUBLIC = "93.184.216.34"


@pytest.mark.parametrize("named_as", ["the authorization server", "its registration", "the metadata"])
@pytest.mark.parametrize("first", [PUBLIC, None])
@pytest.mark.parametrize("is_own_port", [False, True])
async def test_a_name_that_leads_to_us_by_the_time_of_the_connection_gets_no_byte(
    tmp_path, server, monkeypatch, named_as, first, is_own_port
):
    names = Names(first, "127.0.0.1")
    names.are_used(monkeypatch)
    async with Capture().listening() as inside:
        where = f"https://{names.name}:{inside.port}"
        server.name_server(where if named_as == "the authorization server" else server.origin)
        server.publish(registration_endpoint=f"{where}/register")
        if named_as == "the metadata":
            server.challenge(f"{where}{RESOURCE}")

        refused = await login(tmp_path, f"{server.origin}/mcp", own_port=inside.port if is_own_port else None)

        assert b"" == await inside.ended()
    assert SignInNeeded is type(refused)
    assert ("which is this program itself" if is_own_port else "inside your own network") in refused.message
    assert 2 == names.lookups


async def test_a_token_is_not_renewed_where_a_name_leads_to_us_by_then(tmp_path, monkeypatch):
    clock, names = Clock(), Names(PUBLIC, "127.0.0.1")
    async with protected_server(is_separate=True) as server, Capture().listening() as inside:
        sign_in = await signed_in(server, tmp_path, now=clock)
        store = TokenStore(tmp_path)
        found = store.find(server.url, None)
        assert found is not None
        assert found.server.metadata is not None
        elsewhere = {"token_endpoint": AnyHttpUrl(f"https://{names.name}:{inside.port}/token")}
        moved = found.server.metadata.model_copy(update=elsewhere)
        store.put(found.server.model_copy(update={"metadata": moved}), found.login)
        names.are_used(monkeypatch)
        clock.time += 4000

        with pytest.raises(SignInNeeded, match="inside your own network"):
            await status_of_call(sign_in, server.url)

        assert b"" == await inside.ended()


async def test_a_proxy_is_not_taken_for_what_is_reached_through_it(tmp_path, monkeypatch):
    """The name is its to look up; that it is on this machine itself does no harm."""
    names = Names(PUBLIC)
    names.are_used(monkeypatch)
    challenge = f'Bearer resource_metadata="https://{names.name}{RESOURCE}"'
    answer = f"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n"
    async with Capture(answer.encode()).listening() as proxy:
        options = {"url": "http://mcp.example.com/mcp", "proxy": f"http://127.0.0.1:{proxy.port}"}
        app = AppConfig(name="app", options=options, directory=None, path="")

        with pytest.raises(NotExecuted, match=f"https://{names.name}{RESOURCE}, which the sign-in needs, cannot be"):
            await AppSignIn("app", tmp_path, own_port=proxy.port).login(
                options["url"], "oauth", client=lambda: plain_client(app), opens_browser=False
            )

        got = [await proxy.ended(), await proxy.ended()]
    assert [b"CONNECT login.example.com:443 HTTP/1.1"] == [
        each.partition(b"\r\n")[0] for each in got if not each.startswith(b"POST http://mcp.example.com/mcp ")
    ]


async def test_a_token_that_is_taken_back_is_shown_to_no_other_server(tmp_path, other):
    authority = AuthorizationServer()
    async with protected_server(authority, is_separate=True) as server, Stranger().listening() as revoking:
        authority.metadata = {"revocation_endpoint": f"{revoking.origin}/revoke"}
        revoking.answers["/revoke"] = redirect(f"{other.origin}/revoke")
        sign_in = await signed_in(server, tmp_path)

        assert await sign_in.logout(server.url, "oauth")

    assert ["POST /revoke"] == revoking.requests
    assert [] == other.got


# ── what a user is sent to ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "endpoint",
    [
        "javascript:alert(1)",
        "JavaScript://127.0.0.1/%0aalert(1)",
        "file:///etc/passwd",
        "data:text/html,<script>",
        "ftp://127.0.0.1/",
        "http://elsewhere.test/authorize",
        "//elsewhere.test/authorize",
        "--help",
        "",
        f"http://127.0.0.1/{'a' * 100_000}",
        "http://[::1/",
    ],
)
async def test_what_is_no_page_to_sign_in_at_is_neither_shown_nor_opened(tmp_path, server, endpoint):
    server.name_server(server.origin)
    server.publish(authorization_endpoint=endpoint)
    said: list[str] = []

    refused = await login(tmp_path, f"{server.origin}/mcp", say=said.append)

    assert [] == said
    assert refused.message.isprintable()
    assert len(refused.message) < 500


@pytest.mark.parametrize(
    "path", ["\x1b]0;title\x07\x9b2J\u202e/$(id)?a=\x1b[2J", "\n--option\r\n second line", "[bold]x"]
)
async def test_a_page_is_shown_as_one_line_without_anything_that_acts_on_a_terminal(tmp_path, server, path):
    server.name_server(server.origin)
    server.publish(authorization_endpoint=f"{server.origin}/{path}")

    async def sign_in(say: Callable[[str], None]) -> None:
        own = AppSignIn("app", tmp_path, say=say)
        await own.login(f"{server.origin}/mcp", "oauth", client=http_client, opens_browser=False)

    _, page = (await page_shown(sign_in)).split("\n")

    assert page.startswith(f"{server.origin}/")
    assert page.isprintable()
    assert " " not in page


OPENING = """
import sys, threading
from tasak.auth.visit import open_browser
open_browser(sys.argv[1])
[each.join(20) for each in threading.enumerate() if each.name == "browser"]
"""


@pytest.mark.slow
async def test_a_page_is_opened_without_a_shell_as_one_word(tmp_path):
    opened, pwned = tmp_path / "opened", tmp_path / "pwned"
    browser = tmp_path / "browser"
    browser.write_text(
        f"#!{sys.executable}\nimport json, sys\nopen({str(opened)!r}, 'w').write(json.dumps(sys.argv[1:]))\n"
    )
    browser.chmod(0o700)
    url = f"https://login.example/$(touch {pwned})`touch {pwned}`;touch {pwned}&\"'|>{pwned} --help?a=%s"

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OPENING, url), env={"BROWSER": f"{browser} %s", "PATH": "/usr/bin:/bin"}
    )
    async with asyncio.timeout(PATIENCE):
        assert 0 == await process.wait()

    assert [url] == json.loads(opened.read_text())
    assert not pwned.exists()


# ── what a server is shown ───────────────────────────────────────────────────────────────────────────────────────

BY_HAND = {"type": "oauth", "client_id": "by-hand", "client_secret": "canary-of-the-client"}
MACHINE = {**BY_HAND, "grant": "client_credentials"}


@pytest.mark.parametrize("auth", [BY_HAND, MACHINE])
@pytest.mark.parametrize("issuer", [None, "https://login.example.com"])
@pytest.mark.parametrize("named", ["itself", "a friend", "nobody"])
async def test_no_server_has_a_client_s_secret_sent_where_it_likes(tmp_path, server, other, auth, issuer, named):
    thief = other if named == "a friend" else server
    thief.publish()
    if named == "nobody":
        server.challenge()
    else:
        server.name_server(thief.origin)
    said: list[str] = []

    refused = await login(
        tmp_path, f"{server.origin}/mcp", auth if issuer is None else {**auth, "issuer": issuer}, say=said.append
    )

    assert (BadConfig if issuer is None else SignInNeeded) is type(refused)
    assert ("the config does not say" if issuer is None else f"belongs to {issuer}") in refused.message
    assert "POST /mcp" in server.requests
    assert [] == said
    assert "canary" not in "".join(server.got + other.got)


async def test_who_takes_another_s_name_gets_neither_its_secret_nor_its_tokens(tmp_path, other):
    """The server of an app sends it to a stranger, who says that it is the authorization server of before."""
    clock = Clock()
    honest = AuthorizationServer()
    honest.register("by-hand", BY_HAND["client_secret"])
    async with protected_server(honest, is_separate=True) as server, Stranger().listening() as hostile:
        by_hand = {**BY_HAND, "issuer": honest.issuer}
        first = await signed_in(server, tmp_path, by_hand, now=clock)
        other.publish(issuer=honest.issuer)
        other.answers["/token"] = as_json({"access_token": "x", "token_type": "Bearer", "expires_in": 3600})
        hostile.name_server(other.origin)

        for auth, said in ((by_hand, f"but it belongs to {honest.issuer}"), ("oauth", "issuer mismatch")):
            refused = await login(tmp_path, f"{hostile.origin}/mcp", auth, now=clock)
            assert said in refused.message
        clock.time += 4000
        status = await status_of_call(first, server.url, by_hand)

    assert 200 == status
    assert not [each for each in other.got if each.startswith("POST /token")]
    assert "canary" not in "".join(other.got + hostile.got)


async def test_what_is_kept_of_an_authorization_server_is_not_what_another_says_of_it(tmp_path, other):
    async with protected_server(is_separate=True) as server, Stranger().listening() as hostile:
        await signed_in(server, tmp_path)
        other.publish(issuer=server.authority.issuer)
        hostile.name_server(other.origin)

        await login(tmp_path, f"{hostile.origin}/mcp")

        found = TokenStore(tmp_path).find(server.url, None)
        assert found is not None
        assert found.server.metadata is not None
        assert f"{server.authority.issuer}/token" == str(found.server.metadata.token_endpoint)


async def test_a_token_goes_to_no_other_path_s_app_and_to_no_other_port(tmp_path, other):
    async with protected_server() as server:
        sign_in = await signed_in(server, tmp_path)
        flow = sign_in.flow(server.url, "oauth", client=http_client)
        async with http_client(auth=flow, headers={"X-Api-Key": "canary"}, follow_redirects=False) as client:
            await client.post(f"{other.origin}/mcp")
        with pytest.raises(SignInNeeded):
            await status_of_call(AppSignIn("other", tmp_path), f"{server.url.rpartition('/')[0]}/other")

    assert 1 == len(other.got)
    assert "authorization" not in other.got[0].lower()


async def test_a_sign_in_carries_none_of_the_app_s_headers_and_nothing_of_the_environment(
    tmp_path, server, monkeypatch
):
    """Its client is the plain one of the app: no headers, no netrc, no proxy of the environment."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password canary-netrc\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server.name_server(server.origin)
    server.publish()
    options = {"url": f"{server.origin}/mcp", "headers": {"X-Api-Key": "canary-header"}}
    app = AppConfig(name="app", options=options, directory=None, path="")

    async def sign_in(say: Callable[[str], None]) -> None:
        own = AppSignIn("app", tmp_path / "auth", say=say)
        await own.login(options["url"], "oauth", client=lambda: plain_client(app), opens_browser=False)

    await page_shown(sign_in)

    assert "POST /register" in server.requests
    assert "canary" not in "".join(server.got)


async def test_an_answer_without_end_is_not_taken_in(tmp_path, server):
    server.challenge(f"{server.origin}{RESOURCE}")
    server.answers[RESOURCE] = web.Response(body=b" " * (asking.MAX_ANSWER + 1))

    refused = await login(tmp_path, f"{server.origin}/mcp")

    assert NotExecuted is type(refused)
    assert "answers with more than 1 MiB" in refused.message
