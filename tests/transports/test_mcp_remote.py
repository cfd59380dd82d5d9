"""The transport `mcp-remote`: the real package, against servers on loopback, signed in or not."""

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from mcp.server import MCPServer
from mcp.server.auth.provider import AuthorizeError

# Here, and not in the first connect: the tests that look for leaks begin with it loaded.
import tasak.core.mcp_session  # noqa: F401
from tasak.core.app import App
from tasak.errors import BadConfig, ConnectFailed, OutcomeUnknown, ServerError, SessionLost, SignInNeeded
from tasak.plugin import AppConfig, Session
from tasak.testing import Answers, ContractPeer, HttpServer, TransportContract, no_leaks
from tasak.testing.stage import SessionOwner, Stage
from tasak.transports import mcp_remote, orphans
from tasak.transports.census import of_this_machine
from tasak.transports.mcp_remote_proxy import Signs
from tasak.transports.mcp_remote_store import Store, key_of
from tests.auth.authorization_server import bound, origin_of, protected_server, serving
from tests.transports.mcp_remote_world import PATIENCE, World, soon, until, url_in, visit
from tests.transports.schemas import complaints

SECRET = "s3cret ${HOME} 'quoted' $(id)"
SECRET_IN_CONFIG = SECRET.replace("$", "$$")


@pytest.fixture(autouse=True)
def undertaker() -> Iterator[None]:
    """A browser that has left its session, and died before it was seen, is buried as the daemon would bury it."""
    yield
    orphans.bury_orphans(of_this_machine(), orphans.bury_orphans(of_this_machine(), ()))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with Stage(tmp_path, "mcp-remote", init_timeout=PATIENCE) as stage:
        yield World(tmp_path, stage)


@asynccontextmanager
async def opened(owner: SessionOwner) -> AsyncIterator[Session]:
    try:
        yield await soon(owner.opened())
    finally:
        await owner.close()


async def text_of(session: Session, tool: str, **arguments: Any) -> str:
    result = await session.request("tools/call", {"name": tool, "arguments": arguments}, timeout=PATIENCE)
    (block,) = result["content"]
    return str(block["text"])


# Its options


URL = "https://mcp.example.com/sse"


@pytest.mark.parametrize(
    "options",
    [
        {"url": URL},
        {"url": "http://127.0.0.1:1/mcp?a=b"},
        {"url": URL, "headers": {}},
        {"url": URL, "headers": {"X-Team": "core", "x_y": ""}},
        {"url": URL, "package": "mcp-remote@0.15.0"},
        {"url": URL, "package": "@someone/mcp-remote"},
        {"url": URL, "args": [9696, "--transport", "sse-only"]},
        {"url": URL, "env": {"NODE_EXTRA_CA_CERTS": "/ca.pem", "PORT": 1}},
    ],
)
def test_its_schema_takes_what_it_says(options):
    assert [] == complaints(mcp_remote, options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": "mcp.example.com"},
        {"url": "--version"},
        {"url": "file:///etc/passwd"},
        {"url": f"{URL} --silent"},
        {"url": URL, "headers": {"X Team": "core"}},
        {"url": URL, "headers": {"X-Team:": "core"}},
        {"url": URL, "headers": {"X-Team": True}},
        {"url": URL, "headers": ["X-Team: core"]},
        {"url": URL, "package": ""},
        {"url": URL, "package": "--node-options=x"},
        {"url": URL, "package": "mcp-remote cowsay"},
        {"url": URL, "args": "--debug"},
        {"url": URL, "args": ["--silent"]},
        {"url": URL, "args": ["--header", "X-Team: core"]},
        {"url": URL, "env": {"A": True}},
        {"url": URL, "command": "npx"},
    ],
)
def test_its_schema_refuses_the_rest(options):
    assert complaints(mcp_remote, options)


# What is run


def config(url: str = URL, *, path: str = os.environ["PATH"], **options: Any) -> AppConfig:
    return AppConfig(name="app", options={"url": url, **options}, directory=None, path=path)


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("http://127.0.0.1:8000/mcp", True),
        ("http://127.1.2.3/mcp", True),
        ("http://[::1]:8000/mcp", True),
        ("http://localhost/mcp", True),
        ("http://192.168.1.1/mcp", False),
        ("http://localhost.example.com/mcp", False),
        ("http://[::1/mcp", False),
        ("https://127.0.0.1/mcp", False),
    ],
)
def test_plain_http_is_for_this_machine_alone(url, is_allowed):
    assert is_allowed == ("--allow-http" in mcp_remote.arguments(config(url)))


def test_the_users_arguments_follow_the_url_where_a_port_has_to_stand():
    assert [URL, "9696", "--debug"] == mcp_remote.arguments(config(args=[9696, "--debug"]))


def test_headers_are_named_in_the_arguments_in_any_order_alike():
    some, other = {"B": "1", "A": "2"}, {"A": "2", "B": "1"}

    words = mcp_remote.arguments(config(headers=some))

    assert [URL, "--header", "A:${TASAK_HEADER_0}", "--header", "B:${TASAK_HEADER_1}"] == words
    assert words == mcp_remote.arguments(config(headers=other))


def test_a_call_has_no_desktop_to_open_a_browser_on():
    named = {"PATH": "/bin", "BROWSER": "firefox", "DISPLAY": ":0", "WAYLAND_DISPLAY": "w", "HOME": "/h"}

    assert {"PATH": "/bin", "BROWSER": "true", "HOME": "/h"} == mcp_remote.without_browser(named)


def test_a_login_has_the_desktop_of_the_user_whose_browser_is_not_ours_to_end(monkeypatch):
    for name in ("BROWSER", *mcp_remote.DESKTOP):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BROWSER", "firefox")
    monkeypatch.setenv("DISPLAY", ":0")

    ours = mcp_remote.with_browser({"PATH": "/bin", "DISPLAY": ":1", "TASAK_TREE": "a daemon"})

    assert {"PATH": "/bin", "BROWSER": "firefox", "DISPLAY": ":0"} == ours


def test_an_opener_that_does_not_look_at_browser_is_not_on_the_path(tmp_path):
    (tmp_path / "open").touch()

    assert "/nowhere" == mcp_remote.without_opener(f"{tmp_path}{os.pathsep}/nowhere")


@pytest.mark.parametrize("there", [[], ["npx"], ["node"]], ids=["nothing", "npx alone", "node alone"])
async def test_without_node_it_says_what_to_install(world, tmp_path, there):
    for program in there:
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o700)
    host = world.host_for(world.app(URL))

    with pytest.raises(ConnectFailed) as raised:
        await mcp_remote.connect(config(path=str(tmp_path)), host)

    missing = " and no ".join(program for program in ("npx", "node") if program not in there)
    assert f"mcp-remote needs Node.js, and there is no {missing} on PATH" == raised.value.message
    assert (raised.value.fix or "").startswith("install Node.js 18 or newer")


# What it says on stderr

PROMPT = ["[7] ", "Please authorize this client by visiting:", "https://as.example/authorize?x=1", ""]
DEVICE = ["[7] ", "[7] To authorize this client, visit:", "[7]   https://as.example/activate", "[7] "]


@pytest.mark.parametrize(
    ("lines", "prompts"),
    [
        (PROMPT, ["open https://as.example/authorize?x=1"]),
        (PROMPT * 2, ["open https://as.example/authorize?x=1"]),
        (DEVICE, ["open https://as.example/activate"]),
        (
            [*DEVICE, "[7] And enter the code: WDJB"],
            ["open https://as.example/activate", "open https://as.example/activate and enter the code WDJB"],
        ),
        (
            ["[7] Another instance is running the sign-in for this server on port 42500"],
            ["finish the sign-in that another program on this machine waits for, or end that program"],
        ),
        (PROMPT[:2], []),
        (["https://as.example/authorize"], []),
        (["[7] Error: it says: Please authorize this client by visiting:", "https://evil.example"], []),
        ([*PROMPT[:2], "javascript:alert(1)"], []),
    ],
)
def test_its_prompt_is_recognised(lines, prompts):
    asked: list[str] = []
    signs = Signs(asked.append)

    for line in lines:
        signs.hear(line)

    assert prompts == asked
    assert (prompts[-1] if prompts else None) == signs.prompt
    assert not signs.established.is_set()


def test_it_is_recognised_that_it_is_there():
    signs = Signs(lambda prompt: None)

    signs.hear("[7] Proxy established successfully between local STDIO and remote SSEClientTransport")

    assert signs.established.is_set()


# A server that wants no sign-in

slow = pytest.mark.slow


def node(test):
    """Needs npx, which takes a second or two for each start."""
    return slow(pytest.mark.node(test))


@node
@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_a_server_is_called_and_keeps_its_state(world, kind):
    async with HttpServer() as server:
        app = world.app(server.url if kind == "http" else server.sse_url)

        assert ["1", "2"] == [await world.call(app, "counter") for _ in range(2)]
        assert "zażółć" == await world.call(app, "echo", text="zażółć")
        await world.stage.manager.shut_down()

    assert [] == world.processes()


@node
@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_a_server_of_the_sdk_is_called(world, kind):
    served = MCPServer("sdk", log_level="CRITICAL")
    served.tool()(greet)
    listener = bound()
    path, make = {"http": ("/mcp", served.streamable_http_app), "sse": ("/sse", served.sse_app)}[kind]
    async with serving(make(), listener):
        app = world.app(f"{origin_of(listener)}{path}")

        assert "hello ola" == await world.call(app, "greet", name="ola")
        await world.stage.manager.shut_down()
    listener.close()


def greet(name: str) -> str:
    return f"hello {name}"


@node
async def test_a_server_that_shakes_no_hands_is_called_if_the_arguments_say_so(world):
    async with HttpServer(eras=["stateless"]) as server:
        app = world.app(server.url, args=["--protocol", "auto"])

        assert "x" == await world.call(app, "echo", text="x")
        await world.stage.manager.shut_down()


@node
async def test_headers_reach_the_server_and_no_command_line(world):
    async with HttpServer() as server:
        app = world.app(server.url, headers={"X-Team": SECRET_IN_CONFIG, "Authorization": "Bearer t0ken"})
        async with opened(world.own(app)) as session:
            await text_of(session, "echo", text="x")
            processes = world.processes()
            command_lines = " ".join(word for process in processes for word in process.cmdline())
        (call,) = server.heard("tools/call")

    assert (SECRET, "Bearer t0ken") == (call.headers["X-Team"], call.headers["Authorization"])
    assert 3 <= len(processes)
    assert "--header X-Team:${TASAK_HEADER_1}" in command_lines
    assert "s3cret" not in command_lines
    assert "t0ken" not in command_lines
    assert "s3cret" not in world.log_of(app)


@node
async def test_no_shell_acts_on_a_url(world):
    async with HttpServer() as server:
        url = f"{server.url}?a=$HOME&b='c'&d=`id`;"
        async with opened(world.own(world.app(url))) as session:
            await text_of(session, "echo", text="x")
            command_lines = [process.cmdline() for process in world.processes()]

    assert [url] == [line[2] for line in command_lines if line[0] == "node"]


@node
async def test_a_server_that_is_not_there_is_a_failed_connect_that_says_why(world):
    listener = bound()
    origin = origin_of(listener)
    listener.close()
    app = world.app(f"{origin}/mcp", init_timeout=20, init_attempts=1)

    with pytest.raises(ConnectFailed) as raised:
        await world.call(app, "echo", text="x")

    assert "npx exited with status 1" in raised.value.message
    assert "ECONNREFUSED" in raised.value.message
    assert f"try it by hand: npx -y mcp-remote@0.15.1 {origin}/mcp" == raised.value.fix


@node
async def test_a_package_that_is_not_there_is_a_failed_connect_that_says_so(world):
    app = world.app(URL, package="mcp-remote@0.0.0-none", init_attempts=1)

    with pytest.raises(ConnectFailed, match="No matching version found"):
        await world.call(app, "echo", text="x")


@node
@pytest.mark.parametrize("status", [429, 500])
async def test_a_request_that_it_could_not_bring_there_is_of_unknown_outcome_and_fails_alone(world, status):
    async with HttpServer() as server, opened(world.own(world.app(server.url))) as session:
        await text_of(session, "counter")
        server.spoil("tools/call", Answers(status))

        with pytest.raises(OutcomeUnknown, match="mcp-remote: "):
            await text_of(session, "counter")

        assert "2" == await text_of(session, "counter")


@node
async def test_an_error_of_the_servers_stays_one(world):
    async with HttpServer() as server, opened(world.own(world.app(server.url))) as session:
        with pytest.raises(ServerError, match="refused"):
            await text_of(session, "refuse", code=-32001)


@node
async def test_what_is_under_way_ends_with_the_session(world):
    async with no_leaks(), HttpServer() as server:
        owner = world.own(world.app(server.url))
        call = asyncio.create_task(text_of(await soon(owner.opened()), "sleep", seconds=1000))
        await until(lambda: server.executed())

        await owner.close()

        with pytest.raises(SessionLost):
            await soon(call)


# A server that wants one


async def asked_by(world: World, app: App) -> str:
    """Where the user of an app that is opened by a host of `host_for` is to sign in."""
    await world.listens(app)
    return url_in(world.problems[-1].message)


@node
@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_a_call_says_where_to_sign_in_and_the_same_child_is_ready_afterwards(world, kind):
    async with protected_server(kind=kind) as server:
        app = world.app(server.url)
        with pytest.raises(SignInNeeded) as raised:
            await world.call(app, "rights")
        waiting = {process.pid for process in world.processes()}

        page = await visit(url_in(raised.value.message))
        await world.ready()

        assert "Authorization successful" in page
        assert "run `tasak auth login peer`" == raised.value.fix
        assert isinstance(await world.call(app, "rights"), str)
        assert waiting >= {process.pid for process in world.processes()}
        await world.stage.manager.shut_down()


@node
async def test_callers_that_come_meanwhile_are_told_the_same_at_once(world):
    async with protected_server() as server:
        app = world.app(server.url)
        told = []
        for _ in range(3):
            with pytest.raises(SignInNeeded) as raised:
                await world.call(app, "rights")
            told.append(raised.value.message)

    assert 1 == len(set(told))


@node
async def test_whoever_has_signed_in_is_asked_no_more(world):
    async with protected_server() as server:
        app = world.app(server.url)
        first = world.own(app)
        await visit(await asked_by(world, app))
        async with opened(first):
            pass
        world.problems.clear()

        async with opened(world.own(app)) as session:
            await text_of(session, "rights")

    assert [] == world.problems
    assert 1 == server.authority.asked["authorize"]


@node
async def test_a_call_opens_no_browser(world, monkeypatch):
    for name, value in {"BROWSER": str(world.browser()), "DISPLAY": ":0", "WAYLAND_DISPLAY": "wayland-0"}.items():
        monkeypatch.setenv(name, value)
    async with protected_server() as server:
        app = world.app(server.url, env={"BROWSER": str(world.browser()), "DISPLAY": ":0"})
        with pytest.raises(SignInNeeded):
            await world.call(app, "rights")

        await until(lambda: "Browser opened automatically" in world.log_of(app))
        environments = [process.environ() for process in world.processes()]

    assert [] == world.opened
    assert {"true"} == {environment["BROWSER"] for environment in environments}
    assert not any({"DISPLAY", "WAYLAND_DISPLAY"} & environment.keys() for environment in environments)


@node
async def test_a_connect_that_is_given_up_while_it_waits_leaves_nothing(world):
    async with protected_server() as server:
        app = world.app(server.url)
        owner = world.own(app)
        await asked_by(world, app)

        await owner.cancel()

        assert [] == psutil.Process().children(recursive=True)


@node
async def test_a_sign_in_that_is_refused_is_one_that_is_needed(world):
    async with protected_server() as server:
        server.authority.refusal = AuthorizeError("access_denied", "not you")
        app = world.app(server.url)
        owner = world.own(app)
        await visit(await asked_by(world, app))

        with pytest.raises(SignInNeeded, match="did not come to an end: npx exited with status 1"):
            await soon(owner.opened())
        await owner.close()


@node
async def test_one_that_waits_for_the_sign_in_of_another_says_so_and_has_it_too(world):
    async with protected_server() as server:
        app = world.app(server.url)
        first = world.own(app)
        url = await asked_by(world, app)
        second = world.own(app)
        await until(lambda: len(world.problems) == 2)
        problem = world.problems[-1].message

        await visit(url)

        async with opened(first) as one, opened(second) as other:
            assert await text_of(one, "rights") == await text_of(other, "rights")
    assert "finish the sign-in that another program on this machine waits for" in problem
    assert 1 == server.authority.asked["authorize"]


@node
async def test_a_sign_in_that_lapses_ends_the_session_and_the_next_call_asks_for_one(world):
    async with protected_server() as server:
        server.authority.gives_refresh_tokens = False
        app = world.app(server.url)
        with pytest.raises(SignInNeeded) as raised:
            await world.call(app, "rights")
        await visit(url_in(raised.value.message))
        await world.ready()
        await world.call(app, "rights")

        server.authority.expire()
        with pytest.raises(SessionLost, match="the server wants a sign-in before it goes on"):
            await world.call(app, "rights")
        with pytest.raises(SignInNeeded) as again:
            await world.call(app, "rights")
        await world.listens(app, times=2)

        await visit(url_in(again.value.message))
        await world.ready()
        await world.call(app, "rights")
        await world.stage.manager.shut_down()


# Signing in on purpose


async def log_in(world: World, app: App, *, opens_browser: bool) -> None:
    await soon(world.stage.transport.login(app.config, world.host_for(app), opens_browser=opens_browser))


async def status(world: World, app: App) -> Any:
    return await world.stage.transport.login_status(app.config, world.host_for(app))


@node
async def test_a_login_opens_the_users_browser(world, monkeypatch):
    monkeypatch.setenv("BROWSER", str(world.browser()))
    async with protected_server() as server:
        app = world.app(server.url)

        await log_in(world, app, opens_browser=True)

        async with opened(world.own(app)) as session:
            await text_of(session, "rights")
    (url,) = world.opened
    assert url.startswith(f"{server.authority.issuer}/authorize?")
    assert [] == psutil.Process().children(recursive=True)
    assert [] == world.problems


@node
async def test_a_login_without_a_browser_says_where(world, monkeypatch, caplog):
    monkeypatch.setenv("BROWSER", str(world.browser()))
    async with protected_server() as server:
        app = world.app(server.url)
        login = asyncio.create_task(log_in(world, app, opens_browser=False))
        await world.listens(app)

        await visit(url_in(caplog.messages[-1]))
        await login

    assert [("tasak.apps.peer", logging.WARNING)] == [(each.name, each.levelno) for each in caplog.records]
    assert [] == world.opened
    assert (await status(world, app))["signed_in"]


@node
async def test_a_login_that_is_refused_says_so(world, caplog):
    async with protected_server() as server:
        server.authority.refusal = AuthorizeError("access_denied", "not you")
        app = world.app(server.url)
        login = asyncio.create_task(log_in(world, app, opens_browser=False))
        await world.listens(app)

        await visit(url_in(caplog.messages[-1]))

        with pytest.raises(SignInNeeded, match="not you"):
            await login
    assert [] == psutil.Process().children(recursive=True)


@node
async def test_a_login_to_a_server_that_is_not_there_says_so(world):
    listener = bound()
    origin = origin_of(listener)
    listener.close()

    with pytest.raises(ConnectFailed, match="ECONNREFUSED"):
        await log_in(world, world.app(f"{origin}/mcp"), opens_browser=True)


SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "headers": {"headers": {"X-Team": "core", "A-Header": "1"}},
    "a resource": {"args": ["--resource", "URL"]},
    "parameters": {"args": ["--authorize-param", 'z=ż "1"', "--authorize-param", "a=2"], "headers": {"B": "1"}},
}


@node
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_a_sign_in_is_known_and_forgotten_however_it_is_called(world, tmp_path, monkeypatch, shape):
    monkeypatch.setenv("BROWSER", str(world.browser()))
    async with protected_server() as server:
        args = [word.replace("URL", server.url) for word in shape.get("args", [])]
        app = world.app(server.url, **{**shape, "args": args})
        before = await status(world, app)
        await log_in(world, app, opens_browser=True)

        after = await status(world, app)
        forgotten = [await world.stage.transport.logout(app.config, world.host_for(app)) for _ in range(2)]

    assert [False, True] == [before["signed_in"], after["signed_in"]]
    assert 3500 < after["expires_in"] <= 3600
    assert after["can_refresh"]
    assert [True, False] == forgotten
    assert before == await status(world, app)
    assert [] == list(tmp_path.rglob("*_tokens.json"))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"access_token": "a", "expires_at": 1}'])
def test_tokens_that_are_of_no_use_are_no_sign_in(tmp_path, text):
    store = Store.of([URL], {"MCP_REMOTE_CONFIG_DIR": str(tmp_path)})
    store.folder.mkdir()
    (store.folder / f"{store.key}_tokens.json").write_text(text)

    assert not store.status()["signed_in"]


def test_the_store_is_the_one_of_the_url():
    assert hashlib.md5(URL.encode()).hexdigest() == key_of([URL, "9696", "--debug"])


@pytest.mark.parametrize("flag", ["--token-endpoint", "--client-metadata-url", "--header-file"])
def test_a_store_that_only_mcp_remote_can_find_is_refused(flag):
    with pytest.raises(BadConfig, match=flag):
        key_of([URL, flag, "x"])


# The promises of every transport


@node
@slow
@pytest.mark.timeout(300)
class TestPromises(TransportContract):
    transport = "mcp-remote"
    # mcp-remote goes on without its server, and says nothing.
    notices_idle_death = False

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[ContractPeer]:
        async with HttpServer(witness=self.folder / "executed") as server:
            yield server.peer({"url": server.url, "env": {"MCP_REMOTE_CONFIG_DIR": str(self.folder)}})
