"""Replaces a daemon of another version by one of ours, once nobody else has done it."""

from tasak import __version__
from tasak.client import launcher, stopper
from tasak.errors import VersionSkew
from tasak.paths import StateDir
from tasak.wire import CONTINUE_TIMEOUT

# Two installations of different versions that are used in turn do not replace each other's daemon at every call.
SHORTEST_LIFE = 60.0


def replace(state: StateDir, problem: VersionSkew) -> None:
    """Drain and end the daemon, and start our own. Whoever comes at the same time waits for that.

    Raises:
        VersionSkew: it was started a moment ago; it stays.
        DaemonAway: it does not go, or ours does not start.
    """
    with launcher.in_turn(state):
        health = stopper.answers(state, "GET", "/health", CONTINUE_TIMEOUT)
        if health.get("version") == __version__:
            return
        if health:
            if health.get("uptime", SHORTEST_LIFE) < SHORTEST_LIFE:
                raise problem
            stopper.stop(state)
        launcher.spawn(state, None).close()
