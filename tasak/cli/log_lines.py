"""The daemon's log as `tasak daemon logs` shows it: its last lines, and those that come."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from tasak.errors import BadConfig
from tasak.paths import open_own

# As many as tell what has happened lately.
SHOWN_LINES = 200

FOLLOW_INTERVAL = 0.2


def pause() -> None:
    time.sleep(FOLLOW_INTERVAL)


def log_lines(path: Path, *, follow: bool, pause: Callable[[], None] = pause) -> Iterator[str]:
    """The last lines of the log, if there is one, and with `follow` those that come, also when it is rotated.

    Raises:
        BadConfig: what is there is no log of ours.
    """
    file = opened(path)
    if file is None:
        return
    try:
        yield from list(lines_left(file))[-SHOWN_LINES:]
        while follow:
            # Looked at first: what was written before it was put aside is in it then.
            is_current = is_at(path, file)
            yield from lines_left(file)
            if is_current:
                pause()
            elif following := opened(path):
                file.close()
                file = following
            else:  # put aside, and the next one is not there yet
                pause()
    finally:
        file.close()


def lines_left(file: TextIO) -> Iterator[str]:
    while line := file.readline():
        yield line.rstrip("\n")


def opened(path: Path) -> TextIO | None:
    try:
        return os.fdopen(open_own(path, os.O_RDONLY), encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise BadConfig(f"{path} cannot be read: {problem.strerror}", fix="see whose it is") from problem


def is_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except OSError:
        return False
