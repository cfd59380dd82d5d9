"""What is known of apps and of their connections, for whoever looks at the machine at night."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasak.core.config import AppSummary
from tasak.core.connection import Connection, State
from tasak.core.connection_manager import Failure
from tasak.core.processes import tree
from tasak.errors import TasakError
from tasak.failure import kind

# A transport's ping has a bound of its own; this one is for those that forgot.
PING_TIMEOUT = 10.0

# As many of a server's last lines as a diagnosis shows.
SHOWN_LINES = 20

Report = dict[str, Any]

Key = tuple[str, Path | None]
"""An app's name, and the file that defines it."""


def describe_app(app: AppSummary, states: Mapping[Key, str], failed: Collection[Key]) -> Report:
    """One app of the config. `states` are those of its connections, `failed` the apps that fail to connect."""
    return {
        "name": app.name,
        "transport": app.transport,
        "state": state_of(app, states, failed),
        "file": str(app.file) if app.file else None,
        "description": app.description,
        "error": app.error,
    }


def state_of(app: AppSummary, states: Mapping[Key, str], failed: Collection[Key]) -> str:
    if app.error:
        return "broken"
    if app.disabled:
        return "disabled"
    key = (app.name, app.file)
    return states.get(key) or ("backoff" if key in failed else "idle")


def describe(connection: Connection, now: float) -> Report:
    """One connection: what it is, how it is, what it did. Times are seconds ago; no argument or secret is in it."""
    session = connection.session
    problem = connection.sign_in_needed or connection.problem or connection.lost
    return {
        "id": connection.id,
        "app": connection.app.name,
        "transport": connection.transport,
        "state": str(connection.state),
        "file": str(connection.app.file) if connection.app.file else None,
        "directory": str(connection.app.config.directory) if connection.app.config.directory else None,
        "session": connection.app.session,
        "fingerprint": connection.app.fingerprint[:12],
        "restarted": connection.is_restart,
        "age": round(now - connection.opened_at, 3),
        "idle": round(now - connection.used_at, 3) if connection.is_idle else 0.0,
        "in_use": connection.users,
        "calls": connection.calls,
        "pid": session.pid if session else None,
        "era": connection.era if session else None,
        "protocol_version": session.protocol_version if session else None,
        "server_info": dict(session.server_info) if session and session.server_info else None,
        "last_success": ago(connection.succeeded_at, now),
        "last_error": problem.message if problem else None,
        "last_loss": ago(connection.lost_at, now),
    }


def describe_failure(failure: Failure, now: float) -> Report:
    """An app that does not connect, and when it may try again."""
    return {
        "app": failure.app.name,
        "transport": failure.app.transport,
        "state": str(State.BACKOFF),
        "file": str(failure.app.file) if failure.app.file else None,
        "failures": failure.count,
        "next_attempt": round(max(0.0, failure.until - now), 3),
        "last_error": failure.problem.message,
    }


def with_processes(reports: Sequence[Report]) -> list[Report]:
    """The same, with the processes behind each connection. Looking at them takes milliseconds."""
    return [{**report, "processes": tree(report["pid"])} for report in reports]


async def probe(connections: Sequence[Connection], clock: Callable[[], float]) -> list[Report]:
    """Ping each, side by side."""
    return list(await asyncio.gather(*(probe_one(connection, clock) for connection in connections)))


async def probe_one(connection: Connection, clock: Callable[[], float]) -> Report:
    began = time.perf_counter()
    problem: str | None = None
    try:
        async with asyncio.timeout(PING_TIMEOUT) as deadline:
            await connection.ping()
        connection.note_answer()
    except TasakError as failure:
        problem = failure.message
    except Exception as failure:  # noqa: BLE001 - plugin code
        problem = f"no answer within {PING_TIMEOUT:g} s" if deadline.expired() else kind(failure)
    report = describe(connection, clock())
    return {
        **report,
        "ok": problem is None,
        "latency_ms": round((time.perf_counter() - began) * 1000, 3) if problem is None else None,
        "ping_error": problem,
        "stderr": list(connection.last_words()[-SHOWN_LINES:]),
    }


def ago(moment: float | None, now: float) -> float | None:
    return None if moment is None else round(now - moment, 3)
