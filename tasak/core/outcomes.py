"""Calls that have an id: each is made once, however often it is asked for, and what came of it is kept for a while.

What this process makes is held here, with its results. That it was made at all stands in the journal, too, which
outlives the process.
"""

import asyncio
import re
import time
from collections import OrderedDict
from typing import Any

from tasak.core.app import App
from tasak.core.call_journal import Journal, known_from
from tasak.core.call_record import KEPT_OUTCOMES, KEPT_SECONDS, Claim, Record, described, require_call_id
from tasak.core.clock import Clock, since_boot
from tasak.core.digest import digest
from tasak.core.running_call import CANCEL_GRACE, Answered, End, Run, RunningCall, failed
from tasak.errors import BadArguments, Busy, NeedsInput, TasakError, from_json
from tasak.plugin import OnProgress
from tasak.request import Reply, Request
from tasak.threads import Threads, aside

__all__ = ["Answered", "OutcomeBook", "claim_of"]

# Others hold the lock for milliseconds; one that is stopped meanwhile runs this out.
LOCK_TIMEOUT = 5.0

# `--args @file` or `--args -` among words with NUL between them.
NAMES_INPUT = re.compile(r"(?:\A|\0)--args[=\0](?:@|-(?:\0|\Z))")


class OutcomeBook:
    """The calls of this process that have an id. Made inside a running loop; `close` ends it."""

    def __init__(self, journal: Journal, *, clock: Clock = since_boot) -> None:
        self._journal = journal
        self._clock = clock
        self._running: dict[str, RunningCall] = {}
        self._ended: OrderedDict[str, End] = OrderedDict()
        # One thread: each line wants the file for itself.
        self._writer = Threads(1, name="outcomes")

    async def once(self, claim: Claim, run: Run, on_progress: OnProgress | None = None) -> Reply:
        """Make the call, unless it was made already: then what came of it is given again.

        All who ask for a call that is under way get its one answer. It is cancelled when the last of them is.

        Raises:
            BadArguments: the id is none, or stands for another call.
            NotRecorded: that it begins cannot be written down, so nothing was called.
            Busy: another process is at it.
            AnswerGone: it has run, and its answer is not kept.
            OutcomeUnknown: it may have run.
            TasakError: what `run` raises, or raised before.
        """
        require_call_id(claim.call_id)
        if end := self._kept(claim.call_id):
            require_same(claim, end.claim)
            return end.give_again(self._clock())
        running = self._running.get(claim.call_id) or self._start(claim, run, tells_progress=on_progress is not None)
        require_same(claim, running.claim)
        return await running.answer(on_progress)

    async def known(self, call_id: str) -> dict[str, Any]:
        """What is known of the call, as `GET /outcomes/{call_id}` has it.

        Raises:
            BadArguments: the id is none.
            UnknownOutcome: nothing is known.
        """
        require_call_id(call_id)
        if end := self._kept(call_id):
            return described(end.claim, self._clock() - end.at, end.ending, end.result)
        if running := self._running.get(call_id):
            return described(running.claim, self._clock() - running.since)
        return await aside(known_from, self._journal, call_id)

    async def close(self) -> None:
        """Cancel what is under way, and see that written down."""
        if self._running:
            for running in self._running.values():
                running.abandon()
            await asyncio.wait([running.task for running in self._running.values()], timeout=CANCEL_GRACE)
        self._writer.shutdown(wait=not self._running)

    def _start(self, claim: Claim, run: Run, *, tells_progress: bool) -> RunningCall:
        running = RunningCall(claim, run, tells_progress=tells_progress, since=self._clock())
        running.task = asyncio.create_task(self._see_to(running), name=f"call {claim.call_id}")
        self._running[claim.call_id] = running
        return running

    async def _see_to(self, running: RunningCall) -> End:
        """Have the call made, between its two lines in the journal."""
        claim = running.claim
        loop = asyncio.get_running_loop()
        try:
            if earlier := await loop.run_in_executor(self._writer, self._journal.begin, claim, soon()):
                return end_of_earlier(earlier, claim, self._clock())
            end = await running.made(self._clock)
            self._keep(end)
            await loop.run_in_executor(self._writer, self._journal.end, claim, end.ending, soon())
        except TasakError as problem:
            return failed(claim, problem, self._clock())
        else:
            return end
        finally:
            del self._running[claim.call_id]

    def _kept(self, call_id: str) -> End | None:
        end = self._ended.get(call_id)
        return None if end is None or self._is_over(end) else end

    def _keep(self, end: End) -> None:
        """Remember it, unless nothing ran: then its id may be used again."""
        if end.ending.outcome != "not_executed":
            self._ended[end.claim.call_id] = end.to_keep()
            self._ended.move_to_end(end.claim.call_id)
        while self._ended and (len(self._ended) > KEPT_OUTCOMES or self._is_over(next(iter(self._ended.values())))):
            self._ended.popitem(last=False)

    def _is_over(self, end: End) -> bool:
        return self._clock() - end.at > KEPT_SECONDS


def soon() -> float:
    return time.monotonic() + LOCK_TIMEOUT


def claim_of(call_id: str, request: Request, app: App) -> Claim:
    """What the request wants the id to stand for."""
    given = list(request.argv) if request.arguments is None else dict(request.arguments)
    return Claim(
        call_id=call_id,
        app=app.name,
        tool=request.tool,
        what=digest(str(app.file), app.name, request.tool, given, request.wants_json, request.read_only),
        lasts=app.limits.call_timeout_max,
        names_input=NAMES_INPUT.search("\0".join(request.argv)) is not None,
    )


def end_of_earlier(record: Record, claim: Claim, at: float) -> End:
    """What the journal lets one say who asks for the call again.

    Raises:
        Busy, BadArguments, NeedsInput: it has not ended, or the id stands for another call.
    """
    require_same(claim, record.claim)
    if record.ending is None:
        raise Busy(
            f"{claim.call}: call {claim.call_id} is under way in another process",
            fix=f"`tasak outcome {claim.call_id}` tells when it has ended",
        )
    problem = from_json({"error": record.ending.error}) if record.ending.error else None
    return End(claim=claim, ending=record.ending, at=at, problem=problem)


def require_same(claim: Claim, earlier: Claim) -> None:
    """
    Raises:
        BadArguments: the id stands for another call.
        NeedsInput: that cannot be told before the caller has read what `claim` names.
    """
    if claim.what == earlier.what:
        return
    if claim.names_input:
        raise NeedsInput(
            f"{claim.call}: --args names what only the caller can read", fix="send the text itself: --args '{…}'"
        )
    raise BadArguments(
        f"{claim.call}: the id {claim.call_id} stands for another call, of {earlier.call}",
        fix="give each call an id of its own",
    )
