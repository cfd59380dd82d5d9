"""Plugin code is kept from doing harm: what it raises becomes an error of ours, what it answers is looked at."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

from tasak.errors import TasakError
from tasak.failure import Misbehaved, kind
from tasak.plugin import Session

# What the pool asks of a session.
SESSION = ("ended", "last_words", "pid", "protocol_version", "request", "server_info")

# Cancelling tells the peer; what swallows it is left where it hangs.
CANCEL_GRACE = 1.0

Result = TypeVar("Result")


async def contained(work: Callable[..., Awaitable[Result]], *given: Any, **how: Any) -> Result:
    """What plugin code gives. What it must not raise, since that ends tasks and processes, becomes `Misbehaved`."""
    try:
        return await work(*given, **how)
    except (Exception, GeneratorExit) as problem:
        if not is_of_a_kind(problem):
            raise Misbehaved(f"it raised {kind(problem)}, which says nothing of the outcome") from problem
        raise
    except BaseException as problem:
        if isinstance(problem, asyncio.CancelledError) and is_being_cancelled():
            raise
        raise Misbehaved(f"it raised {kind(problem)}") from problem


async def apart(
    blame: Callable[[str], None], work: Callable[..., Awaitable[Result]], *given: Any, **how: Any
) -> Result:
    """The same, in a task of its own: who is cancelled need not wait for plugin code that goes on all the same."""
    task = asyncio.create_task(contained(work, *given, **how))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        # How it ends is no news any more.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        task.cancel()
        _, hanging = await asyncio.wait([task], timeout=CANCEL_GRACE)
        if hanging:
            blame("goes on where it is cancelled")
        raise


def is_of_a_kind(problem: BaseException) -> bool:
    """Whether it can be reported: of our own errors, the root of all has neither code nor outcome."""
    return not isinstance(problem, TasakError) or hasattr(problem, "code")


def is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def checked(session: Session, close: Callable[[Session], Awaitable[None]]) -> Session:
    """What the plugin gave, if it is a session. What is none is closed: it may hold something.

    Raises:
        Misbehaved: it lacks something, or has something else than it should.
    """
    if problem := unfit(session):
        with contextlib.suppress(Exception):  # of two mistakes the first is told
            await close(session)
        raise Misbehaved(f"its connect answered {type(session).__name__}, {problem}")
    return session


def unfit(session: Session) -> str | None:
    """What makes it none."""
    if missing := [name for name in SESSION if not hasattr(session, name)]:
        return f"which has no {', '.join(missing)}"
    return next((f"whose {name} is {wrong}" for name, wrong, fits in members_of(session) if not fits), None)


def members_of(session: Session) -> Iterator[tuple[str, str, bool]]:
    """What it has: each member's name, what it is where it does not fit, and whether it fits."""
    pid: object = session.pid
    version: object = session.protocol_version
    info: object = session.server_info
    yield "ended", "no asyncio.Event", isinstance(session.ended, asyncio.Event)
    yield "last_words", "no method", callable(session.last_words)
    yield "pid", "neither a process id nor None", pid is None or (isinstance(pid, int) and pid > 0)
    yield "protocol_version", "neither a string nor None", version is None or isinstance(version, str)
    yield "request", "no method", callable(session.request)
    yield "server_info", "neither a JSON object nor None", info is None or (isinstance(info, Mapping) and is_json(info))


def is_json(value: Mapping[str, Any]) -> bool:
    try:
        json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
