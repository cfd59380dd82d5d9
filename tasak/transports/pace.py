"""How fast a peer may talk: what nobody asked for must not keep the loop from everybody else.

A call of another app takes some fifteen turns of the loop. So it matters not only how much of the loop an app takes,
but also in how small pieces, and how far apart these are. Who reads pays for what was read, and waits while in debt.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

# Of the loop's time: some thousand short notifications a second.
SHARE = 0.2
# Seconds of it that are taken at once: a few that come together.
BURST = 0.002
# One large message is not many: after it nobody waits any longer.
LONGEST_WAIT = 0.05
# What a message costs besides its parsing: whoever it is for, and what it wakes; an event was taken from HTTP, too.
HANDLING = 0.0001
HANDLING_EVENT = 0.0005

# What was there already is read for so long before others have their turn.
TURN = 0.0003
# A debt is paid in pieces that are worth a timer.
SHORTEST_WAIT = 0.001


class Allowance:
    """A token bucket: `burst` at once, then `rate` a second, and never more than `longest_wait` seconds of debt."""

    def __init__(
        self,
        rate: float,
        burst: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        longest_wait: float = math.inf,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._least = -rate * longest_wait
        self._clock = clock
        self._left = burst
        self._since = clock()

    def take(self, amount: float) -> float:
        """Spend it, there or not: the seconds until it is paid for."""
        self._refill()
        self._left = max(self._least, self._left - amount)
        return max(0.0, -self._left / self._rate)

    def allows(self) -> bool:
        """Whether nothing is owed."""
        self._refill()
        return self._left >= 0

    def _refill(self) -> None:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._since) * self._rate)
        self._since = now


class Pace:
    """One peer's messages, at a pace that leaves time for others'. Its unit is seconds of the loop.

    `with` it around what is done with one message.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter, *, handling: float = HANDLING) -> None:
        self._clock = clock
        self._handling = handling
        self._allowance = Allowance(SHARE, BURST, clock, longest_wait=LONGEST_WAIT)
        self._begun = 0.0
        self._last = 0.0
        self._owed = 0.0
        self._turn = 0.0

    def __enter__(self) -> None:
        self._begun = self._clock()

    def __exit__(self, *_: object) -> None:
        self._last = self._clock() - self._begun + self._handling
        self._turn += self._last
        self._owed = self._allowance.take(self._last)

    def forgive(self) -> None:
        """The last message was asked for: nothing is to be paid for it."""
        self._owed = self._allowance.take(-self._last)
        self._last = 0.0

    async def keep(self) -> None:
        """Before the next message: wait as long as is owed, most often not at all."""
        if self._owed >= SHORTEST_WAIT:
            await asyncio.sleep(self._owed)
            self._owed = self._turn = 0.0
        elif self._turn >= TURN:
            await asyncio.sleep(0)
            self._turn = 0.0


@runtime_checkable
class Paced(Protocol):
    """A stream that is read at a pace."""

    def forgive(self) -> None:
        """The message that came last was asked for."""
