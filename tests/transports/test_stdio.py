"""The stdio transport, from the app's config to a live session and back to nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

# Here, and not in the first connect: the tests that count tasks and descriptors begin with it loaded.
import tasak.core.mcp_session  # noqa: F401
from tasak.core.host import AppHost
from tasak.errors import ConnectFailed, NotExecuted
from tasak.plugin import AppConfig, McpSession
from tasak.transports import stdio
from tests.shell import FAST_APP
from tests.transports.hosts import lone_host
from tests.transports.schemas import complaints

PATIENCE = 20.0
# Where nothing is, so that nothing of the tests' own environment is taken for it.
NO_PATH = "/nowhere"


def app(*command: str, directory: Path | None = None, env: Mapping[str, Any] | None = None) -> AppConfig:
    options = {"command": command or tuple(FAST_APP["command"]), **({} if env is None else {"env": env})}
    return AppConfig(name="app", options=options, directory=directory, path=NO_PATH)


def host(app_log: Path | None = None) -> AppHost:
    return lone_host("tree-1", app_log=app_log, init_timeout=PATIENCE)


@asynccontextmanager
async def connected(config: AppConfig, app_log: Path | None = None) -> AsyncIterator[McpSession]:
    async with asyncio.timeout(PATIENCE):
        session = await stdio.connect(config, host(app_log))
        try:
            yield session
        finally:
            await stdio.close(session)


async def text_of(session: McpSession, tool: str, **arguments: Any) -> str:
    result = await session.request("tools/call", {"name": tool, "arguments": arguments}, timeout=PATIENCE)
    (block,) = result["content"]
    return block["text"]


@pytest.fixture
def daemon_env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of this process, in which the daemon would be; empty of what a child may inherit."""
    for name in ("HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SECRET", "s3cret")
    monkeypatch.setenv("TASAK_TREE", "the tree of whoever started us")
    return monkeypatch


# What reaches the program


async def environment_of(session: McpSession) -> dict[str, str]:
    """With the mark as its instance has it: each program's has a part of its own behind that."""
    assert session.pid is not None
    environment = psutil.Process(session.pid).environ()
    return environment | {"TASAK_TREE": environment["TASAK_TREE"].partition(".")[0]}


async def test_its_environment_is_exactly_what_it_may_have(daemon_env):
    inherited = {"HOME": "/h", "USER": "u", "LOGNAME": "l", "SHELL": "/s", "TERM": "t", "LANG": "C.UTF-8"}
    for name, value in inherited.items():
        daemon_env.setenv(name, value)

    async with connected(app(env={"TOKEN": "abc", "PORT": 8080})) as session:
        environment = await environment_of(session)

    expected = {**inherited, "PATH": NO_PATH, "TOKEN": "abc", "PORT": "8080", "TASAK_TREE": "tree-1"}
    assert expected == environment


async def test_what_is_not_set_is_not_passed_on_as_empty(daemon_env):
    daemon_env.setenv("HOME", "/h")
    daemon_env.setenv("TERM", "")

    async with connected(app()) as session:
        environment = await environment_of(session)

    assert {"HOME": "/h", "TERM": "", "PATH": NO_PATH, "TASAK_TREE": "tree-1"} == environment


async def test_the_config_may_replace_all_of_it_but_the_mark(daemon_env):
    daemon_env.setenv("HOME", "/h")

    async with connected(app(env={"HOME": "/other", "PATH": "/bin", "TASAK_TREE": "mine"})) as session:
        environment = await environment_of(session)

    assert {"HOME": "/other", "PATH": "/bin", "TASAK_TREE": "tree-1"} == environment


@pytest.mark.parametrize(("value", "expected"), [(3, "3"), (1.5, "1.5"), ("", ""), ("ż", "ż"), ("$HOME", "$HOME")])
async def test_a_value_arrives_as_text(value, expected):
    async with connected(app(env={"VALUE": value})) as session:
        assert expected == json.loads(await text_of(session, "environment"))["VALUE"]


async def test_it_runs_where_the_app_does(tmp_path):
    async with connected(app(directory=tmp_path)) as session:
        assert str(tmp_path.resolve()) == await text_of(session, "where")


async def test_without_a_directory_it_keeps_none_busy():
    async with connected(app(directory=None)) as session:
        assert "/" == await text_of(session, "where")


async def test_its_stderr_is_in_the_apps_log_and_among_its_last_words(tmp_path):
    log = tmp_path / "logs" / "app.log"

    async with connected(app(), log) as session:
        await text_of(session, "complain", text="ouch")

    assert ["ouch"] == session.last_words()
    assert "ouch\n" == log.read_text()


# What becomes of it


async def test_a_session_knows_its_process():
    async with connected(app()) as session:
        assert FAST_APP["command"] == psutil.Process(session.pid).cmdline()


async def test_a_ping_goes_there_and_back():
    async with connected(app()) as session:
        await stdio.ping(session)


async def test_a_ping_to_a_dead_program_fails():
    async with connected(app()) as session:
        psutil.Process(session.pid).kill()
        await session.ended.wait()

        with pytest.raises(NotExecuted, match="was killed by SIGKILL"):
            await stdio.ping(session)


async def test_closing_ends_the_process():
    async with connected(app()) as session:
        process = psutil.Process(session.pid)

    assert not process.is_running()


async def test_closing_one_that_is_dead_raises_nothing():
    async with connected(app()) as session:
        psutil.Process(session.pid).kill()


FAILING = {
    "no program": (["/nowhere/program"], "/nowhere/program cannot be started in /: "),
    "exits at once": (["/bin/sh", "-c", "echo no licence >&2; exit 3"], "sh exited with status 3"),
    "is killed": (["/bin/sh", "-c", "kill -9 $$"], "sh was killed by SIGKILL"),
    "says garbage and goes": (["/bin/sh", "-c", "echo hello; exit 1"], "sh exited with status 1"),
}


@pytest.mark.parametrize(("command", "reason"), FAILING.values(), ids=FAILING)
async def test_a_program_that_does_not_connect_says_why_and_leaves_nothing(tmp_path, command, reason):
    here = psutil.Process()
    tasks, descriptors = asyncio.all_tasks(), here.num_fds()

    with pytest.raises(ConnectFailed) as raised:
        await stdio.connect(app(*command), host(tmp_path / "app.log"))

    assert raised.value.message.startswith(reason)
    # Now, and not when the error that holds the frames has been forgotten.
    assert (tasks, descriptors, []) == (asyncio.all_tasks(), here.num_fds(), here.children())


async def test_why_it_did_not_connect_is_in_the_last_words(tmp_path):
    command, _ = FAILING["exits at once"]
    asking = host(tmp_path / "app.log")

    with pytest.raises(ConnectFailed):
        await stdio.connect(app(*command), asking)

    assert ["no licence"] == asking.last_words()


async def test_a_connect_that_is_given_up_leaves_nothing(tmp_path):
    here = psutil.Process()
    tasks, descriptors = asyncio.all_tasks(), here.num_fds()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            # It reads to the end and never answers.
            await stdio.connect(app("/bin/sh", "-c", "while read -r line; do :; done"), host(tmp_path / "app.log"))

    assert (tasks, descriptors, []) == (asyncio.all_tasks(), here.num_fds(), here.children())


@pytest.mark.slow
async def test_thirty_sessions_leave_no_task_descriptor_or_process(tmp_path):
    async def live() -> None:
        async with connected(app(), tmp_path / "app.log") as session:
            assert "hello" == await text_of(session, "echo", text="hello")

    here = psutil.Process()
    await live()
    tasks, descriptors, children = asyncio.all_tasks(), here.num_fds(), here.children()

    for _ in range(30):
        await live()

    assert (tasks, descriptors, children) == (asyncio.all_tasks(), here.num_fds(), here.children())


# Its options


@pytest.mark.parametrize(
    "options",
    [
        {"command": "npx server"},
        {"command": ["npx", "server"]},
        {"command": "npx", "args": []},
        {"command": "npx", "args": ["server", "--x"]},
        {"command": ["server", "--port", 8080]},
        {"command": "server", "args": ["--port", 8080, "--ratio", 0.5]},
        {"command": "server", "env": {}},
        {"command": "server", "env": {"A": "b", "PORT": 8080, "RATIO": 0.5}},
    ],
)
def test_its_schema_takes_what_it_says(options):
    assert [] == complaints(stdio, options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"command": ""},
        {"command": []},
        {"command": 3},
        {"command": {"npx": "server"}},
        {"command": ["npx", None]},
        {"command": ["npx", True]},
        {"command": "npx", "args": "server"},
        {"command": "npx", "args": [["server"]]},
        {"command": "npx", "args": [True]},
        {"command": "npx", "env": ["A=b"]},
        {"command": "npx", "env": {"A": True}},
        {"command": "npx", "env": {"A": None}},
        {"command": "npx", "env": {"A": ["b"]}},
        {"command": "npx", "envv": {}},
        {"command": "npx", "url": "https://example.com"},
        {"url": "https://example.com"},
    ],
)
def test_its_schema_refuses_the_rest(options):
    assert complaints(stdio, options)


def test_its_command_is_marked_as_one():
    marked = [name for name, option in stdio.transport_schema()["properties"].items() if "format" in option]

    assert ["command"] == marked
