"""Five apps, their servers, and the daemon between them and us, in a home of their own."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.home import TASAK, Failed, Home

STDIO_SERVER = [sys.executable, "-I", "-S", str(Path(__file__).with_name("stdio_server.py"))]

APPS = ("stdio", "http", "sse", "curated", "flaky")

# What is not called for so long is let go: in the end all of it, which shows what is left then.
IDLE_TTL = 2

# A flaky server that shakes no hands is given up soon.
INIT_TIMEOUT = 1


class World:
    """`with` starts the servers and the daemon; all of it is gone afterwards."""

    def __init__(self, apps: Sequence[str], seed: int) -> None:
        self.home = Home()
        self.apps = apps
        self._seed = seed
        self._stack = ExitStack()
        self._edits = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.home)
            self.web = {name: stack.enter_context(WebServer(self._witness(name))) for name in ("http", "sse")}
            self.configure()
            self.home.answer(TASAK, "stdlib", "echo", "--text", "started")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)

    @property
    def daemon_pid(self) -> int:
        return int(self.home.state.pid_file.read_text())

    def configure(self) -> None:
        definitions = self._definitions()
        self.home.configure({name: definitions[name] for name in definitions}, settings={"conn_ttl": IDLE_TTL})

    def edit(self) -> None:
        """Change what the config says of one app."""
        self._edits += 1
        self.configure()

    def executions(self) -> Counter[str]:
        """How often each call has run, by its text."""
        found: Counter[str] = Counter()
        for name in APPS:
            if self._witness(name).exists():
                found.update(self._witness(name).read_text().split())
        return found

    def _witness(self, name: str) -> Path:
        return self.home.folder / f"{name}.executed"

    def _definitions(self) -> dict[str, dict[str, Any]]:
        return {
            "stdio": {
                "command": STDIO_SERVER,
                "env": {"EXEC": str(self._witness("stdio")), "EDIT": self._edits},
            },
            "http": {"url": self.web["http"].urls["url"]},
            "sse": {"transport": "sse", "url": self.web["sse"].urls["sse_url"]},
            "curated": {"transport": "curated", "tools": {name: passed_on(name) for name in ARGUMENTS}},
            "flaky": {
                "command": [*STDIO_SERVER, str(self._seed)],
                "env": {"EXEC": str(self._witness("flaky"))},
                "init_timeout": INIT_TIMEOUT,
            },
        }


ARGUMENTS: Mapping[str, Mapping[str, str]] = {
    "echo": {"text": "string"},
    "sleep": {"text": "string", "seconds": "number"},
    "refuse": {"text": "string", "code": "integer"},
}


def passed_on(tool: str) -> dict[str, Any]:
    """A curated tool that is the same tool of the app `stdio`."""
    types = ARGUMENTS[tool]
    return {
        "parameters": {
            "type": "object",
            "properties": {name: {"type": kind} for name, kind in types.items()},
            "required": list(types),
        },
        "steps": [{"app": "stdio", "tool": tool, "arguments": {name: f"${{args.{name}}}" for name in types}}],
    }


class WebServer:
    """The web server's process. `do` has it do harm."""

    def __init__(self, witness: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.soak.web_server", witness],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise Failed("the web server does not start")
        self.urls: dict[str, str] = json.loads(line)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def do(self, harm: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{harm}\n")
        self._process.stdin.flush()
