"""Measure what TASAK promises, and print a table of medians and ratios. Exit status 1 says that a target is missed."""

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

from bench.figure import COLUMNS, Figure
from bench.home import Failed, Home
from bench.rows import ROWS
from bench.table import aligned
from tasak import __version__
from tasak.errors import TasakError

# No row takes as long, even on a machine that has much else to do; what does hangs.
ROW_LIMIT = 900


def main(words: Sequence[str] | None = None) -> int:
    asked = parser().parse_args(words)
    # Each of them raises: what was started ends with us.
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGALRM, give_up)
    machine = about_machine()
    figures = []
    for name in asked.rows or ROWS:
        print(f"{name} …", file=sys.stderr)
        try:
            figures += measured(name, is_quick=asked.quick)
        except (Failed, TasakError, OSError) as problem:
            print(f"bench: {name}: {problem}", file=sys.stderr)
            return 1
    if asked.json:
        print(json.dumps({**machine, "quick": asked.quick, "figures": [each.as_json() for each in figures]}, indent=2))
    else:
        print(aligned([COLUMNS, *(each.as_cells() for each in figures)]))
        print(", ".join(f"{key} {value}" for key, value in machine.items()))
    # A few pairs show that it works, not how well.
    return 0 if asked.quick or all(each.is_met for each in figures) else 1


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    made.add_argument("rows", nargs="*", type=row, metavar="ROW", help=f"all unless named: {', '.join(ROWS)}")
    made.add_argument("--quick", action="store_true", help="a few pairs: to see that it works")
    made.add_argument("--json", action="store_true", help="one document instead of the table")
    return made


def row(name: str) -> str:
    if name not in ROWS:
        raise argparse.ArgumentTypeError(f"there is no {name!r}, but {', '.join(ROWS)}")
    return name


def measured(name: str, *, is_quick: bool) -> list[Figure]:
    signal.alarm(ROW_LIMIT)
    try:
        with Home() as home:
            return list(ROWS[name](home, is_quick))
    finally:
        signal.alarm(0)


def about_machine() -> dict[str, Any]:
    """What the figures depend on, as it is before we load it."""
    return {
        "tasak": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
    }


def stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def give_up(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"not done after {ROW_LIMIT} s")


if __name__ == "__main__":
    sys.exit(main())
