"""What Linux does for whoever starts programs. Other systems do nothing of it."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own, instead of init. For life; children do not inherit it.

    The dead ones among them are ours to bury. Elsewhere orphans go to init, and are looked for among all processes.
    """
    if sys.platform == "linux":
        prctl()(PR_SET_CHILD_SUBREAPER, 1)


def adopts_orphans() -> bool:
    """Whether they come to us."""
    if sys.platform != "linux":
        return False
    import ctypes

    answer = ctypes.c_int()
    prctl()(PR_GET_CHILD_SUBREAPER, ctypes.addressof(answer))
    return bool(answer.value)


def death_with_us() -> Callable[[], None]:
    """What a child calls between fork and exec so that it is killed when the thread that forked it ends.

    All that is slow, or takes a lock, is done here, before the fork.
    """
    call, parent, kill = prctl(), os.getpid(), int(signal.SIGKILL)

    def ask() -> None:
        call(PR_SET_PDEATHSIG, kill)
        if os.getppid() != parent:  # it ended before we could ask
            os.kill(os.getpid(), kill)

    return ask


def prctl() -> Callable[[int, int], int]:
    # Lazy: 2 ms for whoever starts something.
    import ctypes

    function: Any = ctypes.CDLL(None).prctl
    function.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    return lambda option, argument: int(function(option, argument, 0, 0, 0))
