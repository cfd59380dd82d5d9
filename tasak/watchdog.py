"""Notices that the event loop is held up, and by what: everybody's calls go through it.

Whoever calls meanwhile gets no `100 Continue`, and goes direct after two seconds.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Self

# Together they are less than a caller waits before it goes direct.
INTERVAL = 0.5
PATIENCE = 1.4

log = logging.getLogger(__name__)

Blamed = Callable[[Sequence[str], str], None]
"""Hears the modules that were at work, the innermost first, and what they did."""


class Watchdog:
    """A thread that looks after the loop it was started in."""

    def __init__(self, blame: Blamed) -> None:
        self._blame = blame
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._ended = threading.Event()
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _watch(self) -> None:
        looked = time.monotonic()
        culprits: Sequence[str] = ()
        while not self._ended.wait(INTERVAL):
            before, looked = looked, time.monotonic()
            seconds = looked - self._beat
            # Who was stopped together with the whole process knows nothing of the loop.
            if seconds < PATIENCE or looked - before > 2 * INTERVAL:
                culprits = ()
            else:
                culprits = culprits or self._culprits(seconds)
                self._blame(culprits, f"held up the daemon for {seconds:.0f} s or more")
            self._loop.call_soon_threadsafe(self._note_beat)

    def _note_beat(self) -> None:
        self._beat = time.monotonic()

    def _culprits(self, seconds: float) -> Sequence[str]:
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - documented, and the only way
        log.error("the loop is held up for %.1f s now by\n%s", seconds, "".join(traceback.format_stack(frame)))
        return modules_of(frame)


def modules_of(frame: FrameType | None) -> Sequence[str]:
    modules = []
    while frame:
        modules.append(str(frame.f_globals.get("__name__")))
        frame = frame.f_back
    return modules
