"""Ends the daemon: politely, then with signals, which go only to the process that the kernel names as the listener."""

import errno
import fcntl
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from tasak.client import client, launcher
from tasak.errors import DaemonAway
from tasak.paths import NO_FILE, StateDir
from tasak.pidfd import open_pidfd, send_signal
from tasak.wire import CONTINUE_TIMEOUT, DRAIN

# After the drain, closing every session: EOF, SIGTERM and SIGKILL take two seconds each.
CLOSING = 10.0
# A daemon that answers nothing gets so long to die of a signal.
SIGNAL_GRACE = 3.0
POLL = 0.02


def stop(state: StateDir, *, drain: float = DRAIN) -> Sequence[int] | None:
    """End the daemon, and wait until it is gone: the processes that survived it; None if there was no daemon.

    Raises:
        DaemonAway: it cannot be reached, or does not go.
        BadConfig: others have a hand in the state folder: what listens there may be anything.
    """
    state.require_private()
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
        if survivors is not None and listener.is_gone_within(state, SIGNAL_GRACE):
            return survivors
        for number in (signal.SIGTERM, signal.SIGKILL):
            listener.send(number)
            if listener.is_gone_within(state, SIGNAL_GRACE):
                return survivors or ()
    raise DaemonAway(f"the daemon (process {listener.pid}) does not go")


def let_it_leave(state: StateDir) -> None:
    """Wait for the daemon that listens, if it is about to go."""
    if connection := launcher.connect(state):
        with Listener(connection) as listener:
            connection.close()
            if is_leaving(state):
                listener.is_gone_within(state, DRAIN + CLOSING)


def is_leaving(state: StateDir) -> bool:
    """Whether the daemon that listens is about to go."""
    try:
        return answers(state, "GET", "/health", client.ANSWER_TIMEOUT).get("draining") is True
    except DaemonAway:
        return False


def is_there(state: StateDir) -> bool:
    """Whether the daemon answers anything."""
    try:
        return bool(answers(state, "GET", "/health", CONTINUE_TIMEOUT))
    except DaemonAway:
        return False


def shut_down(state: StateDir, drain: float) -> Sequence[int] | None:
    """Ask it to stop: what survived it; None where it does not answer."""
    try:
        if not answers(state, "GET", "/health", CONTINUE_TIMEOUT):
            return None
        survivors: Sequence[int] = answers(state, "POST", f"/shutdown?drain={drain:g}", drain + CLOSING)["survivors"]
    except (DaemonAway, LookupError):
        return None
    return survivors


def answers(state: StateDir, method: str, path: str, seconds: float) -> dict[str, Any]:
    """The JSON object that it answers; an empty one where nobody listens.

    Raises:
        DaemonAway: it does not answer, or with something else.
    """
    connection = launcher.connect(state)
    if connection is None:
        return {}
    _, content = client.ask(connection, method, path, timeout=seconds)
    return client.object_in(content)


def is_gone_within(state: StateDir, seconds: float) -> bool:
    return becomes_true(lambda: is_gone(state), seconds)


def becomes_true(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def is_gone(state: StateDir) -> bool:
    """Whether no process holds the daemon's lock, which is the only proof that one runs."""
    try:
        # Not blocking: it may turn out to be a pipe.
        lock = os.open(state.lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as problem:
        if problem.errno in (errno.ENOENT, errno.ENOTDIR, *NO_FILE):
            return True  # no daemon would take it for its lock
        raise
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


class Listener:
    """The process at the other end of a connection, held so that a signal cannot reach another of the same pid.

    Its pid is 0 where it has ended already, or belongs to another pid namespace.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.pid = listener_pid(connection)
        self._handle: int | None = None
        self._has_ended = False

    def __enter__(self) -> Self:
        if self.pid:
            try:
                self._handle = open_pidfd(self.pid)
            except ProcessLookupError:
                self._note_end()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)

    def is_gone_within(self, state: StateDir, seconds: float) -> bool:
        """Whether it ends by then. The next daemon may take its lock at once: that one need not go."""
        return becomes_true(lambda: self.has_ended() or is_gone(state), seconds)

    def has_ended(self) -> bool:
        if self._handle is not None:
            return bool(select.select([self._handle], [], [], 0)[0])
        if self.pid:
            self.send(0)
        return self._has_ended

    def send(self, number: int) -> None:
        if not self.pid:
            return
        try:
            send_signal(self.pid, self._handle, number)
        except ProcessLookupError:
            self._note_end()

    def _note_end(self) -> None:
        self.pid = 0
        self._has_ended = True


def listener_pid(connection: socket.socket) -> int:
    """Who called `listen`: the kernel keeps it with the socket."""
    if sys.platform == "darwin":
        return connection.getsockopt(0, 2)  # SOL_LOCAL, LOCAL_PEERPID
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], sys.byteorder)
