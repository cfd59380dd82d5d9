"""A loop for a process that plugins run in: what they leave running keeps it from no end."""

import asyncio
import threading
from collections.abc import Coroutine
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
        if all([loop.run_until_complete(have_ended()), has_ended(ours), has_ended(theirs)]):
            runner.close()


async def have_ended() -> bool:
    """Whether all other tasks have, now that they are cancelled."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    return not others or not (await asyncio.wait(others, timeout=GRACE))[1]


def has_ended(threads: Threads) -> bool:
    """Whether what it has begun is over."""
    waiting = threading.Thread(target=threads.shutdown, kwargs={"cancel_futures": True}, daemon=True)
    waiting.start()
    waiting.join(GRACE)
    return not waiting.is_alive()
