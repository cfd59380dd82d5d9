"""Worker threads: ours apart from those of plugins and libraries, and none that a caller waits for without end."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

# As many as asyncio has on two cores.
WORKERS = 6

# Seconds for all to be there; one that is lost on the way is not waited for.
START_PATIENCE = 5.0

# Seconds from one try to wake whoever waits to the next.
PAUSE = 0.02

Result = TypeVar("Result")


class Waking(Future[Result]):
    """What wakes whoever waits for it; tries again where there is no memory to. The library's gives up."""

    def add_done_callback(self, call: Callable[[Future[Result]], object]) -> None:
        super().add_done_callback(lambda done: persist(call, done))

    def run(self, work: Callable[[], Result]) -> None:
        if not self.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except BaseException as problem:  # noqa: BLE001 - whoever waits is to have it
            self.set_exception(problem)
        else:
            self.set_result(result)


class Threads(ThreadPoolExecutor):
    """Can be started before there is work.

    A thread that finds no memory to start in keeps whoever starts it waiting for ever (python/cpython#140746).
    """

    def __init__(self, count: int = WORKERS, *, name: str = "worker") -> None:
        super().__init__(count, thread_name_prefix=name)
        self._count = count
        self._has_one = False
        self._lacks_room = False
        self._is_over = False
        self._working: set[Future[Any]] = set()

    def submit(self, work: Callable[..., Result], /, *given: Any, **how: Any) -> Future[Result]:
        """
        Raises:
            RuntimeError: there is no thread, and none can be started; or it is shut down.
        """
        waking = Waking[Result]()
        self._working.add(waking)
        waking.add_done_callback(self._working.discard)
        try:
            super().submit(waking.run, partial(work, *given, **how))
            self._has_one = True
        except RuntimeError:
            if self._is_over or not self._has_one:
                self._working.discard(waking)
                raise
            # One more cannot be started; the work waits for those that are there.
            self._lacks_room = True
        return waking

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._is_over = True
        super().shutdown(wait, cancel_futures=cancel_futures)

    def have_ended(self, seconds: float) -> bool:
        """Whether what they had begun is over; the rest is not begun any more."""
        self.shutdown(wait=False)
        for each in list(self._working):
            each.cancel()
        return not wait(list(self._working), timeout=seconds).not_done

    def start(self) -> None:
        """Have them all there, or as many as there is room for; returns when they are."""
        there = threading.Barrier(self._count + 1, timeout=START_PATIENCE)
        for _ in range(self._count):
            self.submit(there.wait)
            if self._lacks_room:
                there.abort()
                return
        with suppress(threading.BrokenBarrierError):
            there.wait()


def persist(call: Callable[[Future[Result]], object], done: Future[Result]) -> None:
    while True:
        try:
            call(done)
        except MemoryError:
            time.sleep(PAUSE)
        else:
            return


_ours: WeakKeyDictionary[asyncio.AbstractEventLoop, Threads] = WeakKeyDictionary()


def keep_ours(loop: asyncio.AbstractEventLoop, threads: Threads) -> None:
    """Have `aside` use these on that loop."""
    _ours[loop] = threads


async def aside(work: Callable[..., Result], *given: Any) -> Result:
    """`asyncio.to_thread`, but not behind what plugins and libraries have the loop's threads do.

    Those may all be held up: by a few names that no server resolves, say.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_ours.get(loop), contextvars.copy_context().run, partial(work, *given))
