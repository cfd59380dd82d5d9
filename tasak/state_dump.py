"""What the daemon is doing, for whoever asks with SIGUSR1 or SIGQUIT: code and names, no values."""

import asyncio
import faulthandler
import tempfile

# Threads are bounded by faulthandler, at a hundred, as are their frames.
SHOWN_TASKS = 200


def state_dump() -> str:
    """The stack of each thread, and the tasks of the running loop with the functions that they are of."""
    tasks = [f"{task.get_name()}: {getattr(task.get_coro(), '__qualname__', '?')}" for task in asyncio.all_tasks()]
    shown = sorted(tasks)[:SHOWN_TASKS]
    more = [f"and {len(tasks) - len(shown)} more"] if len(tasks) > len(shown) else []
    return "\n".join([stacks(), f"{len(tasks)} tasks:", *shown, *more])


def stacks() -> str:
    # It writes to nothing but a descriptor.
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        return file.read().decode("utf-8", "replace")
