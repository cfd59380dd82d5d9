"""Ends the daemon: politely, then with signals, which go only to the process that the kernel names as the listener."""

import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from tasak.client import client, launcher
from tasak.errors import DaemonAway
from tasak.paths import StateDir
from tasak.wire import CONTINUE_TIMEOUT, DRAIN

# After the drain, closing every session: EOF, SIGTERM and SIGKILL take two seconds each.
CLOSING = 10.0
# A daemon that answers nothing gets so long to die of a signal.
SIGNAL_GRACE = 3.0
POLL = 0.02


def stop(state: StateDir, *, drain: float = DRAIN) -> Sequence[int] | None:
    """End the daemon, and wait until it is gone: the process groups that survived it; None if there was no daemon.

    Raises:
        DaemonAway: it cannot be reached, or does not go.
    """
    connection = launcher.connect(state)
    if connection is None:
        # One that leaves has closed its socket already.
        if not is_gone_within(state, CLOSING):
            raise DaemonAway("a daemon holds its lock, but does not listen", fix=f"see {state.log}")
        return None
    with Listener(connection) as listener:
        # A daemon that leaves would wait for it.
        connection.close()
        survivors = shut_down(state, drain)
        if survivors is not None and is_gone_within(state, SIGNAL_GRACE):
            return survivors
        for number in (signal.SIGTERM, signal.SIGKILL):
            listener.send(number)
            if is_gone_within(state, SIGNAL_GRACE):
                return survivors or ()
    raise DaemonAway(f"the daemon (process {listener.pid}) does not go")


def is_leaving(state: StateDir) -> bool:
    """Whether the daemon that listens is about to go."""
    try:
        return answers(state, "GET", "/health", client.ANSWER_TIMEOUT).get("draining") is True
    except (DaemonAway, ValueError):
        return False


def shut_down(state: StateDir, drain: float) -> Sequence[int] | None:
    """Ask it to stop: what survived it; None where it does not answer."""
    try:
        if not answers(state, "GET", "/health", CONTINUE_TIMEOUT):
            return None
        survivors: Sequence[int] = answers(state, "POST", f"/shutdown?drain={drain:g}", drain + CLOSING)["survivors"]
    except (DaemonAway, ValueError, LookupError):
        return None
    return survivors


def answers(state: StateDir, method: str, path: str, seconds: float) -> dict[str, Any]:
    """The JSON that it answers; nothing where nobody listens."""
    connection = launcher.connect(state)
    if connection is None:
        return {}
    _, content = client.ask(connection, method, path, timeout=seconds)
    answer: dict[str, Any] = json.loads(content)
    return answer


def is_gone_within(state: StateDir, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not is_gone(state):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def is_gone(state: StateDir) -> bool:
    """Whether no process holds the daemon's lock, which is the only proof."""
    try:
        lock = os.open(state.lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


class Listener:
    """The process at the other end of a connection, held so that a signal cannot reach another of the same pid."""

    def __init__(self, connection: socket.socket) -> None:
        self.pid = listener_pid(connection)
        self._handle = -1

    def __enter__(self) -> Self:
        if sys.platform == "linux":
            try:
                self._handle = os.pidfd_open(self.pid)
            except ProcessLookupError:
                self.pid = 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle >= 0:
            os.close(self._handle)

    def send(self, number: signal.Signals) -> None:
        try:
            if self._handle >= 0:
                signal.pidfd_send_signal(self._handle, number)
            elif self.pid:
                os.kill(self.pid, number)
        except ProcessLookupError:
            return


def listener_pid(connection: socket.socket) -> int:
    """Who called `listen`: the kernel keeps it with the socket."""
    if sys.platform == "darwin":
        return connection.getsockopt(0, 2)  # SOL_LOCAL, LOCAL_PEERPID
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], sys.byteorder)
