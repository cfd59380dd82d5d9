"""All that came of one program of ours, wherever it has gone to: found by descent, group, session and mark.

On Linux orphans come back to us (`prctl.adopt_orphans`), so they are looked for among our own children. Elsewhere they
are looked for among all processes of the user; what has lost its parent, its session and the mark is not found there.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from tasak.threads import aside
from tasak.transports import prctl
from tasak.transports.census import Census, Process, bury, of_this_machine, send
from tasak.transports.mark import VARIABLE, is_of

# SIGKILL is not refused; what takes long is a process in uninterruptible sleep.
KILL_GRACE = 2.0

# Looking takes a millisecond. Its thread may have to wait for its turn, and a look at a process that the kernel holds
# can be held with it.
LOOK_TIMEOUT = 2.0

POLL_INTERVAL = 0.005

# Two, unless someone is started meanwhile; one that forks as fast as we look is not to keep us looking.
MOST_LOOKS = 20

Found = TypeVar("Found")

log = logging.getLogger(__name__)


class Tree:
    """The program with the pid `leader`, which leads a session of its own, and all that came of it.

    Without a mark that is its process group alone: such a program may start what is to stay, a browser say.
    """

    def __init__(self, leader: int, mark: str | None, census: Census | None = None) -> None:
        self._pid = leader
        self._mark = mark
        self._census = census or of_this_machine()
        self._leader = self._census.look(leader)
        self._known = frozenset([self._leader] if self._leader else [])

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the leader's group, whether the leader is still there or not."""
        if self._has_group():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, number)

    async def note(self) -> None:
        """Take down all that came of the leader, while it lives: afterwards nothing else may tell of some."""
        with contextlib.suppress(TimeoutError):
            await looked(self._note)

    async def end(self) -> None:
        """Kill all, and see that they are gone; but a leader that has died is left to whoever waits for it.

        What the kernel does not let go is logged. One that is cancelled has killed them.
        """
        left: Sequence[int] = ()
        try:
            async with asyncio.timeout(KILL_GRACE):
                while left := await looked(self._remove):  # noqa: ASYNC110 - nobody is told of their end
                    await asyncio.sleep(POLL_INTERVAL)
        except TimeoutError:
            self._complain(left)
        except asyncio.CancelledError:
            self.kill()
            raise

    def kill(self) -> set[Process]:
        """Kill all. They are stopped first: what stands still starts nobody, and loses nobody out of sight.

        Whoever is new to us, and the dead above all, may have started somebody since we looked: we look again. Returns
        who was new even at the last look: what came of them may have got away.
        """
        seen: set[Process] = set()
        for _ in range(MOST_LOOKS):
            new = self._look() - seen
            if not new:
                break
            self._send(living(new), signal.SIGSTOP)
            seen |= new
        self._send(living(seen), signal.SIGKILL)
        self.signal_group(signal.SIGKILL)
        return new

    def _send(self, processes: Iterable[Process], number: signal.Signals) -> None:
        for process in processes:
            send(process, number, self._census)

    def _complain(self, left: Sequence[int]) -> None:
        what = f"these cannot be killed: {left}" if left else "it cannot be seen who is left"
        log.error("of what came of process %d, %s", self._pid, what)

    def _note(self) -> None:
        if self._mark:
            self._known |= descendants(self._still_there(), self._census)

    def _remove(self) -> Sequence[int]:
        """Kill all and bury the dead; the pids of those that are there even so, or lead to somebody who may be."""
        new = self.kill()
        for process in self._still_there():
            if process.is_dead and process.parent == os.getpid():
                bury(process)
        return sorted(process.pid for process in new.union(self._still_there()))

    def _look(self) -> set[Process]:
        """All that are there, the dead among them, who are known from now on; and the dead of whom nothing tells."""
        strays = list(self._strays())
        found = descendants([*self._still_there(), *filter(self._is_ours, strays)], self._census)
        members = {process for process in found if self._mark or process.group == self._pid}
        self._known |= members
        return members | {process for process in strays if process.is_dead}

    def _still_there(self) -> Sequence[Process]:
        """Those that are known and not gone, as they are now; a leader that has died counts as gone."""
        now = [self._census.look(process.pid) for process in self._known]
        return [
            process
            for process in now
            if process and process in self._known and not (process.is_dead and process == self._leader)
        ]

    def _strays(self) -> Iterable[Process]:
        """Where those are that have lost their parent."""
        return self._census.children(os.getpid()) if prctl.adopts_orphans() else self._census.everyone()

    def _is_ours(self, process: Process) -> bool:
        if process.group == self._pid or (self._mark and process.session == self._pid):
            return self._has_group()
        # The dead have no mark.
        if not self._mark or process.is_dead:
            return False
        return self._census.variable(process.pid, VARIABLE) == self._mark

    def _has_group(self) -> bool:
        """Whether the group of the leader's number is still its own.

        The kernel gives the number away neither while the leader is there nor while the group has a member.
        """
        return self._census.look(self._pid) in (self._leader, None)


def living(processes: Iterable[Process]) -> Iterable[Process]:
    return [process for process in processes if not process.is_dead]


async def looked(look: Callable[[], Found]) -> Found:
    """The result of a look, in a thread.

    Raises:
        TimeoutError: it took too long.
    """
    async with asyncio.timeout(LOOK_TIMEOUT):
        return await aside(look)


def descendants(roots: Iterable[Process], census: Census) -> set[Process]:
    """The roots, and all that came of them and still has its parent."""
    found: set[Process] = set()
    seeking = list(roots)
    while seeking:
        process = seeking.pop()
        if process not in found:
            found.add(process)
            seeking += census.children(process.pid)
    return found


def survivors(instance: str) -> Sequence[int]:
    """The pids of all that came of the instance's programs and is alive, as the mark tells."""
    census = of_this_machine()
    if sys.platform == "linux":
        processes: Iterable[Process] = descendants(census.children(os.getpid()), census)
    else:
        processes = census.everyone()
    living = (process.pid for process in processes if not process.is_dead)
    return sorted(pid for pid in living if is_of(instance, census.variable(pid, VARIABLE)))
