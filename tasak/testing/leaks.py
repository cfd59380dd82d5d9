"""What a piece of work leaves behind: tasks, threads, file descriptors and child processes."""

import asyncio
import contextlib
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

# What is let go of is often gone a moment later: a thread that waits for a process, the far end of a socket.
SETTLING_TIME = 5.0
POLL_INTERVAL = 0.01

# The loop's own executor: it grows to a handful of threads, and ends with the loop.
EXECUTOR_THREADS = "asyncio_"

# Not every kernel has it.
CHILDREN_ARE_LISTED = os.path.exists("/proc/thread-self/children")

DESCRIPTORS = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"

Thing = tuple[Hashable, Callable[[], str]]
"""What it is known by, and what says in words what it is."""


class LeftBehind(AssertionError):
    """Something outlived the work that made it; the message says what."""


@dataclass(frozen=True, slots=True)
class Belongings:
    """What this process has at one moment."""

    things: Mapping[Hashable, Callable[[], str]]

    @classmethod
    def now(cls) -> "Belongings":
        return cls(dict([*tasks(), *threads(), *descriptors(), *children()]))

    def since(self, before: "Belongings") -> list[Callable[[], str]]:
        return [describe for thing, describe in self.things.items() if thing not in before.things]


class NoLeaks:
    """`with` or `async with`: fails when the block leaves something behind. A block that raises is not held to it."""

    def __init__(self, within: float) -> None:
        self._within = within
        self._before = Belongings({})

    def __enter__(self) -> Self:
        self._before = Belongings.now()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        deadline = time.monotonic() + self._within
        while kind is None and self._is_dirty(deadline):
            time.sleep(POLL_INTERVAL)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        deadline = time.monotonic() + self._within
        while kind is None and self._is_dirty(deadline):  # noqa: ASYNC110 - the end of a process sets no event
            await asyncio.sleep(POLL_INTERVAL)

    def _is_dirty(self, deadline: float) -> bool:
        left = Belongings.now().since(self._before)
        if left and time.monotonic() >= deadline:
            raise LeftBehind("left behind:\n" + "\n".join(f"  {describe()}" for describe in left))
        return bool(left)


def no_leaks(*, within: float = SETTLING_TIME) -> NoLeaks:
    """Hold a block, or with a fixture around it a whole test, to leaving nothing behind.

    What has been let go of may take `within` seconds to be gone. In a loop it is `async with`: tasks end meanwhile.

    Raises:
        LeftBehind: it left something; the message names each task, thread, descriptor and process.
    """
    return NoLeaks(within)


def tasks() -> Iterator[Thing]:
    try:
        current = asyncio.current_task()
    except RuntimeError:  # no loop runs here
        return
    for task in asyncio.all_tasks():
        if task is not current:
            yield task, partial(describe_task, task)


def describe_task(task: "asyncio.Task[Any]") -> str:
    frames = task.get_stack(limit=1)
    where = f" at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
    return f"task {task.get_name()!r}: {getattr(task.get_coro(), '__qualname__', task.get_coro())}{where}"


def threads() -> Iterator[Thing]:
    for thread in threading.enumerate():
        if not thread.name.startswith(EXECUTOR_THREADS):
            yield thread, partial("thread {0!r}".format, thread.name)


def descriptors() -> Iterator[Thing]:
    for name in os.listdir(DESCRIPTORS):
        try:
            status = os.fstat(int(name))
        except OSError:  # the one that the folder was read through
            continue
        yield ("fd", name, status.st_dev, status.st_ino), partial(describe_descriptor, int(name), status)


def describe_descriptor(descriptor: int, status: os.stat_result) -> str:
    try:
        if stat.S_ISSOCK(status.st_mode):
            return f"fd {descriptor}: {describe_socket(descriptor)}"
        return f"fd {descriptor}: {os.readlink(f'{DESCRIPTORS}/{descriptor}')}"
    except OSError:  # only Linux has links there
        return f"fd {descriptor}: mode {status.st_mode:o}, inode {status.st_ino}"


def describe_socket(descriptor: int) -> str:
    with socket.socket(fileno=os.dup(descriptor)) as ours:
        try:
            return f"socket from {ours.getsockname()} to {ours.getpeername()}"
        except OSError:
            return f"socket at {ours.getsockname()}"


def children() -> Iterator[Thing]:
    """Children, and theirs."""
    for process in offspring() if CHILDREN_ARE_LISTED else psutil.Process().children(recursive=True):
        yield process, partial(describe_process, process)


def offspring() -> Iterator[psutil.Process]:
    """As psutil finds them, without a look at everybody's processes, which takes a hundred times as long."""
    seeking = [os.getpid()]
    while seeking:
        born = children_of(seeking.pop())
        seeking += born
        for pid in born:
            with contextlib.suppress(psutil.NoSuchProcess):
                yield psutil.Process(pid)


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found += map(int, listing.read_text().split())
    return found


def describe_process(process: psutil.Process) -> str:
    try:
        return f"process {process.pid} ({process.status()}): {' '.join(' '.join(process.cmdline()).split())}"
    except psutil.ZombieProcess:
        return f"process {process.pid} (zombie)"
    except psutil.Error:
        return f"process {process.pid}"
