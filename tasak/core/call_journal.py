"""The journal of calls that have an id: that each began and how it ended, for whoever asks after its process is gone.

Lines of JSON, appended under a lock on the file: one before a call can be sent, one at its end. What is forgotten goes
when the file is written anew. Not in it: arguments and results.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasak.core.call_record import (
    KEPT_SECONDS,
    Claim,
    Ending,
    Record,
    begun_line,
    described,
    ended_line,
    lines_of,
    remembered,
)
from tasak.errors import BadConfig, NotRecorded, OutcomeUnknown, UnknownOutcome
from tasak.locking import has_locked_by
from tasak.paths import StateDir, open_private, write_private
from tasak.transports.census import of_this_machine
from tasak.transports.mark import Instance, space

# So many lines that are of no use are read again for each call before the file is written anew.
WASTE = 128

log = logging.getLogger(__name__)


class Journal:
    """The journal of one user's calls, for the process that has the instance id `owner`.

    Its methods block: for as long as a disk does, and those that write also for the lock, until a `deadline` on the
    monotonic clock.
    """

    def __init__(
        self,
        state: StateDir,
        owner: str,
        *,
        now: Callable[[], float] = time.time,
        is_alive: Callable[[str], bool] | None = None,
    ) -> None:
        self._state = state
        self._owner = owner
        self._now = now
        self._is_alive = is_alive or is_running

    def begin(self, claim: Claim, deadline: float) -> Record | None:
        """Write down that the call begins; the earlier record instead where its id is not free.

        Raises:
            NotRecorded: it cannot be written.
        """
        try:
            self._state.create()
            with self._locked(deadline) as file:
                return self._begin(file, claim)
        except BadConfig as problem:
            raise not_recorded(claim, problem.message, problem.fix) from problem
        except OSError as problem:
            fix = f"see whether {self._state.outcomes} can be written"
            raise not_recorded(claim, str(problem), fix) from problem

    def end(self, claim: Claim, ending: Ending, deadline: float) -> None:
        """Write down how the call ended. Where that cannot be, it stays one whose end is not known."""
        try:
            with self._locked(deadline) as file:
                append(file, ended_line(Record(claim=claim, owner=self._owner, at=self._now(), ending=ending)))
        except (OSError, BadConfig) as problem:
            log.warning("the end of call %s is not written down: %s", claim.call_id, problem)

    def find(self, call_id: str) -> Record | None:
        """What is known of a call. One without an ending is under way in another process."""
        record = self._read().get(call_id)
        if record and not record.ending and not self._is_under_way(record):
            # It may have ended since we read of it.
            record = self._read().get(call_id)
        return record and self._settled(record)

    def age(self, record: Record) -> float:
        """Seconds since it ended, or as long as that is not known, since it began."""
        return max(0.0, self._now() - record.at)

    def _begin(self, file: int, claim: Claim) -> Record | None:
        content = whole(file)
        records = remembered(content, self._now(), self._is_alive)
        earlier = records.pop(claim.call_id, None)
        if earlier and not earlier.is_free:
            return self._settled(earlier)
        record = Record(claim=claim, owner=self._owner, at=self._now())
        append(file, begun_line(record), is_lasting=True)
        if content.count(b"\n") - 2 * len(records) > WASTE:
            self._write_anew(b"".join(lines_of([*records.values(), record])))
        return None

    def _settled(self, record: Record) -> Record:
        """The record, with an ending where that will not come any more."""
        if record.ending or self._is_under_way(record):
            return record
        claim = record.claim
        problem = OutcomeUnknown(
            f"{claim.call}: how call {claim.call_id} ended is not known: it was begun by a process that is gone",
            fix="it may have run: look before you repeat it",
        )
        return replace(record, ending=Ending.of(problem))

    def _is_under_way(self, record: Record) -> bool:
        """Whether another process is at it. We are not: nobody asks for a call that is under way here."""
        return record.owner != self._owner and self._is_alive(record.owner)

    def _read(self) -> dict[str, Record]:
        try:
            # Not blocking: what is there may turn out to be a pipe.
            file = os.open(self._state.outcomes, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return {}
        try:
            return remembered(whole(file), self._now(), self._is_alive)
        except OSError:
            return {}
        finally:
            os.close(file)

    def _write_anew(self, text: bytes) -> None:
        try:
            write_private(self._state.outcomes, text.decode())
        except (OSError, BadConfig) as problem:
            log.warning("the journal of calls stays long: %s", problem)

    @contextmanager
    def _locked(self, deadline: float) -> Iterator[int]:
        """The file, for us alone: also where another process wrote it anew while we waited."""
        while True:
            file = open_private(self._state.outcomes, os.O_RDWR | os.O_APPEND)
            try:
                if not has_locked_by(file, deadline):
                    raise TimeoutError("other processes hold its lock")
                if is_at(self._state.outcomes, file):
                    yield file
                    return
            finally:
                os.close(file)


def known_from(journal: Journal, call_id: str) -> dict[str, Any]:
    """What the journal alone knows of the call, as `GET /outcomes/{call_id}` has it.

    Raises:
        UnknownOutcome: nothing.
    """
    found = journal.find(call_id)
    if found is None:
        raise UnknownOutcome(
            f"no call {call_id} is known", fix=f"one is forgotten {KEPT_SECONDS / 60:g} minutes after it"
        )
    return described(found.claim, journal.age(found), found.ending)


def not_recorded(claim: Claim, why: str, fix: str | None) -> NotRecorded:
    return NotRecorded(
        f"{claim.call}: the call has an id, and that it begins cannot be written down: {why}",
        fix="\n".join(filter(None, [fix, "without an id it can be made"])),
    )


def whole(file: int) -> bytes:
    content = b""
    while piece := os.pread(file, 1 << 20, len(content)):
        content += piece
    return content


def append(file: int, line: bytes, *, is_lasting: bool = False) -> None:
    """Add the whole line, or leave the file as it was. A line that `is_lasting` outlives the machine's end, too.

    Raises:
        OSError: the disk is full, or fails.
    """
    length = os.fstat(file).st_size
    is_torn = length > 0 and os.pread(file, 1, length - 1) != b"\n"
    try:
        write_all(file, b"\n" * is_torn + line)
        if is_lasting:
            os.fsync(file)
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, length)
        raise


def write_all(file: int, line: bytes) -> None:
    while line:
        line = line[os.write(file, line) :]


def is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def is_running(owner: str) -> bool:
    """Whether the process that has this instance id is known to be there: of another pid namespace we know nothing."""
    instance = Instance.of_mark(owner)
    return instance is not None and instance.space == space() and not instance.is_dead(of_this_machine())
