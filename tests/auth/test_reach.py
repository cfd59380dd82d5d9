"""Where a server may send us, and where it may not."""

import httpx2
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from tasak.auth.reach import Reach, shown
from tasak.auth.sign_in import AppSignIn
from tasak.errors import SignInNeeded
from tests.auth.authorization_server import AuthorizationServer, bound, origin_of, protected_server, serving
from tests.auth.signing_in import signed_in
from tests.http_client import http_client

APP = "https://mcp.example.com/mcp"
OWN_PORT = 8765


async def refusal(url: str, app: str = APP, issuer: str | None = None) -> str | None:
    try:
        await Reach(app, issuer, own_port=OWN_PORT).check(httpx2.URL(url))
    except SignInNeeded as problem:
        return problem.message
    return None


@pytest.mark.parametrize(
    "url",
    [
        "https://mcp.example.com/.well-known/oauth-protected-resource",
        "https://93.184.216.34/token",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/token",
        "https://[64:ff9b::93.184.216.34]/token",
        # Where nobody but a proxy knows the address.
        "https://nobody-knows.invalid/token",
    ],
)
async def test_a_public_address_is_good(url):
    assert await refusal(url) is None


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "10.0.0.1",
        "192.168.1.1",
        "127.0.0.1",
        "[::1]",
        "localhost",
        "[::ffff:127.0.0.1]",
        "[::ffff:10.0.0.1]",
        "[64:ff9b::10.0.0.1]",
        "[fe80::1]",
        "[fd00::1]",
        "0.0.0.0",
        "0x7f.1",
        "0177.1",
        "2130706433",
        "127.1",
        "100.64.0.1",
    ],
)
async def test_an_address_inside_the_user_s_network_is_not_good_however_it_is_spelt(host):
    assert "inside your own network" in (await refusal(f"https://{host}/token") or "")


@pytest.mark.parametrize(
    "url", ["http://login.example.com/token", "ftp://login.example.com/", "file:///etc/passwd", "javascript:alert(1)"]
)
async def test_only_an_encrypted_connection_is_good(url):
    assert "not encrypted" in (await refusal(url) or "")


async def test_a_url_without_end_is_not_good():
    assert "too long" in (await refusal(f"https://login.example.com/{'x' * 20_000}") or "")


async def test_on_this_machine_a_connection_need_not_be_encrypted():
    assert await refusal("http://127.0.0.1:9000/token", app="http://127.0.0.1:8000/mcp") is None


async def test_what_the_user_has_named_is_good():
    assert await refusal("http://10.0.0.1:8000/token", app="http://10.0.0.1:8000/mcp") is None
    assert await refusal("https://10.0.0.1/token", app="http://10.0.0.1:8000/mcp") is None
    assert await refusal("https://10.0.0.2/token", issuer="https://10.0.0.2") is None


async def test_this_program_itself_is_not_good_even_for_an_app_on_this_machine():
    for host in ("127.0.0.1", "localhost"):
        url = f"http://{host}:{OWN_PORT}/shutdown"

        assert "this program itself" in (await refusal(url, app="http://127.0.0.1:8000/mcp") or "")


def test_a_url_is_shown_without_what_may_be_secret():
    assert "https://a/b" == shown(httpx2.URL("https://user:canary@a/b?canary=1#canary"))


# Whole sign-ins against a server that is no friend


class Trap:
    """Stands where nobody may be sent, and counts who comes."""

    def __init__(self) -> None:
        self.visitors: list[str] = []

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http":
            self.visitors.append(scope["path"])
            await PlainTextResponse("caught")(scope, receive, send)


async def test_a_server_cannot_make_us_fetch_its_metadata_from_inside_the_network(tmp_path):
    trap = Trap()
    with bound() as inside, bound() as listener:
        where = f"http://[::ffff:127.0.0.1]:{inside.getsockname()[1]}/latest/meta-data"
        server = Response(status_code=401, headers={"WWW-Authenticate": f'Bearer resource_metadata="{where}"'})
        async with serving(trap, inside), serving(server, listener):
            sign_in = AppSignIn("app", tmp_path)
            with pytest.raises(SignInNeeded, match="the server sends the sign-in to"):
                await sign_in.login(f"{origin_of(listener)}/mcp", "oauth", client=http_client, opens_browser=False)

    assert [] == trap.visitors


async def test_metadata_that_redirect_elsewhere_are_not_followed(tmp_path):
    trap = Trap()
    with bound() as inside, bound() as listener:
        async with serving(trap, inside):
            redirect = Response(status_code=302, headers={"Location": f"{origin_of(inside)}/x"})

            async def server(scope, receive, send):
                if scope["type"] == "http":
                    is_metadata = scope["path"].startswith("/.well-known")
                    await (redirect if is_metadata else Response(status_code=401))(scope, receive, send)

            async with serving(server, listener):
                with pytest.raises(SignInNeeded):
                    await AppSignIn("app", tmp_path).login(
                        f"{origin_of(listener)}/mcp", "oauth", client=http_client, opens_browser=False
                    )

    assert [] == trap.visitors


@pytest.mark.parametrize(
    "endpoint",
    [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "data:text/html,x",
        "http://login.example/$(touch pwn)",
        "https://169.254.169.254/",
        f"https://login.example/{'x' * 100_000}",
        "https://login.example\n.evil.example:bad/",
    ],
)
async def test_no_page_is_opened_but_a_web_page(tmp_path, endpoint):
    said: list[str] = []
    authority = AuthorizationServer(metadata={"authorization_endpoint": endpoint})
    async with protected_server(authority, is_separate=True) as server:
        sign_in = AppSignIn("app", tmp_path, say=said.append)
        with pytest.raises(SignInNeeded) as refused:
            await sign_in.login(server.url, "oauth", client=http_client, opens_browser=False)

    assert [] == said
    assert len(refused.value.message) < 500


async def test_a_token_endpoint_inside_the_network_gets_no_code(tmp_path):
    trap = Trap()
    with bound() as inside:
        where = f"http://localhost:{inside.getsockname()[1]}/token"
        authority = AuthorizationServer(metadata={"token_endpoint": where})
        async with serving(trap, inside), protected_server(authority, is_separate=True) as server:
            with pytest.raises(SignInNeeded, match="the server sends the sign-in to"):
                await signed_in(server, tmp_path)

    assert [] == trap.visitors


async def test_the_endpoints_of_the_issuer_that_the_user_has_named_are_good_wherever_they_are(tmp_path):
    authority = AuthorizationServer()
    with bound() as other:
        token = f"http://localhost:{other.getsockname()[1]}/token"
        authority.metadata = {"token_endpoint": token}
        async with serving(authority.app(), other), protected_server(authority, is_separate=True) as server:
            sign_in = await signed_in(server, tmp_path, {"type": "oauth", "issuer": authority.issuer})

    assert sign_in.status(server.url, {"type": "oauth", "issuer": authority.issuer})["signed_in"]


async def test_an_authorization_server_that_publishes_nothing_gets_no_registration_at_the_server_s_own(tmp_path):
    seen: list[str] = []
    with bound() as listener, bound() as empty:
        base = origin_of(listener)

        async def server(scope, receive, send):
            if scope["type"] == "http":
                seen.append(f"{scope['method']} {scope['path']}")
                found = {"resource": f"{base}/mcp", "authorization_servers": [origin_of(empty)]}
                is_metadata = scope["path"].startswith("/.well-known")
                await (JSONResponse(found) if is_metadata else Response(status_code=401))(scope, receive, send)

        async with serving(server, listener), serving(Response(status_code=404), empty):
            with pytest.raises(SignInNeeded, match="publishes nothing that can be used"):
                await AppSignIn("app", tmp_path).login(f"{base}/mcp", "oauth", client=http_client, opens_browser=False)

    assert ["POST /mcp"] == [line for line in seen if line.startswith("POST")]
