"""The daemon's process: its lock and socket, its log, its signals, and its end."""

import time

BORN = time.monotonic()

import asyncio
import functools
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING

from tasak.client.launcher import READY, in_folder_of_long_path, using
from tasak.core.settings import daemon_settings
from tasak.errors import BadConfig, DaemonAway, TasakError
from tasak.failure import of_loop, of_thread
from tasak.importing import load, load_all
from tasak.locking import has_locked_by
from tasak.loop import run_loop
from tasak.paths import StateDir, open_private, write_private
from tasak.wire import BACKLOG, DRAIN

if TYPE_CHECKING:
    from tasak.callers import Entrance
    from tasak.service import Service

# A daemon that has closed its socket is about to go.
LEAVING = 5.0

# Of our descriptors, for callers at the socket; most of the rest is for servers.
SOCKET_SHARE = 0.4

# How long a daemon that nobody can reach any more may stay beside the next one.
SOCKET_INTERVAL = 1.0

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
    return 0


def complain(*lines: str | None) -> None:
    """To whoever started us, who reads our stderr."""
    os.write(2, "".join(f"{line}\n" for line in lines if line).encode("utf-8", "replace"))


def announce() -> None:
    """Tell whoever started us that we answer, and let go of them."""
    with suppress(BrokenPipeError):  # they were killed meanwhile; others may be here already
        os.write(2, READY)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 2)
    os.close(null)


def run(state: StateDir, *, announce: Callable[[], None], log_level: str | None = None) -> None:
    """Serve on the user's socket. `log_level` goes before the environment's.

    Raises:
        DaemonAway: another daemon runs already, or the state folder cannot be used.
        BadConfig: a variable of the environment is malformed, or others have a hand in the state folder.
    """
    outlive_signals()
    settings = daemon_settings(os.environ)
    leave_no_core()
    with using(state):
        state.create()
        hold(state)
        listening = listen(state)
    early = MemoryHandler(EARLY_RECORDS, flushLevel=logging.CRITICAL + 1)
    logging.basicConfig(level=log_level or settings.log_level, handlers=[early])
    threading.excepthook = of_thread
    has_log = threading.Event()
    spare_threads()
    run_loop(serve(state, listening, announce, functools.partial(warm_up, state, early, has_log)), has_threads=True)
    has_log.wait(LOG_PATIENCE)


def outlive_signals() -> None:
    """What is no end of ours is none before there is a loop to hear of it. Not ignored: children would inherit that."""
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT):
        signal.signal(number, lambda *_: None)


def leave_no_core() -> None:
    """A crash writes no memory to the disk: tokens are in it, and the environments of callers.

    Nor does one of an app's, which has its secrets in its environment. It may raise the limit again for itself.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def spare_threads() -> None:
    """Have the loop itself hear of a child's end, as from Python 3.12 on, instead of a thread for each child."""
    if sys.platform == "linux" and sys.version_info < (3, 12):
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError:
            return
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())


def warm_up(state: StateDir, early: MemoryHandler, has_log: threading.Event, service: "Service") -> None:
    """Import what the log and the first call need, 0.7 s in all, while the loop has other things to do."""
    from tasak.daemon_log import write_to

    try:
        file = write_to(state.log, early)
        service.log_trouble = lambda: file.trouble
    except (OSError, BadConfig) as problem:
        # It serves without one, and says so to whoever asks how it is.
        trouble = problem
        service.log_trouble = lambda: trouble
        logging.getLogger().removeHandler(early)
        logging.getLogger().addHandler(logging.NullHandler())
    has_log.set()
    load("tasak.core.mcp_session")
    # Signing in is left out, and what third parties bring: few use it, and it takes several megabytes.
    for package in ("tasak.core", "tasak.transports"):
        load_all(package)
    log.info("all is loaded")
    # What is imported stays: no collection need look at half a million objects again, and hold up a call meanwhile.
    gc.freeze()


def hold(state: StateDir) -> None:
    """Take the lock, for life: it goes with the process.

    Raises:
        DaemonAway: another daemon has it, and does not go.
    """
    lock = open_private(state.lock, os.O_RDWR)
    if not has_locked_by(lock, time.monotonic() + LEAVING):
        raise DaemonAway("a daemon runs already")


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
    state: StateDir, listening: socket.socket, announce: Callable[[], None], warm_up: Callable[["Service"], None]
) -> None:
    own = os.lstat(state.socket)
    asyncio.get_running_loop().set_exception_handler(of_loop)
    # Lazy, and after the socket is there: callers queue on it meanwhile.
    from tasak import tcp
    from tasak.callers import Entrance
    from tasak.core.gateway import Gateway
    from tasak.server import create_app
    from tasak.service import Service
    from tasak.transports.orphans import Undertaker
    from tasak.watchdog import Watchdog

    stop = asyncio.Event()
    gateway = Gateway(state, environment=os.environ)
    service = Service(gateway=gateway, instance=gateway.instance, uptime=lambda: time.monotonic() - BORN, stop=stop.set)
    entrances = [await Entrance.open(create_app(service), listening, share=SOCKET_SHARE)]
    gateway.manager.start_cleanup()
    endings = Endings(service, stop, DRAIN)
    endings.listen()
    if predecessor := state.last_pid():
        log.warning("the daemon before this one, process %d, did not stop by itself: killed, or crashed", predecessor)
    # From here on somebody may know where to send a signal.
    with using(state):
        write_private(state.pid_file, f"{os.getpid()}\n")
    watch = asyncio.create_task(endings.end_without(state.socket, own), name="watch over the socket")
    announce()
    log.info("ready")
    entrances += await tcp.opened(state, service)
    # Whoever needs it waits for the import itself; nobody waits for the thread, not even a stop.
    threading.Thread(target=warm_up, args=[service], name="warm-up", daemon=True).start()
    with Watchdog(gateway.registry.blame), Undertaker():
        await stop.wait()
    watch.cancel()
    await endings.finished()
    await leave(state, own, entrances)
    log.info("stopped")


async def leave(state: StateDir, own: os.stat_result, entrances: "Sequence[Entrance]") -> None:
    """Close the doors, and take away what says that we are here; what is another's by now stays."""
    # Looked at while it is open: the number of a file that is gone may soon be another's.
    has_socket = is_still(state.socket, own)
    for entrance in entrances:
        await entrance.close()
    if has_socket and is_still(state.socket, own):
        state.socket.unlink()
    if state.last_pid() == os.getpid():  # after us, another daemon may have written it
        state.pid_file.unlink()
        state.token.unlink(missing_ok=True)


def is_still(path: Path, own: os.stat_result) -> bool:
    """Whether the file of that name is our own. One that cannot be looked at is not taken for gone."""
    try:
        return os.path.samestat(os.lstat(path), own)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


class Endings:
    """What ends us: SIGTERM drains, a second one and SIGINT do not wait; nor does anybody reach us without our socket.

    SIGHUP is nothing to us; SIGUSR1 and SIGQUIT ask what we do.
    """

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
        # Their default would end it, too.
        for number in (signal.SIGUSR1, signal.SIGQUIT):
            loop.add_signal_handler(number, tell_what_it_does)

    async def end_without(self, path: Path, own: os.stat_result) -> None:
        """As SIGTERM does, when the socket's path is not our own any more: whoever comes starts another daemon."""
        while is_still(path, own):  # noqa: ASYNC110 - nobody tells who is left behind
            await asyncio.sleep(SOCKET_INTERVAL)
        log.warning("%s is gone or another's: nobody can reach this daemon any more", path)
        if self._draining is None:
            self._end(self._seconds)

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
            log.error("these processes survived: %s", survivors)
        self._stop.set()


def tell_what_it_does() -> None:
    # Lazy: few ask.
    from tasak.state_dump import state_dump

    log.error("asked what it does\n%s", state_dump())


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # All is closed and written. What is left is taking the modules down one by one, for which whoever waits would wait.
    os._exit(status)
