"""Who is there: the machine's processes, as the kernel tells of them."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from tasak.pidfd import open_pidfd, send_signal

# In /proc/PID/stat, counted behind the name, which may have anything in it.
STATE, PARENT, GROUP, SESSION, BORN = 0, 1, 2, 3, 19

# In the middle of `exec` there is no environment for a moment, which a busy machine may make a long one.
EXEC_LOOKS = 10
EXEC_TIME = 0.001

# psutil tells a start in seconds; macOS knows it to the microsecond.
MICROSECONDS = 1_000_000

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it was when it was looked at. Two are equal if they are the same one."""

    pid: int
    born: int
    """When it was started, by a clock of the machine's own. A pid comes again; not the two together."""
    parent: int = field(compare=False)
    group: int = field(compare=False)
    session: int = field(compare=False)
    is_dead: bool = field(compare=False)
    """It has ended, and its parent has not taken note of that."""


class Census(Protocol):
    """Questions about processes. What we may not know is answered like what is not there."""

    def look(self, pid: int) -> Process | None:
        """The process that has this pid now."""
        ...

    def children(self, pid: int) -> list[Process]:
        """Those whose parent it is, the dead among them."""
        ...

    def everyone(self) -> Iterator[Process]:
        """All processes of this user."""
        ...

    def variable(self, pid: int, name: str) -> str | None:
        """What the variable was when the program was started."""
        ...


def of_this_machine() -> Census:
    """On Linux /proc is read, some 15 µs a question; elsewhere psutil is asked, which takes a thousand times that."""
    return ProcFiles() if sys.platform == "linux" else Psutil()


class ProcFiles:
    """The census of Linux. Most are built with lists of children; without them, all processes are gone through."""

    def __init__(self, *, has_lists: bool | None = None) -> None:
        self._has_lists = os.path.exists("/proc/thread-self/children") if has_lists is None else has_lists

    def look(self, pid: int) -> Process | None:
        try:
            fields = contents(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        except OSError:
            return None
        parent, group, session, born = (int(fields[place]) for place in (PARENT, GROUP, SESSION, BORN))
        return Process(pid, born, parent, group, session, is_dead=fields[STATE] in (b"Z", b"X"))

    def children(self, pid: int) -> list[Process]:
        pids = self._listed_children(pid) if self._has_lists else self._pids()
        return [process for each in pids if (process := self.look(each)) and process.parent == pid]

    def everyone(self) -> Iterator[Process]:
        own = os.getuid()
        for pid in self._pids():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if os.stat(f"/proc/{pid}").st_uid == own and (process := self.look(pid)):
                    yield process

    def variable(self, pid: int, name: str) -> str | None:
        wanted = os.fsencode(f"{name}=")
        entries = self._environment(pid).split(b"\0")
        return next((os.fsdecode(entry[len(wanted) :]) for entry in entries if entry.startswith(wanted)), None)

    def _environment(self, pid: int) -> bytes:
        try:
            return when_settled(
                lambda: contents(f"/proc/{pid}/environ"), has_words=lambda: bool(contents(f"/proc/{pid}/cmdline"))
            )
        except OSError:  # it has ended meanwhile, or is not ours to read
            return b""

    def _pids(self) -> list[int]:
        try:
            return [int(name) for name in os.listdir("/proc") if name.isdigit()]
        except OSError:  # it is not mounted here
            return []

    def _listed_children(self, pid: int) -> list[int]:
        found: list[int] = []
        with contextlib.suppress(OSError):  # it has ended meanwhile
            for thread in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(OSError):  # that one alone
                    found += map(int, contents(f"/proc/{pid}/task/{thread}/children").split())
        return found


def contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


class Psutil:
    """The census of any other system."""

    def __init__(self) -> None:
        # Lazy: 20 ms that Linux does not pay.
        import psutil

        self._psutil = psutil

    def look(self, pid: int) -> Process | None:
        try:
            found = self._psutil.Process(pid)
            with found.oneshot():
                born = round(found.create_time() * MICROSECONDS)
                is_dead = found.status() == self._psutil.STATUS_ZOMBIE
                return Process(pid, born, found.ppid(), os.getpgid(pid), os.getsid(pid), is_dead)
        except (self._psutil.Error, OSError):
            return None

    def children(self, pid: int) -> list[Process]:
        return [process for each in self._psutil.pids() if (process := self.look(each)) and process.parent == pid]

    def everyone(self) -> Iterator[Process]:
        own = os.getuid()
        for each in self._psutil.process_iter(["uids"]):
            uids = each.info["uids"]
            if uids and uids.effective == own and (process := self.look(each.pid)):
                yield process

    def variable(self, pid: int, name: str) -> str | None:
        try:
            found = self._psutil.Process(pid)
            return when_settled(found.environ, has_words=lambda: bool(found.cmdline())).get(name)
        except (self._psutil.Error, OSError):
            return None


def when_settled(environment: Callable[[], Read], *, has_words: Callable[[], bool]) -> Read:
    """A process's environment; read again where it has neither one nor words: it is about to become another program."""
    for _ in range(EXEC_LOOKS):
        if (found := environment()) or has_words():
            break
        time.sleep(EXEC_TIME)
    return found


def send(process: Process, number: signal.Signals, census: Census) -> None:
    """Send it the signal if it is still there, and never to another that has its pid since."""
    with contextlib.suppress(OSError):  # it has gone, or is not ours to end
        # Opened first: from then on it cannot become another.
        handle = open_pidfd(process.pid)
        try:
            if census.look(process.pid) == process:
                send_signal(process.pid, handle, number)
        finally:
            if handle is not None:
                os.close(handle)


def bury(process: Process) -> None:
    """Take note of the end of a child of ours. Nobody else may wait for that: they would get no status."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
