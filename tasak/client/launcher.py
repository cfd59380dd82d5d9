"""Starts the daemon when there is none: one, however many callers come at once, and none that holds its caller."""

import fcntl
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from tasak.errors import BadConfig, DaemonAway
from tasak.paths import StateDir, open_private
from tasak.wire import CONTINUE_TIMEOUT, LOG_LEVEL_VARIABLE

# A cold start on a busy machine; others wait as long for whoever is starting.
START_TIMEOUT = 15.0

# The kernel wakes nobody for a lock that is asked for with a bound.
LOCK_POLL = 0.02

# macOS's sun_path, less its NUL; a longer path is reached from inside its folder.
LONGEST_PATH = 103

# What a daemon says of itself on the pipe that its starter waits on.
READY = b"tasak: ready\n"

# As many of the daemon's last lines as a reader takes in.
QUOTED_LINES = 10


def connect(state: StateDir) -> socket.socket | None:
    """A connection to the daemon; None where nobody listens.

    Raises:
        DaemonAway: connecting is forbidden here, or it has not accepted for long.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(CONTINUE_TIMEOUT)
    try:
        in_folder_of_long_path(state, connection.connect)
    except PermissionError as problem:
        connection.close()
        raise DaemonAway(
            f"connecting to {state.socket} is forbidden here: {problem.strerror} (a sandbox?)",
            fix="allow the sandbox that socket, or call with --no-daemon",
        ) from problem
    except (BlockingIOError, TimeoutError) as problem:
        connection.close()
        raise DaemonAway("the daemon has not accepted a connection for long", fix="tasak daemon restart") from problem
    except OSError:
        connection.close()
        return None
    return connection


def in_folder_of_long_path(state: StateDir, use: Callable[[str], None]) -> None:
    """Do something with the socket's path, also where that is longer than the kernel takes."""
    path = os.fspath(state.socket)
    if len(os.fsencode(path)) <= LONGEST_PATH:
        use(path)
        return
    back = os.open(".", os.O_RDONLY)
    try:
        os.chdir(state.root)
        use(state.socket.name)
    finally:
        os.fchdir(back)
        os.close(back)


def start(state: StateDir, *, log_level: str | None = None) -> socket.socket:
    """A connection to the daemon, which is started if nobody else does it meanwhile.

    Raises:
        DaemonAway: it does not start, or the state folder is not safe to use; the message says why.
    """
    try:
        state.create()
        lock = open_private(state.start_lock, os.O_RDWR)
    except BadConfig as problem:
        raise DaemonAway(f"no daemon: {problem.message}", fix=problem.fix) from problem
    except OSError as problem:
        raise DaemonAway(f"no daemon: {state.root} cannot be used: {problem.strerror}") from problem
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while not has_locked(lock):
            if connection := connect(state):
                return connection
            if time.monotonic() > deadline:
                raise DaemonAway(f"another process has been starting the daemon for {START_TIMEOUT:g} s")
            time.sleep(LOCK_POLL)
        return connect(state) or spawn(state, log_level)
    finally:
        os.close(lock)


def has_locked(lock: int) -> bool:
    """Take the lock if nobody holds it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def spawn(state: StateDir, log_level: str | None) -> socket.socket:
    reading, writing = os.pipe()
    try:
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "tasak.daemon"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Until it is ready, its stderr is the pipe: whatever stops it from starting is heard here.
            stderr=writing,
            cwd="/",
            env=environment(log_level),
            start_new_session=True,
        ) as process:
            os.close(writing)
            writing = -1
            said = until_ready(reading)
            # The daemon outlives us: nobody waits for it.
            process.returncode = 0
    except OSError as problem:
        raise DaemonAway(f"the daemon cannot be started: {problem}") from problem
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
    if said.endswith(READY) and (connection := connect(state)):
        return connection
    raise not_started(said.decode(errors="replace"), state)


def environment(log_level: str | None) -> dict[str, str]:
    """The caller's, less the mark of a daemon's children."""
    inherited = {name: value for name, value in os.environ.items() if name != "TASAK_TREE"}
    return inherited | ({LOG_LEVEL_VARIABLE: log_level} if log_level else {})


def until_ready(pipe: int) -> bytes:
    said = b""
    deadline = time.monotonic() + START_TIMEOUT
    while not said.endswith(READY):
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return said + f"(not ready after {START_TIMEOUT:g} s)".encode()
        if not (chunk := os.read(pipe, 65536)):
            return said
        said += chunk
    return said


def not_started(said: str, state: StateDir) -> DaemonAway:
    """Its last words on stderr; where it said none there, those in its log."""
    lines = [line for line in said.splitlines() if line.strip()] or tail(state)
    return DaemonAway(
        "\n".join(["the daemon did not start", *(f"  | {line}" for line in lines[-QUOTED_LINES:])]),
        fix=f"`tasak daemon run` shows it in the foreground; its log is {state.log}",
    )


def tail(state: StateDir) -> list[str]:
    try:
        return state.log.read_text(encoding="utf-8", errors="replace").splitlines()[-QUOTED_LINES:]
    except OSError:
        return []
