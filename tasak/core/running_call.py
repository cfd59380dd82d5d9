"""A call that has an id, from when it is asked for to its end, for all who ask for it."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from tasak.core.call_record import Claim, Ending, answer_gone, cut
from tasak.core.clock import Clock
from tasak.errors import InternalError, NotExecuted, OutcomeUnknown, TasakError, with_call_id
from tasak.failure import kind
from tasak.plugin import OnProgress, Progress
from tasak.request import Reply

LONGEST_RESULT = 64 << 10

# Cancelling tells the server; a plugin that swallows it is not waited for.
CANCEL_GRACE = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """What a call came to: a reply, and whether it is the tool's own, or its help."""

    reply: Reply
    has_run: bool


Run = Callable[[OnProgress | None], Coroutine[Any, Any, Answered]]


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a call ended: with a reply or a problem, or with neither where the reply is not kept."""

    claim: Claim
    ending: Ending
    at: float
    reply: Reply | None = None
    problem: TasakError | None = None

    @property
    def result(self) -> str | None:
        """What the reply prints."""
        return self.reply.body.decode() if self.reply else None

    def give(self) -> Reply:
        """The reply, for each who asks for it.

        Raises:
            TasakError: the problem; `AnswerGone` where there is neither.
        """
        if self.problem:
            raise with_call_id(self.problem, self.claim.call_id) from self.problem
        if self.reply is None:
            raise answer_gone(self.claim.app, self.claim.tool, self.claim.call_id, self.ending.exit_status)
        return self.reply

    def give_again(self, now: float) -> Reply:
        """The same for one who comes later, and is told that. Raises likewise."""
        reply = self.give()
        news = (
            f"call {self.claim.call_id} was made {now - self.at:.1f} s ago and is not made again: this was its answer"
        )
        return replace(reply, notices=(*reply.notices, news))

    def to_keep(self) -> "End":
        """The same, less what is too long, and less the traceback that hangs on a problem."""
        is_short = self.reply is not None and len(self.reply.body) <= LONGEST_RESULT
        return replace(
            self, reply=self.reply if is_short else None, problem=self.problem and without_trace(self.problem)
        )


class RunningCall:
    """One call and those who wait for it. `task` sees to it, and is there from the start; its owner sets it."""

    task: "asyncio.Task[End]"

    def __init__(self, claim: Claim, run: Run, *, tells_progress: bool, since: float) -> None:
        self.claim = claim
        self.since = since
        self._run = run
        self._tells_progress = tells_progress
        self._listeners: list[OnProgress] = []
        self._callers = 0
        self._is_abandoned = False
        self._work: asyncio.Task[Answered] | None = None

    async def answer(self, on_progress: OnProgress | None) -> Reply:
        """What comes of it. The last caller that is cancelled cancels the call, and waits until that is done.

        Raises:
            TasakError: as `End.give` does.
        """
        self._callers += 1
        if on_progress:
            self._listeners.append(on_progress)
        try:
            await asyncio.wait([self.task])
        except asyncio.CancelledError:
            if self._callers == 1:
                self.abandon()
                await asyncio.wait([self.task], timeout=CANCEL_GRACE)
            raise
        finally:
            self._callers -= 1
            if on_progress:
                self._listeners.remove(on_progress)
        return self.task.result().give()

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        self._is_abandoned = True
        if self._work:
            self._work.cancel()

    async def made(self, clock: Clock) -> End:
        """Make it, unless nobody waits for it any more; its end."""
        if self._is_abandoned:
            return failed(self.claim, NotExecuted(f"{self.claim.call}: it was cancelled before it began"), clock())
        self._work = asyncio.create_task(self._run(self._hear if self._tells_progress else None))
        # Not awaited itself: one that is cancelled has an end like any other.
        await asyncio.wait([self._work])
        return end_of(self._work, self.claim, clock())

    def _hear(self, progress: Progress) -> None:
        for listener in tuple(self._listeners):
            listener(progress)


def end_of(work: "asyncio.Task[Answered]", claim: Claim, at: float) -> End:
    if work.cancelled():
        message = f"{claim.call}: call {claim.call_id} was cancelled before its answer came"
        return failed(claim, OutcomeUnknown(message, fix="it may have run: look before you repeat it"), at)
    match work.exception():
        case None:
            answered = work.result()
        case TasakError() as problem:
            return failed(claim, problem, at)
        case problem:
            log.error("call %s", claim.call_id, exc_info=problem)
            bug = InternalError(f"a bug in tasak: {kind(problem)}", fix="see `tasak daemon logs`")
            bug.__cause__ = problem
            return failed(claim, bug, at)
    ending = Ending(outcome="executed", exit_status=answered.reply.exit_status)
    if not answered.has_run:
        ending = Ending.of(NotExecuted(f"{claim.call}: its help was asked for, and nothing called"))
    return End(claim=claim, ending=ending, at=at, reply=answered.reply)


def failed(claim: Claim, problem: TasakError, at: float) -> End:
    return End(claim=claim, ending=Ending.of(problem), at=at, problem=problem)


def without_trace(problem: TasakError) -> TasakError:
    return type(problem)(cut(problem.message, LONGEST_RESULT) or "", fix=cut(problem.fix, LONGEST_RESULT))
