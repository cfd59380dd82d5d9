"""What is known of a call that has an id, and how that stands in a line of the journal."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tasak.core.strict_json import decoded
from tasak.errors import AnswerGone, BadArguments, Outcome, TasakError
from tasak.wire import LONGEST_TIMEOUT

# For a script that repeats a call whose answer it has lost.
KEPT_SECONDS = 600.0
KEPT_OUTCOMES = 256

# Names come from callers and messages from servers: enough of either to be told by.
LONGEST_NAME = 128
LONGEST_TEXT = 2048

CALL_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a caller wants an id to stand for."""

    call_id: str
    app: str
    tool: str
    what: str
    """The digest of all that makes it this call and no other."""
    lasts: float
    """Seconds that it may take."""
    names_input: bool = False
    """Its words name a file, or stdin, which only the caller can read: what is in it may make it that other call."""

    @property
    def call(self) -> str:
        """What to call it in a message."""
        return f"{self.app} {self.tool}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a call ended."""

    outcome: Outcome
    exit_status: int
    error: Mapping[str, Any] | None = None
    """As `TasakError.as_json` has it under `error`, with long texts cut; None if the server answered."""

    @classmethod
    def of(cls, problem: TasakError) -> "Ending":
        if isinstance(problem, BadArguments):  # which quotes them
            problem = BadArguments("the tool does not take these arguments")
        error = {name: cut(text, LONGEST_TEXT) for name, text in problem.as_json()["error"].items()}
        return cls(outcome=problem.outcome, exit_status=problem.exit_status, error=error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the journal knows of a call."""

    claim: Claim
    owner: str
    """The process that made it."""
    at: float
    """When it ended, or as long as that is not known, when it began: on the wall clock, which outlives processes."""
    ending: Ending | None = None

    @property
    def is_free(self) -> bool:
        """Whether nothing of it ran, so that its id may be used again."""
        return self.ending is not None and self.ending.outcome == "not_executed"

    def is_over(self, now: float, is_alive: Callable[[str], bool]) -> bool:
        """Whether it is forgotten. One whose end is not known may have gone on for as long as it was allowed to."""
        longest = LONGEST_TIMEOUT if is_alive(self.owner) else self.claim.lasts
        return now - self.at > KEPT_SECONDS + (0 if self.ending else longest)


def require_call_id(call_id: str) -> None:
    """
    Raises:
        BadArguments: it is none.
    """
    if not CALL_ID.fullmatch(call_id):
        raise BadArguments(
            f"{call_id[:LONGEST_NAME]!r} is no id of a call", fix="1 to 128 letters, digits and . _ : - are one"
        )


def answer_gone(app: str, tool: str, call_id: str, exit_status: int) -> AnswerGone:
    return AnswerGone(
        f"{app} {tool}: call {call_id} has run, with exit status {exit_status}, and what it answered is not kept",
        fix="look at what it did: under this id it does not run again",
    )


def described(claim: Claim, age: float, ending: Ending | None = None, result: str | None = None) -> dict[str, Any]:
    """The body of `GET /outcomes/{call_id}`. `age` is in seconds, from its end, or else from its beginning."""
    return {
        "call_id": claim.call_id,
        "app": claim.app,
        "tool": claim.tool,
        "state": "ended" if ending else "running",
        "outcome": ending and ending.outcome,
        "exit": ending and ending.exit_status,
        "error": ending and ending.error,
        "age": round(age, 3),
        "result": result,
    }


def remembered(content: bytes, now: float, is_alive: Callable[[str], bool]) -> dict[str, Record]:
    """What the lines say, less what is forgotten; in the order in which the calls ended, or else began.

    Lines that are none, and the half of one that a full disk or the end of a process left, say nothing. `is_alive`
    tells of an owner whether it may still be at it.
    """
    records: dict[str, Record] = {}
    for line in content.splitlines():
        read_line(line, records, now)
    fresh = [record for record in records.values() if not record.is_over(now, is_alive)]
    ended = [record for record in fresh if record.ending]
    # What never ran is worth the least.
    crowd = sorted(ended, key=lambda record: not record.is_free)[: max(0, len(ended) - KEPT_OUTCOMES)]
    gone = {record.claim.call_id for record in crowd}
    return {record.claim.call_id: record for record in fresh if record.claim.call_id not in gone}


def read_line(line: bytes, records: dict[str, Record], now: float) -> None:
    """Take in what one line says. A time to come is one of a clock that was wrong: it counts as now."""
    try:
        said = decoded(line.decode())
    except ValueError:
        return
    match said:
        case {
            "begun": str(call_id),
            "at": float(at),
            "owner": str(owner),
            "app": str(app),
            "tool": str(tool),
            "what": str(what),
            "lasts": float(lasts),
        }:
            records.pop(call_id, None)
            claim = Claim(call_id=call_id, app=app, tool=tool, what=what, lasts=lasts)
            records[call_id] = Record(claim=claim, owner=owner, at=min(at, now))
        case {
            "ended": str(call_id),
            "at": float(at),
            "owner": str(owner),
            "outcome": "executed" | "not_executed" | "unknown" as outcome,
            "exit": int(status),
            "error": dict() | None as error,
        } if call_id in records and records[call_id].owner == owner:
            ending = Ending(outcome=outcome, exit_status=status, error=error)
            records[call_id] = replace(records.pop(call_id), at=min(at, now), ending=ending)


def lines_of(records: Iterable[Record]) -> Iterator[bytes]:
    for record in records:
        yield begun_line(record)
        if record.ending:
            yield ended_line(record)


def begun_line(record: Record) -> bytes:
    claim = record.claim
    return as_line(
        begun=claim.call_id,
        at=record.at,
        owner=record.owner,
        app=claim.app,
        tool=claim.tool[:LONGEST_NAME],
        what=claim.what,
        lasts=claim.lasts,
    )


def ended_line(record: Record) -> bytes:
    ending = record.ending
    assert ending is not None
    return as_line(
        ended=record.claim.call_id,
        at=record.at,
        owner=record.owner,
        outcome=ending.outcome,
        exit=ending.exit_status,
        error=ending.error,
    )


def cut(text: str | None, length: int) -> str | None:
    return text if text is None or len(text) <= length else f"{text[: length - 1]}…"


def as_line(**members: Any) -> bytes:
    return f"{json.dumps(members)}\n".encode()
