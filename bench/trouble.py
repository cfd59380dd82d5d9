"""Apps that go wrong, each in a way of its own, until they are let go: what an app beside them must not notice."""

import json
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.daemon_call import DaemonCall
from bench.home import STDLIB_SERVER, Failed, Home
from tasak.client import client, launcher

FLOODING_SERVER = [sys.executable, "-I", "-S", str(Path(__file__).with_name("flooding_server.py"))]

# Longer than any measurement: nobody is to give up meanwhile.
FOR_LONG = 3600

# So many wait for each of those that hang.
CALLERS = 8

# What a shell reads it throws away: no handshake will be answered.
APPS: dict[str, dict[str, Any]] = {
    "hangs-at-connect": {"command": ["sh", "-c", "cat >/dev/null"], "init_timeout": FOR_LONG},
    "hangs-in-calls": {"command": STDLIB_SERVER, "call_timeout": FOR_LONG},
    "floods": {"command": FLOODING_SERVER},
}
SLEEP = ("hangs-in-calls", "sleep", "--seconds", str(FOR_LONG))

# It takes a fraction of a second, on a machine that has much else to do a few.
PATIENCE = 30.0
POLL_INTERVAL = 0.02

# The flood is there when so much of it has arrived.
BEGUN = 1 << 19


class Trouble:
    """`with`: meanwhile one app hangs at connect, one hangs in every call, and one floods. `APPS` are configured."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for _ in range(CALLERS):
            self._call("hangs-at-connect", "begin")
            self._call(*SLEEP)
        self._call("floods", "begin")
        self._wait_until_it_is_there()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        is_there = self._is_there()
        self._stack.close()
        for connection in self._connections():
            self._ask("DELETE", f"/connections/{connection['id']}")
        if kind is None and not is_there:
            raise Failed("what was to be trouble has come to an end before it was to")

    def _call(self, *words: str) -> None:
        """Make a call whose answer nobody waits for."""
        connection: socket.socket = DaemonCall(self._home, *words, expected="").begin()
        self._stack.enter_context(connection)

    def _wait_until_it_is_there(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._is_there():
            if time.monotonic() > deadline:
                raise Failed(f"after {PATIENCE:g} s there is no trouble yet: {self._connections()}")
            time.sleep(POLL_INTERVAL)

    def _is_there(self) -> bool:
        found = {each["app"]: (each["state"], each["in_use"]) for each in self._connections()}
        return (
            found.get("hangs-at-connect") == ("connecting", CALLERS)
            and found.get("hangs-in-calls") == ("ready", CALLERS)
            and found.get("floods", ("",))[0] == "ready"
            and self._flooded() >= BEGUN
        )

    def _flooded(self) -> int:
        logs = self._home.state.app_log("floods").parent.glob("floods.log*")
        return sum(log.stat().st_size for log in logs)

    def _connections(self) -> list[dict[str, Any]]:
        return [each for each in self._ask("GET", "/connections")["connections"] if each["app"] in APPS]

    def _ask(self, method: str, path: str) -> Any:
        connection = launcher.connect(self._home.state)
        if connection is None:
            raise Failed("the daemon is gone")
        status, content = client.ask(connection, method, path, timeout=PATIENCE)
        if status != 200:
            raise Failed(f"{method} {path}: {content!r}")
        return json.loads(content)
