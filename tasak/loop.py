"""A loop for a process that plugins run in: what they leave running keeps it from no end."""

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

from tasak.threads import Threads, keep_ours

# What was cancelled and goes on is left where it hangs. So is a thread.
GRACE = 1.0

Result = TypeVar("Result")


def run_loop(main: Coroutine[Any, Any, Result], *, has_threads: bool = False) -> Result:
    """What `main` gives, as `asyncio.run` does, which waits for ever for a task or a thread that does not end.

    Such a one is there afterwards: whoever calls this ends the process with `os._exit`. With `has_threads` those that
    work aside are there from the beginning, and need no memory later.
    """
    runner = asyncio.Runner()
    loop = runner.get_loop()
    ours, theirs = Threads(name="ours"), Threads(name="theirs")
    if has_threads:
        ours.start()
        theirs.start()
    keep_ours(loop, ours)
    loop.set_default_executor(theirs)
    try:
        return runner.run(main)
    finally:
        # Not the runner's own end: it starts a thread to wait for the others in, and waits for that one without end.
        if all([loop.run_until_complete(have_ended()), ours.have_ended(GRACE), theirs.have_ended(GRACE)]):
            loop.close()


async def have_ended() -> bool:
    """Whether all other tasks have, now that they are cancelled, and what they had left to end."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    return await end_of(tasks) and await end_of({asyncio.create_task(asyncio.get_running_loop().shutdown_asyncgens())})


async def end_of(tasks: Collection[asyncio.Task[Any]]) -> bool:
    return not tasks or not (await asyncio.wait(tasks, timeout=GRACE))[1]
