"""What the CLI writes: results on stdout, everything else on stderr."""

import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from tasak.errors import TasakError
from tasak.inert import inert

STDOUT, STDERR = 1, 2


def write_all(fd: int, content: bytes) -> None:
    """Write every byte, also to a pipe that does not block.

    Raises:
        OSError: the other side is gone or full.
    """
    import select

    left = memoryview(content)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            select.select([], [fd], [])


def say(line: str) -> None:
    """One line for the reader, on stderr."""
    write_all(STDERR, f"tasak: {inert(line)}\n".encode("utf-8", "replace"))


def notices(lines: Iterable[str]) -> None:
    for line in lines:
        say(line)


def print_json(value: Any) -> None:
    write_all(STDOUT, json.dumps(value, indent=2, ensure_ascii=not sys.stdout.isatty()).encode() + b"\n")


def print_error(problem: TasakError, *, wants_json: bool) -> int:
    """Tell what went wrong; the exit status to leave with."""
    if wants_json:
        print_json(problem.as_json())
    else:
        say(problem.message)
        for line in (problem.fix or "").splitlines():
            write_all(STDERR, f"  {inert(line)}\n".encode("utf-8", "replace"))
    return problem.exit_status
