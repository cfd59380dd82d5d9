"""Signing in, in a browser, from the server's 401 to a token that works."""

import asyncio
import os
import socket
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from mcp.server.auth.provider import AuthorizeError
from starlette.responses import JSONResponse, PlainTextResponse, Response

from tasak.auth.sign_in import AppSignIn
from tasak.errors import BadConfig, NotExecuted, SignInNeeded
from tests.auth.authorization_server import (
    AuthorizationServer,
    ProtectedServer,
    bound,
    origin_of,
    protected_server,
    serving,
)
from tests.auth.signing_in import PATIENCE, Browser, Clock, kept, signed_in, status_of_call
from tests.http_client import http_client

DOCUMENT = "https://tasak.example/client.json"


async def login(sign_in: AppSignIn, url: str, auth: object = "oauth", *, opens_browser: bool = False) -> None:
    async with asyncio.timeout(PATIENCE):
        await sign_in.login(url, auth, client=http_client, opens_browser=opens_browser)


@pytest.mark.parametrize("kind", ["http", "sse"])
@pytest.mark.parametrize("is_separate", [False, True])
async def test_a_user_who_has_signed_in_once_is_signed_in_for_good(tmp_path, kind, is_separate):
    async with protected_server(kind=kind, is_separate=is_separate) as server:
        await signed_in(server, tmp_path)

        later = AppSignIn("app", tmp_path)
        statuses = [await status_of_call(later, server.url) for _ in range(2)]

    # A POST is nothing for the older transport's URL; but it is not refused for want of a token.
    assert {"http": [200, 200], "sse": [405, 405]}[kind] == statuses
    assert (1, 1) == (server.authority.asked["register"], server.authority.asked["authorize"])


async def test_the_client_registers_as_a_native_one_with_its_callback_on_this_machine(tmp_path):
    async with protected_server(is_separate=True) as server:
        await signed_in(server, tmp_path)
    (client,) = server.authority.clients.values()

    assert "native" == client.application_type
    (uri,) = client.redirect_uris
    assert ("127.0.0.1", "/callback") == (uri.host, uri.path)


async def test_the_token_is_asked_for_the_server_that_it_is_for(tmp_path):
    async with protected_server(is_separate=True) as server:
        await signed_in(server, tmp_path)

    assert [server.url] == [each.resource for each in server.authority.authorizations]
    assert [server.url] == [form["resource"] for form in server.authority.forms]
    assert all(form["code_verifier"] for form in server.authority.forms)


async def test_the_port_of_the_callback_stays_and_with_it_the_client(tmp_path):
    async with protected_server() as server:
        await signed_in(server, tmp_path)
        await signed_in(server, tmp_path)

    assert (1, 2) == (server.authority.asked["register"], server.authority.asked["authorize"])
    assert 1 == len({each.redirect_uri for each in server.authority.authorizations})


async def test_another_client_is_registered_when_the_port_has_been_taken_since(tmp_path):
    async with protected_server() as server:
        await signed_in(server, tmp_path)
        port = server.authority.authorizations[0].redirect_uri.port
        with socket.create_server(("127.0.0.1", port)):
            sign_in = await signed_in(server, tmp_path)

        assert 200 == await status_of_call(sign_in, server.url)
    assert 2 == server.authority.asked["register"]


async def test_a_client_metadata_document_stands_for_a_registration(tmp_path):
    auth = {"type": "oauth", "client_metadata_url": DOCUMENT}
    async with protected_server(AuthorizationServer(reads_documents=True, registers=False), is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path, auth)

        assert 200 == await status_of_call(sign_in, server.url, auth)
    assert [DOCUMENT] == [form["client_id"] for form in server.authority.forms]


def with_secret(authority: AuthorizationServer, secret: str = "s3cret") -> dict[str, str]:
    """The `auth` of a client that was registered there by hand, with a secret."""
    return {"type": "oauth", "client_id": "by-hand", "client_secret": secret, "issuer": authority.issuer}


@pytest.mark.parametrize("secret", [None, "s3cret"])
async def test_a_client_that_was_registered_by_hand_is_used(tmp_path, secret):
    authority = AuthorizationServer(registers=False)
    authority.register("by-hand", secret)
    async with protected_server(authority, is_separate=True) as server:
        auth = with_secret(authority, secret) if secret else {"type": "oauth", "client_id": "by-hand"}
        sign_in = await signed_in(server, tmp_path, auth)

        assert 200 == await status_of_call(sign_in, server.url, auth)
    assert 0 == authority.asked["register"]


async def test_its_secret_is_sent_the_way_that_the_server_takes(tmp_path):
    authority = AuthorizationServer(metadata={"token_endpoint_auth_methods_supported": ["client_secret_post"]})
    authority.register("by-hand", "s3cret", method="client_secret_post")
    async with protected_server(authority, is_separate=True) as server:
        await signed_in(server, tmp_path, with_secret(authority))

    assert ["s3cret"] == [form.get("client_secret") for form in authority.forms]


async def test_its_callback_is_at_the_port_that_was_registered(tmp_path):
    with bound() as taken:
        port = taken.getsockname()[1]
    authority = AuthorizationServer()
    authority.register("by-hand", None, f"http://127.0.0.1:{port}/callback")
    async with protected_server(authority) as server:
        await signed_in(server, tmp_path, {"type": "oauth", "client_id": "by-hand", "redirect_port": port})

    assert 1 == authority.asked["authorization_code"]


async def test_a_registered_port_that_is_taken_is_said(tmp_path):
    with bound() as taken:
        port = taken.getsockname()[1]
        auth = {"type": "oauth", "client_id": "by-hand", "redirect_port": port}
        async with protected_server() as server:
            with pytest.raises(BadConfig, match=f"port {port} of this machine"):
                await signed_in(server, tmp_path, auth)


async def test_a_server_that_has_moved_to_another_authorization_server_gets_another_client(tmp_path):
    async with protected_server(is_separate=True) as server:
        await signed_in(server, tmp_path)
    async with protected_server(is_separate=True, port=httpx2.URL(server.url).port) as moved:
        sign_in = await signed_in(moved, tmp_path)

        assert 200 == await status_of_call(sign_in, moved.url)
    assert 1 == moved.authority.asked["register"]
    # Of the old one nothing is kept.
    assert server.authority.issuer not in kept(tmp_path)


@pytest.mark.parametrize(
    ("secret", "fix"), [(None, "forget the old one: tasak auth logout app"), ("s3cret", "change `issuer:`")]
)
async def test_a_client_that_was_registered_by_hand_goes_along_to_no_other_authorization_server(tmp_path, secret, fix):
    authority = AuthorizationServer()
    authority.register("by-hand", secret)
    async with protected_server(authority, is_separate=True) as server:
        auth = with_secret(authority, secret) if secret else {"type": "oauth", "client_id": "by-hand"}
        await signed_in(server, tmp_path, auth)
    async with protected_server(is_separate=True, port=httpx2.URL(server.url).port) as moved:
        with pytest.raises(SignInNeeded, match=f"belongs to {authority.issuer}") as refused:
            await signed_in(moved, tmp_path, auth)

    assert fix in (refused.value.fix or "")
    assert [] == moved.authority.authorizations


async def test_nobody_is_sent_off_with_a_secret_before_the_config_says_where_it_belongs(tmp_path):
    authority = AuthorizationServer()
    authority.register("by-hand", "s3cret")
    async with protected_server(authority, is_separate=True) as server:
        auth = with_secret(authority)
        issuer = auth.pop("issuer")
        with pytest.raises(BadConfig, match=f"sends the sign-in to {issuer}") as refused:
            await signed_in(server, tmp_path, auth)

    assert f"`issuer: {issuer}`" in (refused.value.fix or "")
    assert [] == authority.authorizations


async def test_the_configured_issuer_is_the_only_one(tmp_path):
    async with protected_server(is_separate=True) as server:
        good = {"type": "oauth", "issuer": server.authority.issuer}
        await signed_in(server, tmp_path, good)
        with pytest.raises(SignInNeeded, match=r"belongs to https://login\.example"):
            await signed_in(server, tmp_path, {"type": "oauth", "issuer": "https://login.example"})

    assert 1 == len(server.authority.authorizations)


# Scopes


async def test_the_configured_scopes_are_asked_for_beside_those_that_the_server_names(tmp_path):
    async with protected_server(required_scopes=["read"]) as server:
        auth = {"type": "oauth", "scopes": ["write", "read"]}
        sign_in = await signed_in(server, tmp_path, auth)

    assert [["write", "read"]] == [each.scopes for each in server.authority.authorizations]
    assert ["write", "read"] == sign_in.status(server.url, auth)["scopes"]


async def test_scopes_that_were_missing_are_asked_for_at_the_next_login_with_all_the_others(tmp_path):
    async with protected_server(is_separate=True, required_scopes=["read"]) as server:
        sign_in = await signed_in(server, tmp_path)
        server.needs = "write admin"
        with pytest.raises(SignInNeeded, match="write admin") as refused:
            await status_of_call(sign_in, server.url)

        again = await signed_in(server, tmp_path)
        status = await status_of_call(again, server.url)

    assert "tasak auth login app" == refused.value.fix
    assert 200 == status
    assert [["read"], ["read", "write", "admin"]] == [each.scopes for each in server.authority.authorizations]


async def test_a_client_that_was_registered_for_less_makes_way_for_another(tmp_path):
    async with protected_server(is_separate=True) as server:
        sign_in = await signed_in(server, tmp_path)
        server.needs = "admin"
        with pytest.raises(SignInNeeded, match="does not give: admin"):
            await status_of_call(sign_in, server.url)

        again = await signed_in(server, tmp_path)
        status = await status_of_call(again, server.url)
        await signed_in(server, tmp_path)

    assert 200 == status
    assert [None, "admin"] == [client.scope for client in server.authority.clients.values()]


async def test_so_it_does_when_the_server_itself_asks_for_more_than_before(tmp_path):
    authority = AuthorizationServer()
    async with protected_server(authority, required_scopes=["read"]) as server:
        await signed_in(server, tmp_path)
    port = httpx2.URL(server.url).port
    async with protected_server(authority, required_scopes=["read", "write"], port=port) as server:
        sign_in = await signed_in(server, tmp_path)

        assert 200 == await status_of_call(sign_in, server.url)
    assert ["read", "read write"] == [client.scope for client in authority.clients.values()]


# Browsers


# A program for $BROWSER: it goes where it is told, and then does `more`.
BROWSER = """
import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=20).read()
"""

# A process of its own: `webbrowser` looks at $BROWSER once.
LOGIN = """
import asyncio, sys
from pathlib import Path
import httpx2
from tasak.auth.sign_in import AppSignIn
sign_in = AppSignIn("app", Path(sys.argv[2]), say=lambda text: print(text, flush=True))
asyncio.run(sign_in.login(sys.argv[1], "oauth", client=httpx2.AsyncClient, opens_browser=True))
"""


async def login_with_browser(url: str, tmp_path: Path, more: str = "") -> str:
    """What a process says whose user has signed in with a browser of their choice; it has ended."""
    program = tmp_path / "browser"
    program.write_text(f"#!{sys.executable}\n{BROWSER}{more}")
    program.chmod(0o700)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LOGIN, url, str(tmp_path / "auth")),
        env={**os.environ, "BROWSER": f"{program} %s"},
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        said, _ = await process.communicate()
    assert 0 == process.returncode
    return said.decode()


@pytest.mark.slow
async def test_the_browser_of_the_user_s_choice_is_opened(tmp_path):
    async with protected_server() as server:
        said = await login_with_browser(server.url, tmp_path)

        assert 200 == await status_of_call(AppSignIn("app", tmp_path / "auth"), server.url)
    assert f"{server.authority.issuer}/authorize?" in said


@pytest.mark.slow
@pytest.mark.keeps("who opened the browser has to bury it, and is the standard library")
async def test_a_browser_that_stays_open_holds_nothing_up(tmp_path):
    window = tmp_path / "window"
    os.mkfifo(window)
    async with protected_server() as server:
        # It lets go of the pipe that we read.
        await login_with_browser(server.url, tmp_path, f"import os; os.close(1); open({str(window)!r}).read()")

    # The process that opened it has ended, and it is there to read what we write.
    assert 6 == window.write_text("closed")


async def test_without_a_browser_the_url_is_said_and_the_callback_still_comes(tmp_path):
    browser = Browser()
    async with protected_server() as server:
        await login(AppSignIn("app", tmp_path, say=browser.say), server.url)

    assert 1 == server.authority.asked["authorization_code"]
    assert f"{server.authority.issuer}/authorize?" in browser.said[0]


class Elsewhere:
    """A user whose browser is on another machine: it cannot reach the callback, and they paste what it shows."""

    def __init__(self, *first: str) -> None:
        self.lines = list(first)
        self.said: list[str] = []
        self.url = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def say(self, text: str) -> None:
        self.said.append(text)
        if "/authorize?" in text:
            self.page = text.splitlines()[-1]

    def ask(self) -> str:
        if self.lines:
            return self.lines.pop(0)
        return asyncio.run_coroutine_threadsafe(self.visit(), self.loop).result(PATIENCE)

    async def visit(self) -> str:
        async with http_client() as client:
            return f"{(await client.get(self.page)).headers['Location']}\n"


async def test_a_pasted_callback_is_as_good_as_one_that_arrives(tmp_path):
    user = Elsewhere()
    async with protected_server(is_separate=True) as server:
        sign_in = AppSignIn("app", tmp_path, say=user.say, ask=user.ask)
        await login(sign_in, server.url)

        assert 200 == await status_of_call(sign_in, server.url)


async def test_what_is_no_callback_is_said_and_asked_for_again(tmp_path):
    user = Elsewhere("yes\n", "\n", "http://127.0.0.1:1/callback?code=1\n")
    async with protected_server() as server:
        await login(AppSignIn("app", tmp_path, say=user.say, ask=user.ask), server.url)

    assert 3 == sum("that is not the URL" in text for text in user.said)


async def test_where_nobody_pastes_the_callback_is_waited_for(tmp_path):
    browser = Browser()
    async with protected_server() as server:
        await login(AppSignIn("app", tmp_path, say=browser.say, ask=lambda: ""), server.url)

    assert 1 == server.authority.asked["authorization_code"]


# What may go wrong


async def test_a_user_who_says_no_is_told_so_in_the_browser_and_here(tmp_path):
    authority = AuthorizationServer(refusal=AuthorizeError("access_denied", "<b>not</b> today"))
    browser = Browser()
    async with protected_server(authority) as server:
        with pytest.raises(SignInNeeded, match="access_denied: <b>not</b> today"):
            await login(AppSignIn("app", tmp_path, say=browser.say), server.url)
        await asyncio.gather(*browser.visits)

    assert "access_denied: &lt;b&gt;not&lt;/b&gt; today" in browser.pages[0]


async def test_an_answer_to_another_sign_in_changes_nothing(tmp_path):
    forged: list[httpx2.Response] = []

    class Attacked(Browser):
        async def visit(self, url: str) -> None:
            callback = parse_qs(urlsplit(url).query)["redirect_uri"][0]
            async with http_client() as client:
                forged.append(await client.get(callback, params={"code": "theirs", "state": "theirs"}))
                forged.append(await client.get(callback, params={"error": "access_denied"}))
            await super().visit(url)

    browser = Attacked()
    async with protected_server() as server:
        await login(AppSignIn("app", tmp_path, say=browser.say), server.url)

    assert [400, 400] == [response.status_code for response in forged]
    assert 1 == server.authority.asked["authorization_code"]


async def test_an_answer_that_names_another_issuer_is_refused(tmp_path):
    async with protected_server(AuthorizationServer(iss="https://mix.example/up"), is_separate=True) as server:
        with pytest.raises(SignInNeeded, match="iss mismatch"):
            await signed_in(server, tmp_path)

    assert 0 == server.authority.asked["token"]


async def test_a_server_that_registers_nobody_is_said_before_anyone_waits(tmp_path):
    browser = Browser()
    authority = AuthorizationServer(registers=False, metadata={"registration_endpoint": None})
    async with protected_server(authority, is_separate=True) as server:
        with pytest.raises(SignInNeeded, match="registers no client") as refused:
            await login(AppSignIn("app", tmp_path, say=browser.say), server.url)

    assert "client_id" in (refused.value.fix or "")
    assert [] == browser.said


async def test_a_server_that_asks_for_no_sign_in_is_said(tmp_path):
    with bound() as listener:
        async with serving(JSONResponse({}), listener):
            with pytest.raises(BadConfig, match="asks for no sign-in"):
                await login(AppSignIn("app", tmp_path), f"{origin_of(listener)}/mcp")


async def test_a_server_that_is_not_there_is_said(tmp_path):
    with bound() as listener:
        url = f"{origin_of(listener)}/mcp"

    with pytest.raises(NotExecuted, match="cannot be reached"):
        await login(AppSignIn("app", tmp_path), url)


async def test_a_user_who_never_comes_back_is_waited_for_no_longer_than_that(tmp_path):
    async with protected_server() as server:
        with pytest.raises(SignInNeeded, match=r"nobody signed in within 0\.5 s"):
            await login(AppSignIn("app", tmp_path, patience=0.5), server.url)


async def test_an_authorization_server_in_trouble_is_no_refusal(tmp_path):
    authority = AuthorizationServer(trouble=PlainTextResponse("later", 503))
    async with protected_server(authority, is_separate=True) as server:
        with pytest.raises(NotExecuted, match="is in trouble: HTTP 503"):
            await signed_in(server, tmp_path)


async def test_a_server_without_pkce_is_refused(tmp_path):
    authority = AuthorizationServer(metadata={"code_challenge_methods_supported": ["plain"]})
    async with protected_server(authority, is_separate=True) as server:
        with pytest.raises(SignInNeeded, match="PKCE"):
            await signed_in(server, tmp_path)

    assert [] == authority.authorizations


async def test_a_secret_that_is_wrong_is_said_with_where_to_look(tmp_path):
    authority = AuthorizationServer()
    authority.register("by-hand", "s3cret")
    async with protected_server(authority, is_separate=True) as server:
        with pytest.raises(SignInNeeded, match="invalid_client") as refused:
            await signed_in(server, tmp_path, with_secret(authority, "wr0ng"))

    assert "`client_id`" in (refused.value.fix or "")
    assert "wr0ng" not in refused.value.message


# Servers of the first days of MCP


@pytest.mark.parametrize("publishes", [True, False])
async def test_a_server_that_says_nothing_of_its_authorization_server_is_its_own(tmp_path, publishes):
    authority = AuthorizationServer(sends_iss=publishes)
    clock = Clock()

    async def old(scope, receive, send):
        is_app = scope["type"] == "http" and scope["path"] == "/mcp"
        if is_app:
            token = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
            await Response(status_code=200 if token in authority.access else 401)(scope, receive, send)
        elif not publishes and scope.get("path", "").startswith("/.well-known"):
            await Response(status_code=404)(scope, receive, send)
        else:
            await authority.app()(scope, receive, send)

    with bound() as listener:
        authority.issuer = origin_of(listener)
        async with serving(old, listener):
            server = ProtectedServer(f"{authority.issuer}/mcp", authority)
            sign_in = await signed_in(server, tmp_path, now=clock)
            clock.time += 3601

            assert 200 == await status_of_call(sign_in, server.url)
    assert authority.issuer == sign_in.status(server.url, "oauth")["issuer"]
    assert 1 == authority.asked["refresh_token"]


async def test_metadata_that_are_only_in_the_second_place_are_found(tmp_path):
    authority = AuthorizationServer()

    async def broken_first(scope, receive, send):
        if scope.get("path") == "/.well-known/oauth-protected-resource/mcp":
            await Response(status_code=500)(scope, receive, send)
        elif scope.get("path") == "/.well-known/oauth-protected-resource":
            found = {"resource": f"{authority.issuer}/mcp", "authorization_servers": [authority.issuer]}
            await JSONResponse(found)(scope, receive, send)
        elif scope.get("path") == "/mcp":
            await Response(status_code=401)(scope, receive, send)
        else:
            await authority.app()(scope, receive, send)

    with bound() as listener:
        authority.issuer = origin_of(listener)
        async with serving(broken_first, listener):
            await signed_in(ProtectedServer(f"{authority.issuer}/mcp", authority), tmp_path)

    assert 1 == authority.asked["authorization_code"]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_server_in_trouble_wants_no_change_of_the_config(tmp_path, status):
    with bound() as listener:
        async with serving(Response(status_code=status), listener):
            with pytest.raises(NotExecuted, match=f"in trouble: HTTP {status}"):
                await login(AppSignIn("app", tmp_path), f"{origin_of(listener)}/mcp")


async def test_metadata_that_cannot_be_had_at_the_moment_want_no_change_either(tmp_path):
    async def failing(scope, receive, send):
        is_metadata = scope.get("path", "").startswith("/.well-known")
        await Response(status_code=503 if is_metadata else 401)(scope, receive, send)

    with bound() as listener:
        async with serving(failing, listener):
            with pytest.raises(NotExecuted, match="in trouble: HTTP 503"):
                await login(AppSignIn("app", tmp_path), f"{origin_of(listener)}/mcp")
