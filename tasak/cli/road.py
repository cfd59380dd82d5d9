"""Which way a request goes: through the daemon, or direct where the user says so or nothing can have been sent."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tasak.cli import output
from tasak.cli.asked import Asked
from tasak.cli.daemon_road import DaemonRoad
from tasak.errors import BadConfig, DaemonAway, Draining, TasakError, VersionSkew
from tasak.paths import StateDir
from tasak.request import Reply, Request

Result = TypeVar("Result")


class Road(Protocol):
    """What both ways can do. They print nothing but progress and timings, on stderr."""

    def apps(self, cwd: Path | None, env: Mapping[str, str]) -> Mapping[str, Any]:
        """The configured apps, as `GET /apps` has them."""
        ...

    def list_tools(self, request: Request) -> Mapping[str, Any]:
        """The app's `tools`, the `notices` about them, and the names of those that are `blocked`."""
        ...

    def call(self, request: Request) -> Reply: ...


def travel(asked: Asked, errand: Callable[[Road], Result], *, starts: bool = True) -> Result:
    """Do the errand on the right road. Without `starts`, a daemon that does not run is neither started nor missed."""
    try:
        state = StateDir.of_user()
    except BadConfig as problem:
        if asked.call_id is not None:  # there is no place to write it down
            raise
        output.say(f"{why_direct(problem)}, no file of your own counts; {problem.fix}")
        return directly(asked, errand, StateDir.of_nobody())
    if not asked.no_daemon and not asked.debug:
        road = DaemonRoad(asked, state, starts=starts)
        try:
            return errand(road)
        except (DaemonAway, Draining, VersionSkew) as problem:
            if not road.is_missing:
                output.say(why_direct(problem))
    return directly(asked, errand, state)


def directly(asked: Asked, errand: Callable[[Road], Result], state: StateDir) -> Result:
    # Lazy: the whole core, which a call through the daemon does without.
    from tasak.cli.direct import Direct

    return errand(Direct(state, debug=asked.debug))


def why_direct(problem: TasakError) -> str:
    """Why the call goes direct, and what that means, on one line; below it the daemon's last words, or what to mend."""
    first, *rest = problem.message.splitlines()
    if isinstance(problem.__cause__, BadConfig) and problem.fix:
        rest.append(f"  {problem.fix}")
    return "\n".join([f"{first}: called directly, nothing stays warm", *rest])
