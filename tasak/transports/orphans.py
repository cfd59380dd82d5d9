"""Processes that nobody looks after any more: what a dead instance of ours has left, and what died in our care."""

import logging
import os
import signal
import threading
import time
from collections.abc import Collection
from typing import Self

from tasak.transports import prctl
from tasak.transports.census import Census, Process, bury, of_this_machine, send
from tasak.transports.mark import VARIABLE, Instance

# As for the programs of a living daemon.
TERM_GRACE = 2.0
KILL_GRACE = 2.0

POLL_INTERVAL = 0.05

# Whoever waits for a child has taken its status by then.
BURIAL_INTERVAL = 10.0

log = logging.getLogger(__name__)


def sweep() -> None:
    """End what dead instances have left: SIGTERM, then SIGKILL. Takes four seconds at the most.

    That is each process of this user whose mark was made by a daemon or a direct call that is no more. Not this process
    and those that it comes of; not where we may not read the mark; and not what a living instance has started.
    """
    census = of_this_machine()
    for number, grace in ((signal.SIGTERM, TERM_GRACE), (signal.SIGKILL, KILL_GRACE)):
        if not (found := left_behind(census)):
            return
        log.warning("%s to what a dead instance left behind: %s", number.name, sorted(each.pid for each in found))
        for process in found:
            send(process, number, census)
        wait_for(found, census, grace)
    if found := left_behind(census):
        log.error("left behind by a dead instance, these cannot be killed: %s", sorted(each.pid for each in found))


def left_behind(census: Census) -> Collection[Process]:
    kin = lineage(census)
    strangers = [process for process in census.everyone() if not process.is_dead and process.pid not in kin]
    return [process for process in strangers if is_left_behind(process, census)]


def is_left_behind(process: Process, census: Census) -> bool:
    maker = Instance.of_mark(census.variable(process.pid, VARIABLE) or "")
    return maker is not None and maker.is_dead(census)


def lineage(census: Census) -> Collection[int]:
    """This process, and all that it comes of."""
    pids: list[int] = []
    process = census.look(os.getpid())
    while process and process.pid not in pids:
        pids.append(process.pid)
        process = census.look(process.parent)
    return pids


def wait_for(processes: Collection[Process], census: Census, seconds: float) -> None:
    """Wait until they are gone, for so long at the most."""
    deadline = time.monotonic() + seconds
    while any(is_alive(process, census) for process in processes) and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL)


def is_alive(process: Process, census: Census) -> bool:
    now = census.look(process.pid)
    return now == process and not now.is_dead


class Undertaker:
    """A thread that sweeps once, and from then on buries whoever came to us as an orphan and has died."""

    def __init__(self, interval: float = BURIAL_INTERVAL) -> None:
        self._interval = interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="undertaker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _work(self) -> None:
        sweep()
        census, seen = of_this_machine(), frozenset[Process]()
        while not self._ended.wait(self._interval):
            seen = bury_orphans(census, seen)


def bury_orphans(census: Census, seen: Collection[Process]) -> frozenset[Process]:
    """Bury the dead that were adopted; those that may yet be somebody's, to be given as `seen` the next time.

    A child that was started here has our session, or leads one: of all others it is certain that they were adopted.
    One that leads a session may be waited for; unless it was there, dead, the last time too.
    """
    if not prctl.adopts_orphans():
        return frozenset()
    ours = os.getsid(0)
    dead = frozenset(each for each in census.children(os.getpid()) if each.is_dead and each.session != ours)
    buried = frozenset(each for each in dead if each.session != each.pid or each in seen)
    for process in buried:
        bury(process)
    return dead - buried
