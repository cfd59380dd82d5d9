"""The mark in the environment of what we start, which is handed down to all that comes of it: whose it is.

It is how a process is found that has left its group and lost its parent; also when we are no more.
"""

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from tasak.transports.census import Census, of_this_machine
from tasak.wire import TREE_VARIABLE

VARIABLE = TREE_VARIABLE

FORM = r"([0-9]+)-([0-9]+)-([0-9]+)-([0-9a-f]+)(?:\.[0-9a-f]+)?"


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of ours that starts programs: a daemon, or a direct call."""

    pid: int
    born: int
    space: int
    """The pid namespace: a container's pids mean nothing outside of it. 0 where there are none."""
    nonce: str

    @classmethod
    def of_this_process(cls) -> Self:
        own = of_this_machine().look(os.getpid())
        # Without /proc nobody can look for us either.
        return cls(os.getpid(), own.born if own else 0, space(), secrets.token_hex(8))

    @classmethod
    def of_mark(cls, mark: str) -> Self | None:
        """Who made it; None where it is no mark of ours."""
        if not (found := re.fullmatch(FORM, mark)):
            return None
        pid, born, space, nonce = found.groups()
        return cls(int(pid), int(born), int(space), nonce)

    def __str__(self) -> str:
        return f"{self.pid}-{self.born}-{self.space}-{self.nonce}"

    def is_dead(self, census: Census) -> bool:
        """Whether it is known to be: not of one elsewhere, of which we know nothing."""
        if self.space != space():
            return False
        maker = census.look(self.pid)
        return maker is None or maker.born != self.born or maker.is_dead


def space() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def marked(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of one program, whose mark is that of its instance with a part of its own."""
    if instance := environment.get(VARIABLE):
        return {**environment, VARIABLE: f"{instance}.{secrets.token_hex(4)}"}
    return dict(environment)


def is_of(instance: str, mark: str | None) -> bool:
    """Whether the mark is one that the instance's programs have."""
    return mark is not None and mark.partition(".")[0] == instance
