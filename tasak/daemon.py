"""The daemon's process: its lock and socket, its log, its signals, and its end."""

import time

BORN = time.monotonic()

import asyncio
import functools
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from importlib import import_module
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING

from tasak.client.launcher import LOCK_POLL, READY, has_locked, in_folder_of_long_path
from tasak.core.settings import daemon_settings
from tasak.errors import BadConfig, DaemonAway, TasakError
from tasak.paths import StateDir, open_private, write_private
from tasak.wire import DRAIN

if TYPE_CHECKING:
    from tasak.service import Service

# Fifty first callers at once, and more while they wait.
BACKLOG = 1024

# A daemon that has closed its socket is about to go.
LEAVING = 5.0

# After the answers are out, how long their connections may linger.
CLOSING_TIMEOUT = 1.0

# What is logged before the log is open; more is a bug.
EARLY_RECORDS = 1000

# A daemon that is stopped as soon as it has started still has its log to open.
LOG_PATIENCE = 5.0

log = logging.getLogger("tasak.daemon")


def main() -> int:
    """Run the daemon until it is stopped; the exit status."""
    try:
        run(StateDir.of_user(), announce=announce)
    except TasakError as problem:
        complain(problem.message, problem.fix)
        return problem.exit_status
    except OSError as problem:
        complain(f"{problem.filename}: {problem.strerror}")
        return DaemonAway.exit_status
    return 0


def complain(*lines: str | None) -> None:
    """To whoever started us, who reads our stderr."""
    os.write(2, "".join(f"{line}\n" for line in lines if line).encode("utf-8", "replace"))


def announce() -> None:
    """Tell whoever started us that we answer, and let go of them."""
    os.write(2, READY)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 2)
    os.close(null)


def run(state: StateDir, *, announce: Callable[[], None], log_level: str | None = None) -> None:
    """Serve on the user's socket. `log_level` goes before the environment's.

    Raises:
        DaemonAway: another daemon runs already, or the state folder cannot be used.
    """
    settings = daemon_settings(os.environ)
    state.create()
    hold(state)
    listening = listen(state)
    early = MemoryHandler(EARLY_RECORDS, flushLevel=logging.CRITICAL + 1)
    logging.basicConfig(level=log_level or settings.log_level, handlers=[early])
    has_log = threading.Event()
    asyncio.run(serve(state, listening, announce, functools.partial(warm_up, state, early, has_log)))
    has_log.wait(LOG_PATIENCE)


def warm_up(state: StateDir, early: MemoryHandler, has_log: threading.Event) -> None:
    """Import what the log and the first call need, 0.7 s in all, while the loop has other things to do."""
    from tasak.daemon_log import write_to

    try:
        write_to(state.log, early)
    except (OSError, BadConfig):
        # It serves without one; and there is nowhere to say so.
        logging.getLogger().removeHandler(early)
        logging.getLogger().addHandler(logging.NullHandler())
    has_log.set()
    import_module("tasak.core.mcp_session")
    # What is imported stays: no collection need look at half a million objects again, and hold up a call meanwhile.
    gc.freeze()


def hold(state: StateDir) -> None:
    """Take the lock, for life: it goes with the process.

    Raises:
        DaemonAway: another daemon has it, and does not go.
    """
    lock = open_private(state.lock, os.O_RDWR)
    deadline = time.monotonic() + LEAVING
    while not has_locked(lock):
        if time.monotonic() > deadline:
            raise DaemonAway("a daemon runs already")
        time.sleep(LOCK_POLL)


def listen(state: StateDir) -> socket.socket:
    """The socket, ours alone. We hold the lock, so what is there is stale."""
    state.socket.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        in_folder_of_long_path(state, listening.bind)
    finally:
        os.umask(before)
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening


async def serve(
    state: StateDir, listening: socket.socket, announce: Callable[[], None], warm_up: Callable[[], None]
) -> None:
    # Lazy, and after the socket is there: callers queue on it meanwhile.
    from aiohttp import web

    from tasak.core.gateway import Gateway
    from tasak.server import create_app
    from tasak.service import Service

    stop = asyncio.Event()
    gateway = Gateway(state, environment=os.environ)
    service = Service(gateway=gateway, instance=gateway.instance, uptime=lambda: time.monotonic() - BORN, stop=stop.set)
    runner = web.AppRunner(
        create_app(service),
        handler_cancellation=True,
        shutdown_timeout=CLOSING_TIMEOUT,
        access_log=None,
        tcp_keepalive=False,  # a Unix socket has none
    )
    await runner.setup()
    await web.SockSite(runner, listening, backlog=BACKLOG).start()
    own = os.stat(state.socket)
    write_private(state.pid_file, f"{os.getpid()}\n")
    gateway.manager.start_cleanup()
    endings = Endings(service, stop, DRAIN)
    endings.listen()
    announce()
    log.info("ready")
    # Whoever needs it waits for the import itself; nobody waits for the thread, not even a stop.
    threading.Thread(target=warm_up, name="warm-up", daemon=True).start()
    await stop.wait()
    await endings.finished()
    await runner.cleanup()
    if state.socket.exists() and os.stat(state.socket).st_ino == own.st_ino:
        state.socket.unlink()
    if is_ours(state.pid_file):
        state.pid_file.unlink()
    log.info("stopped")


def is_ours(pid_file: Path) -> bool:
    """Whether it names us: after us, another daemon may have written it."""
    try:
        return pid_file.read_text() == f"{os.getpid()}\n"
    except OSError:
        return False


class Endings:
    """What signals do: SIGTERM drains, a second one and SIGINT do not wait; SIGHUP is nothing to us."""

    def __init__(self, service: "Service", stop: asyncio.Event, seconds: float) -> None:
        self._service = service
        self._stop = stop
        self._seconds = seconds
        self._draining: asyncio.Task[None] | None = None

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end, self._seconds)
        loop.add_signal_handler(signal.SIGINT, self._end, 0.0)
        # Not ignored: children would inherit that.
        loop.add_signal_handler(signal.SIGHUP, lambda: None)

    async def finished(self) -> None:
        if self._draining:
            await asyncio.wait([self._draining])

    def _end(self, seconds: float) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(seconds), name="drain")
        else:
            self._service.cut_short()

    async def _drain(self, seconds: float) -> None:
        survivors = await self._service.drain(seconds)
        if survivors:
            log.error("these process groups survived: %s", survivors)
        self._stop.set()


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # All is closed and written. What is left is taking the modules down one by one, for which whoever waits would wait.
    os._exit(status)
