"""A daemon that does not start: not tried again by every call, and the reason is kept for all of them."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tasak.errors import BadConfig, DaemonAway
from tasak.paths import StateDir, read_private, write_private

# The first repeat is free, then doubling.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0

# It has to hold across processes and reboots, and nothing but a pause depends on it.
WallClock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Failure:
    """How it failed to start: `count` times in a row, last at `at`, with `said`."""

    count: int
    at: float
    said: str

    @property
    def pause(self) -> float:
        return 0.0 if self.count == 1 else min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self.count - 2))


def require_time(state: StateDir, now: WallClock = time.time) -> None:
    """
    Raises:
        DaemonAway: it failed to start just now.
    """
    failure = last(state)
    if failure is None:
        return
    since = now() - failure.at
    # Where the clock was set back, nobody knows how long ago it was.
    if 0 <= since < failure.pause:
        raise DaemonAway(
            f"{failure.said}\n(failed {failure.count} times in a row; tried again in {failure.pause - since:.0f} s)",
            fix=f"`tasak daemon start` tries at once; its log is {state.log}",
        )


def note(state: StateDir, said: str, now: WallClock = time.time) -> None:
    before = last(state)
    content = {"count": (before.count if before else 0) + 1, "at": now(), "said": said}
    with suppress(OSError, BadConfig):  # the next call tries again, then
        write_private(state.start_failed, json.dumps(content))


def forget(state: StateDir) -> None:
    with suppress(OSError):
        state.start_failed.unlink()


def last(state: StateDir) -> Failure | None:
    try:
        match json.loads(read_private(state.start_failed)):
            case {"count": int(count), "at": int() | float() as at, "said": str(said)} if 0 < count < 1000:
                return Failure(count, float(at), said)
    except (OSError, BadConfig, ValueError, OverflowError, RecursionError):
        return None
    return None
