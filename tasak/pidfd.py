"""A descriptor of a process: a signal that is sent through it reaches no other one that has its pid by then."""

import os
import signal
import sys


def open_pidfd(pid: int) -> int | None:
    """One of the process that has this pid now.

    None where the kernel gives none: before Linux 5.3, under the rules of some containers, and on other systems.

    Raises:
        ProcessLookupError: there is no such process.
    """
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return None


def send_signal(pid: int, handle: int | None, number: int) -> None:
    """Send it through the handle; where there is none, to whoever has the pid."""
    if handle is None:
        os.kill(pid, number)
    elif sys.platform == "linux":
        signal.pidfd_send_signal(handle, number)
