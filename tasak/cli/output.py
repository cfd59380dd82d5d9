"""What the CLI writes: results on stdout, everything else on stderr."""

import json
import os
import select
from collections.abc import Iterable, Sequence
from typing import Any

from tasak.errors import TasakError
from tasak.inert import inert, inert_json

STDOUT, STDERR = 1, 2


class ReaderGone(Exception):
    """Whoever read our output has seen enough. No OSError: click would make its own end of that."""


def write_all(fd: int, content: bytes) -> None:
    """Write every byte, also to a pipe that does not block.

    Raises:
        ReaderGone: nobody reads any more.
        OSError: the other side is full or closed.
    """
    left = memoryview(content)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            select.select([], [fd], [])
        except BrokenPipeError:
            raise ReaderGone from None


def say(text: str) -> None:
    """Tell the reader something, on stderr."""
    write_all(STDERR, f"tasak: {inert(text)}\n".encode("utf-8", "replace"))


def notices(lines: Iterable[str]) -> None:
    for line in lines:
        say(line)


def progress(done: Any, total: Any, message: Any) -> None:
    """How far a call is, as its server tells."""
    has_total = isinstance(total, int | float) and isinstance(done, int | float)
    amount = f"{done:g}/{total:g}" if has_total else f"{done}"
    say(f"{amount} {message}" if message else amount)


def print_line(line: str) -> None:
    write_all(STDOUT, line.encode("utf-8", "replace") + b"\n")


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

    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    for row in cells:
        table.add_row(*map(Text, row))
    Console().print(table)


def print_json(value: Any) -> None:
    """One document; whatever a server said in it stays inert on a terminal."""
    document = json.dumps(value, indent=2, ensure_ascii=not os.isatty(STDOUT))
    write_all(STDOUT, inert_json(document).encode() + b"\n")


def print_error(problem: TasakError, *, wants_json: bool) -> int:
    """Tell what went wrong; the exit status to leave with."""
    if wants_json:
        print_json(problem.as_json())
    else:
        say(problem.message)
        for line in (problem.fix or "").splitlines():
            write_all(STDERR, f"  {inert(line)}\n".encode("utf-8", "replace"))
    return problem.exit_status


def quiet_end() -> int:
    """The reader of stdout has seen enough; leave as a program does that SIGPIPE ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
    return 141
