"""`tasak ping`, `connections`, `metrics` and `plugins`: what there is to see when something is wrong."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import click

from tasak.cli import output
from tasak.cli.asked import Asked
from tasak.cli.daemon_road import DaemonRoad, where
from tasak.cli.options import APP_NAME, with_json
from tasak.client import client
from tasak.errors import NotExecuted, ServerError
from tasak.inert import inert
from tasak.paths import StateDir
from tasak.request import Request
from tasak.wire import JSON, PROMETHEUS

# A deep ping of many connections at once is bounded by the daemon.
PING_TIMEOUT = 120.0


@click.command()
@click.argument("app", type=APP_NAME)
@click.option("--deep", is_flag=True, help="Make a real round trip to the server.")
@click.option("--start", is_flag=True, help="Open a connection if there is none.")
@with_json
@click.pass_obj
def ping(asked: Asked, app: str, deep: bool, start: bool) -> int:
    """Say how an app's connections are. Exits 0 if they are well, else 4."""
    # What stands here is an app, whatever our own words are.
    asked.is_exact = True
    request = asked.request(app)
    road = DaemonRoad(asked, StateDir.of_user(), starts=start)
    # One that hangs does not answer this either, and is waited for much shorter than a server.
    road.ask("GET", "/health")
    if start and not is_connected(pinged(road, request, deep=False)):
        connect(road, request)
    found = pinged(road, request, deep=deep)
    if asked.wants_json:
        output.print_json(found)
    else:
        print_ping(found)
    return 0 if found.get("ok") else NotExecuted.exit_status


@click.command()
@with_json
@click.pass_obj
def connections(asked: Asked) -> int:
    """List the daemon's connections."""
    found = DaemonRoad(asked, StateDir.of_user(), starts=False).ask("GET", "/connections")
    if asked.wants_json:
        output.print_json(found)
        return 0
    headings = ("id", "app", "transport", "state", "age", "idle", "calls", "pid", "memory", "last error", "of")
    rows = [
        (
            text(each.get("id")),
            each["app"],
            each["transport"],
            each["state"],
            duration(each.get("age")),
            duration(each.get("idle")),
            text(each.get("calls")),
            text(each.get("pid")),
            memory(each.get("processes") or []),
            last_error(each).partition("\n")[0],
            origin(each),
        )
        for each in found["connections"]
    ]
    output.print_table(headings, rows)
    return 0


@click.command()
@with_json
@click.pass_obj
def metrics(asked: Asked) -> int:
    """Show what the daemon has counted: Prometheus text, or with --json the same as JSON."""
    road = DaemonRoad(asked, StateDir.of_user(), starts=False)
    status, content = client.ask(road.connect(), "GET", "/metrics", accept=JSON if asked.wants_json else PROMETHEUS)
    if status != 200:
        raise client.reported(content)
    if asked.wants_json:
        output.print_json(json.loads(content))
    else:
        output.write_all(output.STDOUT, content)
    return 0


@click.command()
@with_json
@click.pass_obj
def plugins(asked: Asked) -> int:
    """List the transports that are installed, and what is wrong with those that are broken."""
    # Lazy: loads every plugin.
    from tasak.core.app_options import options_of
    from tasak.transports.registry import Registry

    names = ("name", "version", "file", "state", "reason")
    troubles = of_the_daemon(asked)
    found = [
        replace(each, state="failing", reason=troubles[each.name])
        if each.state == "ok" and each.name in troubles
        else each
        for each in Registry().listing(options_of)
    ]
    if asked.wants_json:
        output.print_json({"plugins": [{name: getattr(each, name) for name in names} for each in found]})
    else:
        output.print_table(names, [tuple(text(getattr(each, name)) for name in names) for each in found])
    return 0


def pinged(road: DaemonRoad, request: Request, *, deep: bool) -> Mapping[str, Any]:
    query = where(request.cwd, request.env, deep=word(deep))
    path = f"/apps/{client.as_segment(request.app)}/ping{query}"
    found: Mapping[str, Any] = road.ask("GET", path, accepted=(200, 503), timeout=PING_TIMEOUT)
    return found


def is_connected(found: Mapping[str, Any]) -> bool:
    """Whether there is a connection, and not the failure of one alone."""
    return any("id" in each for each in found["connections"])


def connect(road: DaemonRoad, request: Request) -> None:
    """Have the app's tools listed, which opens a connection with all that the caller's environment says of it."""
    with suppress(ServerError):  # it is connected, then
        output.notices(road.list_tools(request)["notices"])


def of_the_daemon(asked: Asked) -> Mapping[str, str]:
    """What transports that load did wrong in the daemon, if one runs."""
    try:
        health = DaemonRoad(asked, StateDir.of_user(), starts=False).ask("GET", "/health")
    except NotExecuted:
        return {}
    troubles: Mapping[str, str] = health["transports"]
    return troubles


def print_ping(found: Mapping[str, Any]) -> None:
    verdict = "ok" if found["ok"] else "not ok" if found["connections"] else "not connected"
    output.print_line(f"{found['app']}: {verdict}")
    if not found["connections"]:
        output.print_line(f"  the next call connects it, or `tasak ping --start {found['app']}` now")
    for each in found["connections"]:
        known = (
            each.get("id"),
            each["state"],
            f"process {each['pid']}" if each.get("pid") else None,
            f"answered in {each['latency_ms']:g} ms" if each.get("latency_ms") is not None else None,
            each.get("ping_error"),
            last_error(each) if each.get("last_error") else None,
        )
        output.print_line(inert(f"  {', '.join(part for part in known if part)}"))


def word(truth: bool) -> str:
    return "true" if truth else "false"


def text(value: Any) -> str:
    return "-" if value is None else str(value)


def duration(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"


def origin(found: Mapping[str, Any]) -> str:
    """What tells connections of one app apart: the file that defines it, and the caller's session."""
    file = text(found.get("file"))
    return f"{file} ({found['session']})" if found.get("session") else file


def last_error(found: Mapping[str, Any]) -> str:
    """With the first line, of a call that was lost, how long ago that was."""
    line, newline, rest = text(found.get("last_error")).partition("\n")
    when = "" if found.get("last_loss") is None else f" ({duration(found['last_loss'])} ago)"
    return f"{line}{when}{newline}{rest}"


def memory(processes: list[Mapping[str, Any]]) -> str:
    return f"{sum(each['rss'] for each in processes) / (1 << 20):.0f} MiB" if processes else "-"
