"""The verbs of a transport. An implementation may take fewer arguments; all but the schema may be `async def`."""

from typing import Any

import pluggy

from tasak.plugin import AppConfig, Host, Session

hookspec = pluggy.HookspecMarker("tasak")


@hookspec(firstresult=True)
def transport_schema() -> dict[str, Any]:  # type: ignore[empty-body]  # a specification has no body
    """JSON Schema (an object) of the options that this transport takes in the config, beside the common keys."""


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
