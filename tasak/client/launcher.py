"""Starts the daemon when there is none: one, however many callers come at once, and none that holds its caller."""

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from tasak.client import fast, start_failures
from tasak.errors import BadConfig, DaemonAway
from tasak.last_words import with_last_words
from tasak.locking import LOCK_POLL, has_locked
from tasak.paths import StateDir, move_away, open_private, read_private
from tasak.wire import CONTINUE_TIMEOUT, LOG_LEVEL_VARIABLE, TREE_VARIABLE

# A cold start on a busy machine; others wait as long for whoever is starting.
START_TIMEOUT = 15.0

# glibc sets 64 MiB of addresses aside for each thread that allocates, which do not fit into a usual `ulimit -v`.
FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}

# What a daemon says of itself on the pipe that its starter waits on.
READY = b"tasak: ready\n"


def connect(state: StateDir, patience: float = CONTINUE_TIMEOUT) -> socket.socket | None:
    """A connection to the daemon; None where nobody listens. Its timeout: how many seconds the daemon may be silent.

    Raises:
        DaemonAway: connecting is forbidden here, it has not accepted for long, or who listens is another user.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(patience)
    try:
        in_folder_of_long_path(state, connection.connect)
        listener = fast.peer_uid(connection)
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
    if listener != os.geteuid():
        connection.close()
        refuse_another_user(state)
    return connection


def refuse_another_user(state: StateDir) -> NoReturn:
    """Who listens there is told nothing, and gets no signal."""
    problem = BadConfig(f"who listens on {state.socket} is another user", fix=move_away(state.socket))
    raise not_used(problem) from problem


def in_folder_of_long_path(state: StateDir, use: Callable[[str], None]) -> None:
    """Do something with the socket's path, also where that is longer than the kernel takes."""
    path = os.fspath(state.socket)
    if len(os.fsencode(path)) <= fast.LONGEST_PATH:
        use(path)
        return
    back = os.open(".", os.O_RDONLY)
    try:
        os.chdir(state.root)
        use(state.socket.name)
    finally:
        os.fchdir(back)
        os.close(back)


def start(state: StateDir, *, log_level: str | None = None, is_asked_for: bool = False) -> socket.socket:
    """A connection to the daemon, which is started if nobody else does it meanwhile, and may take its time to answer.

    Unless the user has asked for it, one that was stopped stays stopped, and one that failed to start just now is not
    tried again yet.

    Raises:
        DaemonAway: it does not start, or the state folder is not safe to use; the message says why.
    """
    with starting(state) as connection:
        if connection := connection or connect(state, START_TIMEOUT):
            return connection
        if not is_asked_for:
            require_enabled(state)
            start_failures.require_time(state)
        return spawn(state, log_level)


def require_enabled(state: StateDir) -> None:
    """
    Raises:
        DaemonAway: the user has stopped it.
    """
    if state.is_disabled:
        raise DaemonAway("the daemon is stopped, until `tasak daemon start`", fix="tasak daemon start")


@contextmanager
def starting(state: StateDir) -> Iterator[socket.socket | None]:
    """Be the one who starts a daemon; or get a connection to the one that somebody else has started meanwhile.

    Raises:
        DaemonAway: neither, for long; or the state folder is not safe to use.
    """
    with start_lock(state) as lock:
        yield wait_for_starter(lock, lambda: connect(state, START_TIMEOUT))


@contextmanager
def in_turn(state: StateDir) -> Iterator[None]:
    """Be the one who starts or replaces a daemon, after whoever does that now: the one that listens may be about to go.

    Raises:
        DaemonAway: another has been at it for long; or the state folder is not safe to use.
    """
    with start_lock(state) as lock:
        wait_for_starter(lock, lambda: None)
        yield


@contextmanager
def start_lock(state: StateDir) -> Iterator[int]:
    """The file that whoever starts a daemon locks."""
    try:
        with using(state):
            state.create()
            lock = open_private(state.start_lock, os.O_RDWR)
    except BadConfig as problem:
        raise not_used(problem) from problem
    try:
        yield lock
    finally:
        os.close(lock)


@contextmanager
def using(state: StateDir) -> Iterator[None]:
    """Around what a daemon needs of the state folder.

    Raises:
        DaemonAway: the system does not let us have it.
    """
    try:
        yield
    except OSError as problem:
        named = str(problem.filename)
        place = named if named.startswith(f"{state.root}/") else state.root
        raise DaemonAway(f"no daemon: {place} cannot be used: {problem.strerror}") from problem


def not_used(problem: BadConfig) -> DaemonAway:
    """Why what is there leads to no daemon."""
    return DaemonAway(f"no daemon: {problem.message}", fix=problem.fix)


def wait_for_starter(lock: int, meanwhile: Callable[[], socket.socket | None]) -> socket.socket | None:
    """Wait for the lock, or for a connection that makes it unnecessary."""
    deadline = time.monotonic() + START_TIMEOUT
    while not has_locked(lock):
        if connection := meanwhile():
            return connection
        if time.monotonic() > deadline:
            raise DaemonAway(f"another process has been starting the daemon for {START_TIMEOUT:g} s")
        time.sleep(LOCK_POLL)
    return None


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
            if said.endswith(READY):
                # The daemon outlives us: nobody waits for it.
                process.returncode = 0
            else:
                process.kill()
    except OSError as problem:
        raise DaemonAway(f"the daemon cannot be started: {problem}") from problem
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)
    if said.endswith(READY) and (connection := connect(state, START_TIMEOUT)):
        start_failures.forget(state)
        return connection
    failure = not_started(said.decode(errors="replace"), state)
    start_failures.note(state, failure.message)
    raise failure


def environment(log_level: str | None) -> dict[str, str]:
    """The caller's, less the mark of a daemon's children."""
    inherited = {name: value for name, value in os.environ.items() if name != TREE_VARIABLE}
    return {**FEW_ARENAS, **inherited, **({LOG_LEVEL_VARIABLE: log_level} if log_level else {})}


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
    lines = [line for line in said.splitlines() if line.strip()] or logged(state)
    return DaemonAway(
        with_last_words("the daemon did not start", lines),
        fix=f"`tasak daemon run` shows it in the foreground; its log is {state.log}",
    )


def logged(state: StateDir) -> list[str]:
    try:
        return read_private(state.log).splitlines()
    except (OSError, BadConfig):
        return []
