"""Seconds that nobody sets back, and that go on while the machine sleeps: a session may have died meanwhile."""

import time
from collections.abc import Callable

Clock = Callable[[], float]

# Linux has a clock for it; on macOS this is what CLOCK_MONOTONIC does.
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def since_boot() -> float:
    return time.clock_gettime(CLOCK)
