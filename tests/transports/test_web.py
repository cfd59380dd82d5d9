"""What `http` and `sse` share: where requests go, what they carry, how much may come back, and their options."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import pytest
from aiohttp import web

from tasak.errors import BadConfig, ConnectFailed, OutcomeUnknown, ServerError, SignInNeeded
from tasak.testing import Answers, redirect
from tasak.transports import http, sse
from tasak.transports.incoming import Bookmark, Incoming
from tasak.transports.mailbox import Mailbox
from tasak.transports.site import Site
from tests.core.pool import close_all, failure_of, soon
from tests.http_client import http_client
from tests.transports.schemas import complaints

SECRET = "s3cret"
HEADERS = {"Authorization": f"Bearer {SECRET}", "X-Team": "zażółć", "X-Number": 7}


# What requests carry


def carried(headers: Mapping[str, str]) -> list[str]:
    # Bytes that are not ASCII reach the server as surrogates.
    return [headers[name].encode(errors="surrogateescape").decode() for name in HEADERS]


@pytest.mark.parametrize("protocol", ["handshake", "stateless"])
async def test_each_request_of_http_carries_the_headers_of_the_config(pool, server, protocol):
    app = pool.reach(server.url, headers=HEADERS, protocol=protocol)
    await pool.call(app, "echo", text="hello")
    await close_all(pool)

    methods = {each.method for each in server.requests}
    assert {"handshake": {"POST", "GET", "DELETE"}, "stateless": {"POST"}}[protocol] == methods
    expected = [str(value) for value in HEADERS.values()]
    assert all(expected == carried(each.headers) for each in server.requests)


async def test_each_request_of_sse_carries_the_headers_of_the_config(pool, server):
    await pool.call(pool.reach(server.sse_url, transport="sse", headers=HEADERS), "echo", text="hello")

    assert {"POST", "GET"} == {each.method for each in server.requests}
    expected = [str(value) for value in HEADERS.values()]
    assert all(expected == carried(each.headers) for each in server.requests)


@pytest.mark.parametrize(("path", "transport"), [("mcp", "http"), ("sse", "sse")])
async def test_each_request_carries_the_token_of_the_config(pool, server, path, transport):
    auth = {"type": "bearer", "token": SECRET}
    app = pool.reach(f"{server.origin}/{path}", transport=transport, auth=auth, protocol="handshake")
    await pool.call(app, "echo", text="hello")
    await close_all(pool)

    assert {f"Bearer {SECRET}"} == {each.headers.get("Authorization") for each in server.requests}


@pytest.mark.parametrize(("path", "transport"), [("mcp", "http"), ("sse", "sse")])
async def test_who_has_not_signed_in_is_told_how_to(pool, server, path, transport):
    app = pool.reach(f"{server.origin}/{path}", transport=transport, auth="oauth")

    problem = await failure_of(pool.call(app, "echo", text="hello"))

    assert (SignInNeeded, 3) == (type(problem), problem.exit_status)
    assert "tasak auth login far" in str(problem.fix)
    assert [] == server.requests


async def test_a_password_in_the_url_is_sent_and_never_shown(pool, server):
    url = f"http://user:{SECRET}@127.0.0.1:{server.port}/mcp?key={SECRET}"
    await pool.call(pool.reach(url), "echo", text="hello")
    await server.cut()

    problem = await failure_of(pool.call(pool.reach(url), "echo", text="hello"))

    assert server.requests[0].headers["Authorization"].startswith("Basic ")
    assert f"far echo: {server.url} cannot be reached: connection refused" == problem.message
    assert "is the server running, and is `url:` right?" == problem.fix


async def test_what_the_environment_says_of_proxies_and_passwords_does_not_count(pool, server, monkeypatch):
    (pool.root / ".netrc").write_text(f"machine 127.0.0.1 login user password {SECRET}\n")
    async with Elsewhere() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)

        await pool.call(pool.reach(server.url), "echo", text="hello")

    assert [] == proxy.heard
    assert not any("Authorization" in each.headers for each in server.requests)


async def test_our_log_has_no_secrets_of_urls_and_headers(pool, server, caplog):
    caplog.set_level(logging.DEBUG, "tasak")
    app = pool.reach(f"{server.url}?key={SECRET}", headers=HEADERS, protocol="handshake")
    await pool.call(app, "echo", text="hello")
    server.spoil("tools/call", Answers(500))
    await failure_of(pool.call(app, "echo", text="hello"))
    await server.cut()
    await failure_of(pool.call(app, "echo", text="hello"))
    await close_all(pool)

    ours = [record.getMessage() for record in caplog.records if record.name.startswith("tasak")]
    assert ours
    assert not any(SECRET in line for line in ours)


# Where they go


@dataclass
class Elsewhere:
    """Another server, which nothing is meant for."""

    heard: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._hear, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard.append((await reader.readline()).decode())
        writer.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("what", ["server/discover", "tools/call"])
async def test_nothing_goes_to_another_origin(pool, server, status, what):
    async with Elsewhere() as elsewhere:
        server.spoil(what, *[redirect(f"{elsewhere.url}/mcp?key={SECRET}", status)] * 3)
        app = pool.reach(server.url, headers=HEADERS, protocol="stateless", init_attempts=1)

        problem = await failure_of(pool.call(app, "echo", text="hello"))

    assert f"HTTP {status} " in problem.message
    assert f"it points to {elsewhere.url}/mcp, which is not followed" in problem.message
    assert [] == elsewhere.heard


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_inside_the_origin_is_followed(pool, server, status):
    server.spoil("tools/call", redirect("/moved", status))

    assert "hello" == await pool.text(pool.reach(server.url, headers=HEADERS), "echo", text="hello")

    assert "/moved" == server.heard("tools/call")[-1].path
    assert f"Bearer {SECRET}" == server.heard("tools/call")[-1].headers["Authorization"]
    assert 1 == server.executed().count("echo")


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_redirect_that_makes_it_another_request_is_not_followed(pool, server, status):
    server.spoil("tools/call", redirect("/moved", status))

    problem = await failure_of(pool.call(pool.reach(server.url), "echo", text="hello"))

    assert ServerError is type(problem)
    assert f"it points to {server.origin}/moved, which is not followed" in problem.message


# What cannot be reached


async def test_a_host_that_is_not_known_is_named(pool):
    problem = await failure_of(pool.call(pool.reach("http://nowhere.invalid/mcp"), "echo", text="hello"))

    assert ConnectFailed is type(problem)
    assert problem.message.startswith("far: http://nowhere.invalid/mcp cannot be reached: ")


@pytest.mark.slow
async def test_a_host_that_does_not_answer_is_given_up_in_time(pool):
    with socket.socket() as full:
        # The kernel takes no more connections than fit into its queue: the next one waits.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        others = [socket.socket() for _ in range(4)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))

        problem = await failure_of(
            pool.call(pool.reach(f"http://127.0.0.1:{port}/mcp", init_attempts=1), "echo", text="hello")
        )

        for other in others:
            other.close()
    assert f"far: http://127.0.0.1:{port}/mcp cannot be reached: no connection within 10 s" == problem.message


# What is too much


@asynccontextmanager
async def endless(content_type: str, first: bytes) -> AsyncIterator[Site]:
    """A server whose answers never end, and a limit of 1 MiB."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        await response.write(first)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"x" * 65536)
        return response

    app = web.Application()
    app.router.add_route("*", "/", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    place = web.TCPSite(runner, "127.0.0.1", 0)
    await place.start()
    async with http_client(trust_env=False) as client:
        yield Site(client, f"http://127.0.0.1:{runner.addresses[0][1]}/", limit=1 << 20)
    await runner.cleanup()


ENDLESS = {
    "JSON": ("application/json", b'{"jsonrpc": "', "is larger than 1 MiB"),
    "event": ("text/event-stream", b"data: ", "exceeded the 1048576 byte limit"),
}


@pytest.mark.parametrize(("content_type", "first", "said"), ENDLESS.values(), ids=ENDLESS)
async def test_an_answer_without_end_is_cut_short(content_type, first, said):
    async with endless(content_type, first) as site:
        incoming = Incoming(site, Mailbox(), dict)

        async with site.exchange("POST", {}) as response:
            with pytest.raises(OutcomeUnknown, match=said):
                await soon(incoming.read(response, 1, Bookmark()))


async def test_a_refusal_without_end_is_cut_short():
    async with endless("text/plain", b"no: ") as site, site.exchange("POST", {}) as response:
        response.status_code = 400

        with pytest.raises(ServerError, match="HTTP 400 OK: no: xxx"):
            await soon(site.require_success(response))


# Its options


URL = "https://example.com/mcp"


@pytest.mark.parametrize(
    "options",
    [
        {"url": URL},
        {"url": "http://localhost:8080"},
        {"url": URL, "headers": {}},
        {"url": URL, "headers": {"X-Team": "core", "X-Number": 7, "X-Empty": ""}},
        {"url": URL, "auth": "oauth"},
        {"url": URL, "proxy": "http://proxy:3128", "ca_file": "~/ca.pem"},
    ],
)
def test_the_schema_takes_what_it_says(options):
    assert [] == complaints(http, options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": ""},
        {"url": 3},
        {"url": "example.com/mcp"},
        {"url": "ftp://example.com"},
        {"url": "file:///etc/passwd"},
        {"url": URL, "headers": ["X-Team: core"]},
        {"url": URL, "headers": {"X Team": "core"}},
        {"url": URL, "headers": {"X-Team": True}},
        {"url": URL, "headers": {"X-Team": "core\r\nX-Other: 1"}},
        {"url": URL, "proxy": "socks5://proxy"},
        {"url": URL, "proxy": "proxy:3128"},
        {"url": URL, "ca_file": ""},
        {"url": URL, "command": "npx"},
        {"url": URL, "header": {}},
    ],
)
def test_the_schema_refuses_the_rest(options):
    assert complaints(http, options)


def test_both_transports_take_the_same_options():
    assert http.transport_schema() == sse.transport_schema()


UNUSABLE = {
    "a port too many": {"url": "http://127.0.0.1:99999/mcp"},
    "a host too long": {"url": f"http://{'x' * 100}/mcp"},
    "no port": {"url": f"http://{SECRET}@a:b/mcp"},
    "a proxy without a port": {"url": URL, "proxy": f"http://user:{SECRET}@a:b"},
    "a ca_file that is not there": {"url": URL, "ca_file": "/nowhere/ca.pem"},
    "a ca_file somewhere": {"url": URL, "ca_file": "ca.pem"},
    "a ca_file that is none": {"url": URL, "ca_file": __file__},
}
REASONS = {
    "a port too many": "far: its url is no URL that can be connected to",
    "a host too long": "far: its url is no URL that can be connected to",
    "no port": "far: its url is no URL that can be connected to",
    "a proxy without a port": "far: its proxy is no URL that can be connected to",
    "a ca_file that is not there": "far: ca_file /nowhere/ca.pem cannot be read: No such file or directory",
    "a ca_file somewhere": "far: ca_file ca.pem is a relative path",
    "a ca_file that is none": f"far: there is no certificate in ca_file {__file__}",
}


@pytest.mark.parametrize("case", UNUSABLE)
async def test_an_option_that_is_of_no_use_is_named(pool, case):
    problem = await failure_of(pool.call(pool.reach(**UNUSABLE[case]), "echo", text="hello"))

    assert (BadConfig, REASONS[case]) == (type(problem), problem.message)
