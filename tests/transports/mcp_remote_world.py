"""What the tests of mcp-remote share: the daemon's core around it, and a user with a browser who signs in."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import psutil

from tasak.core.app import App
from tasak.core.host import AppHost
from tasak.core.tool_service import ToolCall
from tasak.errors import SignInNeeded
from tasak.testing.stage import SessionOwner, Stage
from tasak.transports.mark import is_of

# Longer than anything here takes on a busy machine, a first download from npm included.
PATIENCE = 40.0

# Opens what it is told to as a browser would, and writes down what that was.
BROWSER = """#!{python}
import sys, urllib.request
open({opened!r}, "a").write(sys.argv[1] + "\\n")
urllib.request.urlopen(sys.argv[1]).read()
"""

Result = TypeVar("Result")


class World:
    """One app that mcp-remote reaches, with a store of sign-ins of its own."""

    def __init__(self, folder: Path, stage: Stage) -> None:
        self.stage = stage
        self.problems: list[SignInNeeded] = []
        """What hosts of `host_for` were told."""
        self._folder = folder

    def app(self, url: str, *, env: Mapping[str, Any] | None = None, **options: Any) -> App:
        store = {"MCP_REMOTE_CONFIG_DIR": str(self._folder / "sign-ins")}
        return self.stage.app({"url": url, "env": {**store, **(env or {})}, **options})

    def host_for(self, app: App) -> AppHost:
        host = self.stage.host_for(app)
        host.on_sign_in_needed = self.problems.append
        return host

    def own(self, app: App) -> SessionOwner:
        """Begin to open a session, with nobody to give a sign-in more time."""
        return SessionOwner(self.stage.transport, app, self.host_for(app))

    async def call(self, app: App, tool: str, **arguments: Any) -> str:
        """The text that a tool answers with, over the pool."""
        answer = await soon(self.stage.service.call(ToolCall(app=app, tool=tool, arguments=arguments)))
        assert answer.result is not None
        (block,) = answer.result["content"]
        return str(block["text"])

    async def ready(self) -> None:
        """Wait until the pool's only connection is."""
        await until(lambda: ["ready"] == [str(connection.state) for connection in self.stage.manager])

    async def listens(self, app: App, *, times: int = 1) -> None:
        """Wait until the app's mcp-remote listens for the user, which it may do only once it has said where to go."""
        await until(lambda: times == self.log_of(app).count("Waiting for authorization"))

    def processes(self) -> list[psutil.Process]:
        """All that this daemon has started, and that these have."""
        return [each for each in psutil.process_iter() if is_of(self.stage.instance, mark_of(each))]

    def log_of(self, app: App) -> str:
        """What its processes have said on stderr."""
        log = self.stage.host_for(app).app_log
        return log.read_text() if log and log.exists() else ""

    def browser(self) -> Path:
        """A command for `BROWSER`; `opened` has what it was made to open."""
        command = self._folder / "browser"
        command.write_text(BROWSER.format(python=sys.executable, opened=str(self._folder / "opened")))
        command.chmod(0o700)
        return command

    @property
    def opened(self) -> list[str]:
        file = self._folder / "opened"
        return file.read_text().split() if file.exists() else []


def mark_of(process: psutil.Process) -> str | None:
    try:
        is_alive = process.status() != psutil.STATUS_ZOMBIE
        return process.environ().get("TASAK_TREE") if is_alive else None
    except psutil.Error:
        return None


def url_in(text: str) -> str:
    """Where the user is told to sign in."""
    found = re.search(r"sign in[:,] open (http\S+)", text)
    assert found, text
    return found[1]


async def visit(url: str) -> str:
    """Open a page as a browser does, wherever it leads; what it says."""
    async with httpx2.AsyncClient(follow_redirects=True, timeout=PATIENCE) as client:
        return (await client.get(url)).text


async def soon(work: Awaitable[Result]) -> Result:
    return await asyncio.wait_for(work, PATIENCE)


async def until(is_so: Callable[[], Any]) -> None:
    """Wait until something outside of the loop has happened."""
    async with asyncio.timeout(PATIENCE):
        while not is_so():  # noqa: ASYNC110 - files and processes set no event
            await asyncio.sleep(0.01)
