"""One thing that is wrong, and what mends it."""

from dataclasses import dataclass
from typing import Literal

from tasak.errors import TasakError

Check = Literal["app", "config", "daemon", "file", "package", "plugin", "port", "version"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` says what was looked at; `what` is a sentence, `fix` what to do."""

    check: Check
    what: str
    fix: str

    @classmethod
    def of(cls, check: Check, problem: TasakError) -> "Finding":
        return cls(check, problem.message, problem.fix or "mend it")
