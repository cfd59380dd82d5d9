"""Locks between processes: whoever has a file open and locked. They end with their process, however that ends."""

import fcntl
import time

# The kernel wakes nobody for a lock that is asked for with a bound.
LOCK_POLL = 0.02


def has_locked(file: int) -> bool:
    """Take the lock if nobody holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def has_locked_by(file: int, deadline: float) -> bool:
    """Take the lock as soon as nobody holds it; blocks until the `deadline` at the most, on the monotonic clock."""
    while not has_locked(file):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOCK_POLL)
    return True
