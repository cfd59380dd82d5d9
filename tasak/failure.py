"""What is told of an exception that is none of ours: its kind and its places, never its text.

Whatever a plugin or a library was given may stand in what it says: a header, a token, an argument.
"""

import errno
import logging
import traceback
from typing import TYPE_CHECKING, Any

from tasak.errors import TasakError
from tasak.inert import one_line

if TYPE_CHECKING:
    # The command has neither a loop nor threads.
    import asyncio
    import threading

# Whoever reads a traceback reads its last frames, and few causes.
SHOWN_FRAMES = 50
SHOWN_CAUSES = 10
SHOWN_MEMBERS = 5

# What the reader of a kind can do.
WHERE = "`tasak daemon logs` shows where it failed, and `--debug` all that it said"

log = logging.getLogger(__name__)


class Misbehaved(RuntimeError):
    """What plugin code did, in words of ours."""


def kind(problem: BaseException) -> str:
    """On one line: the name of its class, and what else of it is one of a few names."""
    if isinstance(problem, Misbehaved):
        return str(problem)
    name = class_name(problem)
    if isinstance(problem, BaseExceptionGroup):
        members = [class_name(each) for each in problem.exceptions[: SHOWN_MEMBERS + 1]]
        shown = [*members[:SHOWN_MEMBERS], *(["…"] if len(members) > SHOWN_MEMBERS else [])]
        return one_line(f"{name} of {', '.join(shown)}")
    if isinstance(problem, OSError) and (number := errno.errorcode.get(as_number(problem.errno))):
        return one_line(f"{name} ({number})")
    return one_line(name)


def trace(problem: BaseException) -> str:
    """Where it was raised, and what it came of before that: files, lines, functions and kinds."""
    return "\n\n".join(places(each) for each in reversed(with_causes(problem)))


def places(problem: BaseException) -> str:
    frames = traceback.format_tb(problem.__traceback__, limit=-SHOWN_FRAMES)
    said = one_line(f"{class_name(problem)}: {problem.message}") if isinstance(problem, TasakError) else kind(problem)
    return f"Traceback (most recent call last):\n{''.join(frames)}{said}"


def with_causes(problem: BaseException) -> list[BaseException]:
    """It, and what it came of, the last first."""
    found: list[BaseException] = []
    waiting = [problem]
    while waiting and len(found) < SHOWN_CAUSES:
        each = waiting.pop(0)
        if any(each is other for other in found):
            continue
        found.append(each)
        if cause := each.__cause__ or (None if each.__suppress_context__ else each.__context__):
            waiting.append(cause)
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions[:SHOWN_MEMBERS]
    return found


def class_name(problem: BaseException) -> str:
    made = type(problem)
    return made.__qualname__ if made.__module__ == "builtins" else f"{made.__module__}.{made.__qualname__}"


def as_number(value: object) -> int:
    return value if isinstance(value, int) else 0


def of_loop(_: "asyncio.AbstractEventLoop", context: dict[str, Any]) -> None:
    """A loop's exception handler. Its own one shows tasks and futures, and so what they have failed with."""
    log.error("%s", context.get("message"), exc_info=context.get("exception"))


def of_thread(failed: "threading.ExceptHookArgs") -> None:
    """The hook for threads. Python's own one writes all that the exception says on stderr, or nowhere in a daemon."""
    if failed.exc_type is SystemExit:  # a way to end one
        return
    name = failed.thread.name if failed.thread else "that is gone"
    log.error("thread %s", name, exc_info=failed.exc_value)
