"""A pool to try things on: a home of its own, real servers, and a clock that only the test moves."""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil
import pytest
import yaml

# Here, and not in the first connect, where it would run out a short init_timeout.
import tasak.core.mcp_session  # noqa: F401
from tasak.core.app import App
from tasak.core.gateway import Gateway
from tasak.core.tool_service import Answer, ToolCall
from tasak.errors import TasakError
from tasak.paths import StateDir
from tasak.testing import no_leaks
from tests.shell import FAST_APP

# Longer than anything here takes on a busy machine.
PATIENCE = 20.0

# A server that answers everything plainly; a test's script replaces what it wants otherwise. Each word that it
# hears goes to a file before it is answered: the witness of what has happened.
SCRIPTED = """
import json, os, sys

def hear(word):
    with open(os.environ["HEARD"], "a") as file:
        file.write(f"{word}\\n")

def complain(text):
    sys.stderr.write(f"{text}\\n")
    sys.stderr.flush()

def send(**message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\\n")
    sys.stdout.flush()

def answer(message, **result):
    send(id=message["id"], result=result)

def refuse(message, code, text):
    send(id=message["id"], error={"code": code, "message": text})

def wait_at_gate():
    with open("gate") as gate:
        gate.read(1)

def starts():
    with open(os.environ["HEARD"]) as file:
        return file.read().split().count("start")

def tools(*names):
    return [{"name": name, "inputSchema": {"type": "object", "additionalProperties": True}} for name in names]

def initialize(message):
    answer(
        message,
        protocolVersion=message["params"]["protocolVersion"],
        capabilities={"tools": {"listChanged": True}},
        serverInfo={"name": "scripted", "version": "1"},
    )

def ping(message):
    answer(message)

def tools_list(message):
    answer(message, tools=tools("give"))

def tools_call(message):
    answer(message, content=[], structuredContent=message["params"]["arguments"])

def started():
    pass

# --- the test's own script ---
%s
# --- ends here ---

hear("start")
started()
for line in sys.stdin:
    message = json.loads(line)
    hear(message["method"])
    handle = globals().get(message["method"].replace("/", "_"))
    if handle:
        handle(message)
"""

Result = TypeVar("Result")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Gate:
    """Where a scripted server waits (`wait_at_gate()`), once for each time that the test lets one pass."""

    def __init__(self, folder: Path) -> None:
        os.mkfifo(folder / "gate")
        # Both ends: who waits there waits for a byte, not for us to be there.
        self._fd = os.open(folder / "gate", os.O_RDWR)

    def let_one_pass(self) -> None:
        os.write(self._fd, b".")

    def close(self) -> None:
        os.close(self._fd)


class Pool:
    """The core put together over a home in `root`, which must be `HOME`. Leaves no process behind."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = Clock()
        self.gate = Gate(root)
        self.state = StateDir(root / ".tasak")
        self.state.create()
        self.gateway = Gateway(self.state, environment={}, clock=self.clock)
        self.manager = self.gateway.manager
        self.service = self.gateway.service
        self._apps: dict[Path, dict[str, Any]] = {}
        self._settings: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.close()
        await soon(self.gateway.shut_down())
        if kind is None:
            assert [] == self.processes(), "processes were left behind"

    def configure(self, name: str = "fast", *, folder: Path | None = None, **keys: Any) -> None:
        """Make the stdlib server an app of the user's own config, or of the project `folder`, with more `keys`."""
        file = folder / "tasak.yaml" if folder else self.state.config
        self._apps.setdefault(file, {})[name] = {**FAST_APP, **keys}
        self._write(file)

    def define(self, name: str = "fast", *, folder: Path | None = None, **keys: Any) -> App:
        """The same, and the app as a plain caller has it."""
        self.configure(name, folder=folder, **keys)
        return self.app(name, cwd=folder)

    def forget(self, name: str) -> None:
        """Take the app out of the user's own config."""
        del self._apps[self.state.config][name]
        self._write(self.state.config)

    def compose(self, name: str, tools: dict[str, Any], *, folder: Path | None = None, **keys: Any) -> None:
        """Make an app of these curated tools, of the user's own config or of the project `folder`."""
        file = folder / "tasak.yaml" if folder else self.state.config
        self._apps.setdefault(file, {})[name] = {"transport": "curated", "tools": tools, **keys}
        self._write(file)

    def script(self, script: str, name: str = "scripted", **keys: Any) -> App:
        """An app that is the scripted server, with this script in it."""
        program = self.root / f"{name}.py"
        program.write_text(SCRIPTED % script)
        env = {"HEARD": str(self._heard(name)), **keys.pop("env", {})}
        return self.define(name, command=[sys.executable, "-I", "-S", str(program)], env=env, **keys)

    def reach(self, url: str, name: str = "far", **keys: Any) -> App:
        """An app that is a server at this URL."""
        self._apps.setdefault(self.state.config, {})[name] = {"url": url, **keys}
        self._write(self.state.config)
        return self.app(name)

    def shell(self, script: str, name: str = "shell", **keys: Any) -> App:
        """An app that is a line of shell: no MCP server at all."""
        return self.define(name, command=["sh", "-c", script.replace("$", "$$")], **keys)

    def set(self, **settings: Any) -> None:
        """Write these under `settings:` of the user's own config."""
        self._settings |= settings
        self._write(self.state.config)

    def app(
        self,
        name: str = "fast",
        *,
        cwd: Path | None = None,
        session: str | None = None,
        timeout: float | None = None,
        **env: str,
    ) -> App:
        """The app for a caller in `cwd` with `env` in its environment."""
        config = self.gateway.config(cwd or self.root, {"PATH": os.environ["PATH"], **env})
        return config.resolve(name, session=session, timeout=timeout)

    async def call(self, app: App, tool: str, **arguments: Any) -> Answer:
        return await soon(self.service.call(ToolCall(app=app, tool=tool, arguments=arguments)))

    async def text(self, app: App, tool: str, **arguments: Any) -> str:
        """What the call answers, as the text of its only block."""
        answer = await self.call(app, tool, **arguments)
        assert answer.result is not None
        (block,) = answer.result["content"]
        return str(block["text"])

    def heard(self, name: str = "scripted") -> list[str]:
        """What the app's scripted servers heard, all of them: `start` and the methods of what was sent."""
        file = self._heard(name)
        return file.read_text().split() if file.exists() else []

    def executed(self) -> list[str]:
        """What apps that have `env: {EXEC: …}` of `self.witness` were made to do."""
        return self.witness.read_text().split() if self.witness.exists() else []

    @property
    def witness(self) -> Path:
        return self.root / "executed"

    def counted(self, metric: str, **labels: str) -> float:
        """The value of a metric; 0 where nothing was counted."""
        samples = self.gateway.metrics.as_json().get(metric, [])
        return next((sample["value"] for sample in samples if sample["labels"] == labels), 0)

    def processes(self) -> list[int]:
        """Every live process that this pool has started, or that one of those has."""
        found = []
        for process in psutil.process_iter():
            try:
                is_ours = process.environ().get("TASAK_TREE", "").startswith(self.gateway.instance)
                if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    def _heard(self, name: str) -> Path:
        return self.root / f"{name}.heard"

    def _write(self, file: Path) -> None:
        # Under a new inode: two versions of one size may be written within one tick of the file system's clock.
        scratch = file.with_name(secrets.token_hex(4))
        scratch.write_text(yaml.safe_dump({"apps": self._apps.get(file, {}), "settings": self._settings}))
        scratch.chmod(0o600)
        scratch.replace(file)


@pytest.fixture
async def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    """For the conftest of each folder whose tests want one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    async with no_leaks(), Pool(tmp_path) as made:
        yield made


async def soon(work: Awaitable[Result]) -> Result:
    """What `work` gives, within a time that is long enough for anything."""
    return await asyncio.wait_for(work, PATIENCE)


async def failure_of(work: Awaitable[Any]) -> TasakError:
    """What `work`, which has to fail, fails with."""
    with pytest.raises(TasakError) as raised:
        await soon(work)
    return raised.value


async def close_all(pool: Pool) -> None:
    for connection in pool.manager:
        await soon(pool.manager.close(connection))


async def until(is_so: Callable[[], Any]) -> None:
    """Wait until something outside of the loop has happened."""
    async with asyncio.timeout(PATIENCE):
        while not is_so():  # noqa: ASYNC110 - files and processes set no event
            await asyncio.sleep(0.005)
