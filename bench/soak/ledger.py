"""What became of every call, as its caller was told, held against what has run."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["executed", "not_executed", "unknown"]

# What no caller may ever see.
LIES = ("wrong_answer", "no_answer", "no_end", "internal")


@dataclass(frozen=True, slots=True)
class End:
    """How one call ended: in a word, what that says of whether it has run, and what was said besides."""

    word: str
    outcome: Outcome
    said: str = ""

    def __str__(self) -> str:
        return f"{self.word} ({self.said})" if self.said else self.word


@dataclass(frozen=True, slots=True)
class Findings:
    """What does not fit; each names the first few calls."""

    not_ended_once: list[str]
    lies: list[str]
    ran_twice: list[str]
    untrue: list[str]


class Ledger:
    """The ends of calls, by their texts."""

    def __init__(self) -> None:
        self._begun: list[str] = []
        self._ends: dict[str, list[End]] = {}
        self.ended = 0

    def begin(self, text: str) -> None:
        self._begun.append(text)

    def end(self, text: str, end: End) -> None:
        self._ends.setdefault(text, []).append(end)
        self.ended += 1

    def words(self) -> Counter[str]:
        return Counter(end.word for ends in self._ends.values() for end in ends)

    def findings(self, executions: Counter[str]) -> Findings:
        every = [(text, end) for text, ends in self._ends.items() for end in ends]
        return Findings(
            not_ended_once=[text for text in self._begun if len(self._ends.get(text, ())) != 1],
            lies=[f"{text} {end}" for text, end in every if end.word in LIES],
            ran_twice=[text for text in self._begun if executions[text] > 1],
            untrue=[
                f"{text} {end}, and it ran {executions[text]} times"
                for text, end in every
                if not is_true(end, executions[text])
            ],
        )


def is_true(end: End, executions: int) -> bool:
    match end.outcome:
        case "executed":
            # An error is an answer, too: of a server that refused to run it, say.
            return executions == 1 or (executions == 0 and end.word == "server_error")
        case "not_executed":
            return executions == 0
        case "unknown":
            return executions <= 1
