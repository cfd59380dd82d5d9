"""What the CLI writes: results on stdout, everything else on stderr."""

import io
import json
import logging
import os
import select
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from tasak.errors import TasakError
from tasak.inert import inert, inert_json, one_line

STDOUT, STDERR = 1, 2


class ReaderGone(Exception):
    """Whoever read our output has seen enough. No OSError: click would make its own end of that."""


class CannotWrite(Exception):
    """What we have to say does not reach stdout: no fault of ours, nor of the call whose result it may be."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot write the result: {reason}")
        self.reason = reason


class Printed(io.TextIOBase):
    """`sys.stdout` for what others print, such as click its help: it keeps nothing back, and fails as our own does."""

    def write(self, text: str) -> int:
        write_all(STDOUT, text.encode("utf-8", "replace"))
        return len(text)

    def isatty(self) -> bool:
        return os.isatty(STDOUT)

    def fileno(self) -> int:
        return STDOUT


def keep_closed() -> None:
    """Take the places of standard streams that are closed: what we open there would get what we say to the reader."""
    while (taken := os.open(os.devnull, os.O_RDONLY)) <= STDERR:
        continue
    os.close(taken)


def write_all(fd: int, content: bytes) -> None:
    """Write every byte, also to a pipe that does not block.

    Raises:
        ReaderGone: nobody reads any more.
        CannotWrite: the other side is full or closed.
    """
    left = memoryview(content)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            select.select([], [fd], [])
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as problem:
            raise CannotWrite(os.strerror(problem.errno or 0)) from problem


def tell(content: bytes) -> None:
    """Write it on stderr. Where that is full or closed, there is nobody to tell."""
    with suppress(CannotWrite):
        write_all(STDERR, content)


def say(text: str) -> None:
    """Tell the reader something, on stderr."""
    tell(f"tasak: {inert(text)}\n".encode("utf-8", "replace"))


def notices(lines: Iterable[str]) -> None:
    for line in lines:
        say(line)


def progress(done: Any, total: Any, message: Any) -> None:
    """How far a call is, as its server tells."""
    has_total = isinstance(total, int | float) and isinstance(done, int | float)
    amount = f"{done:g}/{total:g}" if has_total else f"{done}"
    say(one_line(f"{amount} {message}" if message else amount))


def print_line(line: str) -> None:
    """A line of ours, or several; what a server said in it stays inert."""
    write_all(STDOUT, inert(line).encode() + b"\n")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for a reader; for a program, a line a row, with tabs between its cells and none in them."""
    cells = [[inert(cell).replace("\t", " ").replace("\n", " ") for cell in row] for row in rows]
    if not os.isatty(STDOUT):
        for row in cells:
            print_line("\t".join(row))
        return
    # Lazy: few outputs are terminals.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")  # an id, a path or a command is worth nothing when it is cut
    for row in cells:
        table.add_row(*map(Text, row))
    Console().print(table)


def print_json(value: Any) -> None:
    """One document; whatever a server said in it stays inert on a terminal."""
    document = json.dumps(value, indent=2, ensure_ascii=not os.isatty(STDOUT), allow_nan=False)
    write_all(STDOUT, inert_json(document).encode() + b"\n")


def print_error(problem: TasakError, *, wants_json: bool) -> int:
    """Tell what went wrong, in words where the document cannot be written; the exit status to leave with."""
    if wants_json:
        try:
            print_json(problem.as_json())
        except CannotWrite as failure:
            say(str(failure))
        else:
            return problem.exit_status
    say(problem.message)
    for line in (problem.fix or "").splitlines():
        tell(f"  {inert(line)}\n".encode("utf-8", "replace"))
    return problem.exit_status


def tell_traceback(problem: BaseException) -> None:
    """Where it comes from, for whoever asked for that."""
    tell(inert("".join(traceback.format_exception(problem))).encode())


class InertFormatter(logging.Formatter):
    """What is logged, for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return inert(super().format(record))


def quiet_end() -> int:
    """The reader of stdout has seen enough; leave as a program does that SIGPIPE ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    return 141
