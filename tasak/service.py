"""What the daemon does for its callers at once, and how that comes to an end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tasak.core.gateway import Gateway
from tasak.errors import Draining, OutcomeUnknown, TasakError

# Cancelling tells the server; a plugin that swallows it is not waited for.
CANCEL_GRACE = 2.0

Result = TypeVar("Result")


@dataclass(kw_only=True)
class Service:
    """What the routes work on. `stop` ends the process once the answer to `/shutdown` is out."""

    gateway: Gateway
    instance: str
    uptime: Callable[[], float]
    stop: Callable[[], None]
    tcp: str | None = None
    """Where the API listens besides the socket."""
    tcp_problem: str | None = None
    """Where it should listen and does not, and why."""
    log_trouble: Callable[[], OSError | TasakError | None] = lambda: None
    """Why what the daemon logs is dropped; None while it is not."""
    is_draining: bool = False
    running: set["asyncio.Task[Any]"] = field(default_factory=set)
    _cut: set["asyncio.Task[Any]"] = field(default_factory=set)
    _drains: set["asyncio.Task[list[int]]"] = field(default_factory=set)

    @property
    def notices(self) -> list[str]:
        """What whoever asks for the daemon's state should hear of."""
        about_log = [log_notice(trouble)] if (trouble := self.log_trouble()) else []
        return [*about_log, *self.gateway.notices]

    async def run(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Do a caller's work, in the caller's task, and let a drain end that work without ending the caller.

        Raises:
            Draining: the daemon is stopping.
            OutcomeUnknown: it stopped meanwhile.
        """
        if self.is_draining:
            raise Draining("the daemon is stopping")
        task = current_task()
        self.running.add(task)
        try:
            return await work()
        except asyncio.CancelledError:
            if task not in self._cut:
                raise
            task.uncancel()
            raise OutcomeUnknown("the daemon stopped before the answer came", fix="it may have run") from None
        finally:
            self.running.discard(task)
            self._cut.discard(task)

    async def drain_and_stop(self, seconds: float) -> list[int]:
        """The same as `drain`, and then end the process: also where whoever asked for it is gone by then.

        Who has begun to drain takes no calls any more, and cannot go on.
        """
        drain = asyncio.create_task(self.drain(seconds), name="drain")
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)
        try:
            return await asyncio.shield(drain)
        finally:
            drain.add_done_callback(lambda _: self.stop())

    async def drain(self, seconds: float) -> list[int]:
        """Let running work end, then end it, then every session; the processes that survived."""
        self.is_draining = True
        if self.running:
            await asyncio.wait(set(self.running), timeout=seconds)
        self.cut_short()
        if self.running:
            await asyncio.wait(set(self.running), timeout=CANCEL_GRACE)
        return list(await self.gateway.shut_down())

    def cut_short(self) -> None:
        """Let running work end now, as outcome unknown."""
        for task in self.running - self._cut:
            self._cut.add(task)
            task.cancel()


def log_notice(trouble: OSError | TasakError) -> str:
    why = f"{trouble.filename}: {trouble.strerror}" if isinstance(trouble, OSError) else trouble.message
    return f"the daemon's log is not kept: {why}; `tasak doctor` names what is in the way"


def current_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task
