"""Which way a request goes: through the daemon, or direct where the user says so or nothing can have been sent."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tasak.cli import output
from tasak.cli.asked import Asked
from tasak.cli.daemon_road import DaemonRoad
from tasak.errors import DaemonAway, Draining, VersionSkew
from tasak.paths import StateDir
from tasak.request import Reply, Request

Result = TypeVar("Result")


class Road(Protocol):
    """What both ways can do. They print nothing but progress and timings, on stderr."""

    def apps(self, cwd: Path | None, env: Mapping[str, str]) -> Mapping[str, Any]:
        """The configured apps, as `GET /apps` has them."""
        ...

    def list_tools(self, request: Request) -> Sequence[Mapping[str, Any]]: ...

    def call(self, request: Request) -> Reply: ...


def travel(asked: Asked, errand: Callable[[Road], Result], *, starts: bool = True) -> Result:
    """Do the errand on the right road. Without `starts`, a daemon that does not run is neither started nor missed."""
    if not asked.no_daemon and not asked.debug:
        try:
            return errand(DaemonRoad(asked, StateDir.of_user(), starts=starts))
        except (DaemonAway, Draining, VersionSkew) as problem:
            if starts:
                output.say(why_direct(problem))
    # Lazy: the whole core, which a call through the daemon does without.
    from tasak.cli.direct import Direct

    return errand(Direct(debug=asked.debug))


def why_direct(problem: DaemonAway | Draining | VersionSkew) -> str:
    """Why the call goes direct, and what that means, on one line; below it, the daemon's last words."""
    first, *rest = problem.message.splitlines()
    return "\n".join([f"{first}: called directly, nothing stays warm", *rest])
