"""A user's home with one app whose server is a witness, and what may be done to it: calls, signals, removal."""

import contextlib
import itertools
import secrets
import socket
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from tasak.client import client, launcher
from tasak.errors import DaemonAway, Outcome, TasakError
from tasak.paths import StateDir
from tasak.request import Reply, Request
from tests.shell import Done, Shell, until

SCRIBE = Path(__file__).with_name("scribe.py")

# Longer than anything here takes on a busy machine.
PATIENCE = 30.0

# What each exit status says of whether the tool has run.
OUTCOMES: dict[int, Outcome] = {0: "executed", 2: "not_executed", 4: "not_executed", 5: "executed", 6: "unknown"}


@dataclass(frozen=True, slots=True)
class End:
    """How a call ended, as its caller was told."""

    outcome: Outcome
    exit_status: int
    said: str

    @classmethod
    def of(cls, call: Callable[[], Reply]) -> "End":
        try:
            reply = call()
        except TasakError as problem:
            return cls(problem.outcome, problem.exit_status, problem.message)
        return cls("executed", reply.exit_status, reply.body.decode().strip())

    @classmethod
    def of_command(cls, done: Done) -> "End":
        """
        Raises:
            KeyError: it left with a status that says nothing of the outcome.
        """
        return cls(OUTCOMES[done.returncode], done.returncode, (done.stdout or done.stderr).strip())

    def is_honest_about(self, executions: int, *, most: int = 1) -> bool:
        match self.outcome:
            case "executed":
                # An error is an answer, too: of a server that refused to run it, say.
                return executions <= most and (executions > 0 or self.exit_status == 5)
            case "not_executed":
                return executions == 0
            case "unknown":
                return executions <= most


def scribe(witness: Path) -> dict[str, Any]:
    """The app, as a config has it; what it runs is written down in the file `witness`."""
    return {
        "command": [sys.executable, "-I", "-S", str(SCRIBE)],
        "env": {"EXEC": str(witness)},
        "tools": {"write_again": {"retry": "safe"}},
    }


class World(Shell):
    """The home; the app is `scribe`."""

    def __init__(self) -> None:
        super().__init__()
        self.witness = self.home / "exec"
        self.state = StateDir(self.home / ".tasak")
        self.configure({"scribe": scribe(self.witness)})
        self._marks = itertools.count(1)

    def env_with(self, **apps: Any) -> dict[str, str]:
        """The environment of a caller who has these apps and no others."""
        config = self.home / f"{secrets.token_hex(4)}.yaml"
        config.write_text(yaml.safe_dump({"apps": apps}))
        return {**self.env, "TASAK_CONFIG": str(config)}

    def new_mark(self) -> str:
        """A name for one call; all are of one length."""
        return f"m{next(self._marks):06d}"

    def executions(self) -> Counter[str]:
        """How often each mark was written down."""
        return Counter(self.witness.read_text().split() if self.witness.exists() else [])

    def words(self, mark: str, then: str = "answer", *, tool: str = "write", app: str = "scribe") -> list[str]:
        """The command that makes the call."""
        return [app, tool, "--mark", mark, "--then", then]

    def connect(self) -> socket.socket:
        """A connection to the daemon, which is started where there is none.

        Raises:
            DaemonAway: it does not start.
        """
        connection = launcher.connect(self.state)
        if connection is None:
            self("daemon", "start")
            connection = launcher.connect(self.state)
        if connection is None:
            raise DaemonAway("it does not start")
        return connection

    def request(self, mark: str, then: str = "answer", *, tool: str = "write", **more: Any) -> Request:
        """The same call, of this process."""
        return self.request_of("scribe", tool, "--mark", mark, "--then", then, **more)

    def request_of(self, app: str, tool: str, *argv: str, **more: Any) -> Request:
        return Request(**{"app": app, "tool": tool, "argv": argv, "cwd": self.home, "env": self.env} | more)

    def call(self, request: Request, connection: socket.socket | None = None) -> End:
        """Make the call in this process; by way of `connection`, if one is given."""
        return End.of(lambda: client.call(connection or self.connect(), request, lambda progress: None, is_exact=False))

    def let_answer(self, mark: str) -> None:
        """The call that is held need not be any more."""
        Path(f"{self.witness}.{mark}").touch()

    def servers(self) -> list[psutil.Process]:
        """Those of the daemon's that it started, and that have not ended."""
        with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
            return [each for each in psutil.Process(self.daemon_pid).children() if is_alive(each)]
        return []

    def daemons(self) -> list[psutil.Process]:
        return self.processes_of("tasak.daemon")

    def processes_of(self, word: str) -> list[psutil.Process]:
        """Those of this home that have the word in their command."""
        found = []
        for process in psutil.process_iter():
            try:
                if word in " ".join(process.cmdline()) and process.environ().get("HOME") == str(self.home):
                    found.append(process)
            except psutil.Error:
                continue
        return found


def kill(processes: Sequence[psutil.Process]) -> None:
    """`kill -9`; returns when they are dead."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    until(lambda: not any(map(is_alive, processes)))


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
