"""The verbs of a transport. An implementation may take fewer arguments; all but schema and parts may be `async def`.

The first four make a transport; the others belong to those that have something to answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from tasak.plugin import AppConfig, Host, Session

hookspec = pluggy.HookspecMarker("tasak")


@hookspec(firstresult=True)
def transport_schema() -> dict[str, Any]:  # type: ignore[empty-body]  # a specification has no body
    """JSON Schema (an object) of the options that this transport takes in the config, beside the common keys.

    Two formats of its own: a property with `"format": "command"` arrives as a tuple of words, the program's absolute
    path first; in one with `"format": "template"`, `${args.…}` and `${steps.…}` are left for the plugin to fill in,
    `$$` for a dollar, and whatever comes from the environment is escaped so.
    """


@hookspec(firstresult=True)
def connect(app: AppConfig, host: Host) -> Session:  # type: ignore[empty-body]  # as above
    """Open a session. Runs in the connection's owner task; cancelled when `host.init_timeout` is over.

    Whatever was opened is closed again before an exception leaves.
    """


@hookspec(firstresult=True)
def ping(session: Session) -> None:
    """Make a real round trip; raise when the peer does not answer."""


@hookspec(firstresult=True)
def close(session: Session) -> None:
    """Close the session, in the task that opened it. Never raises for a dead peer."""


@hookspec(firstresult=True)
def parts(options: Mapping[str, Any]) -> Sequence[str]:  # type: ignore[empty-body]  # as above
    """The names of the other apps that an app with these options calls, by way of `Host.call`. A plain function."""


@hookspec(firstresult=True)
def login(app: AppConfig, host: Host, opens_browser: bool) -> None:
    """Sign the user in (`tasak auth login`), in a process that has a terminal."""


@hookspec(firstresult=True)
def login_status(app: AppConfig, host: Host) -> Mapping[str, Any]:  # type: ignore[empty-body]  # as above
    """What is known of the user's sign-in, as JSON: `{"signed_in": bool, …}`, without any secret."""


@hookspec(firstresult=True)
def logout(app: AppConfig, host: Host) -> bool:  # type: ignore[empty-body]  # as above
    """Forget the user's sign-in; whether there was one."""
