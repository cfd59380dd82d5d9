"""`tasak daemon …`: start, stop and look at the daemon."""

import os
from collections.abc import Mapping
from typing import Any

import click

from tasak.cli import output
from tasak.cli.asked import Asked, is_set, working_directory
from tasak.cli.daemon_road import DaemonRoad, where
from tasak.cli.log_lines import log_lines
from tasak.cli.options import Command, Seconds, with_json
from tasak.client import client, launcher, start_failures, stopper
from tasak.errors import DaemonAway
from tasak.inert import inert
from tasak.paths import StateDir
from tasak.wire import DRAIN, LOG_LEVELS, LONGEST_DRAIN


def with_log_level(command: Command) -> Command:
    command = click.option("-v", "verbose", is_flag=True, help="The same as --log-level DEBUG.")(command)
    return click.option(
        "--log-level", type=click.Choice(LOG_LEVELS, case_sensitive=False), help="What the daemon logs (default INFO)."
    )(command)


@click.group()
def daemon() -> None:
    """Start, stop and look at the daemon."""


@daemon.command()
@with_log_level
@with_json
@click.pass_obj
def start(asked: Asked, log_level: str | None, verbose: bool) -> int:
    """Start it, and let calls start it again."""
    return started(asked, level(log_level, verbose))


@daemon.command()
@click.option(
    "--drain", type=Seconds(0, LONGEST_DRAIN), metavar="SECONDS", default=DRAIN, help="What running calls get."
)
@with_json
@click.pass_obj
def stop(asked: Asked, drain: float) -> int:
    """Stop it with all its servers, and keep calls from starting it."""
    state = StateDir.of_user()
    with launcher.using(state):
        state.disable()
    with launcher.in_turn(state):
        survivors = stopper.stop(state, drain=drain)
    said = "it did not run" if survivors is None else "stopped"
    if asked.wants_json:
        output.print_json({"stopped": survivors is not None, "survivors": list(survivors or ())})
    else:
        output.print_line(f"{said}; calls go direct until `tasak daemon start`")
    for pid in survivors or ():
        output.say(f"process {pid} survived")
    return 0


@daemon.command()
@with_log_level
@with_json
@click.pass_obj
def restart(asked: Asked, log_level: str | None, verbose: bool) -> int:
    """Stop it and start it again; every session is new."""
    state = StateDir.of_user()
    require_start(state, level(log_level, verbose))
    with launcher.using(state):
        stopper.stop(state)
    return started(asked, level(log_level, verbose))


@daemon.command()
@with_json
@click.pass_obj
def status(asked: Asked) -> int:
    """Say whether it runs, and what is wrong. Exits 0 if it runs, else 4."""
    state = StateDir.of_user()
    found = report(asked, state)
    if asked.wants_json:
        output.print_json(found)
    else:
        for name, value in found.items():
            for each in value if isinstance(value, list) else [value]:
                for line in as_words(each).splitlines():
                    output.print_line(f"{name:<12} {inert(line)}")
    return 0 if found["running"] else DaemonAway.exit_status


@daemon.command()
@click.option("-f", "follow", is_flag=True, help="Go on with what comes.")
@with_json
@click.pass_obj
def logs(_: Asked, follow: bool) -> int:
    """Show the daemon's log: JSON lines."""
    for line in log_lines(StateDir.of_user().log, follow=follow):
        output.print_line(line)
    return 0


@daemon.command()
@with_log_level
@with_json
@click.pass_obj
def run(_: Asked, log_level: str | None, verbose: bool) -> int:
    """Run it in the foreground, for a service manager or to see why it does not start."""
    state = StateDir.of_user()
    if connection := launcher.connect(state):
        connection.close()
        raise DaemonAway("the daemon runs already", fix="tasak daemon stop")
    # Lazy: only the daemon's process pays for the daemon.
    from tasak.daemon import run

    run(state, log_level=level(log_level, verbose), announce=lambda: output.say(f"ready on {state.socket}"))
    return 0


def level(log_level: str | None, verbose: bool) -> str | None:
    return "DEBUG" if verbose else log_level


def require_start(state: StateDir, log_level: str | None) -> None:
    """See that a daemon can be started, as far as can be told before the one that runs is gone with all its sessions.

    Raises:
        BadConfig, DaemonAway: it cannot.
    """
    # Lazy: other commands do without the core.
    from tasak.core.settings import daemon_settings

    daemon_settings(launcher.environment(log_level))
    with launcher.using(state):
        state.enable()
    with launcher.start_lock(state):
        pass


def started(asked: Asked, log_level: str | None) -> int:
    state = StateDir.of_user()
    with launcher.using(state):
        state.enable()
    stopper.let_it_leave(state)
    if connection := launcher.connect(state):
        pid = stopper.listener_pid(connection)
        # One that hangs takes connections, too.
        client.ask(connection, "GET", "/health")
        if log_level:
            output.say("it ran already, and logs what it did: `tasak daemon restart` takes --log-level, too")
    else:
        connection = launcher.start(state, log_level=log_level, is_asked_for=True)
        pid = stopper.listener_pid(connection)
        connection.close()
    if asked.wants_json:
        output.print_json({"running": True, "pid": pid})
    else:
        output.print_line(f"running, process {pid}")
    return 0


def report(asked: Asked, state: StateDir) -> Mapping[str, Any]:
    """What there is to know, whether it runs or not."""
    found: dict[str, Any] = {"running": False, "socket": str(state.socket), "log": str(state.log)}
    try:
        road = DaemonRoad(asked, state, starts=False)
        health = road.ask("GET", "/health")
        found.update(
            running=True, **{name: health[name] for name in ("status", "version", "pid", "uptime", "instance")}
        )
        found["connections"] = health["connections"]
        if health.get("tcp"):
            found["tcp"] = health["tcp"]
        # A daemon of an earlier version does not tell.
        if health.get("tcp_problem"):
            found["tcp_problem"] = health["tcp_problem"]
            found["fix"] = "`tasak doctor` says what is in the way; `tasak daemon restart` tries again"
        found["failing"] = health.get("failing", [])
        found["lost"] = health.get("lost", [])
        about_files = road.ask("GET", f"/apps{where(working_directory(), os.environ)}")["notices"]
        found["notices"] = [*about_files, *health["notices"]]
    except DaemonAway as problem:
        found["problem"] = problem.message
        found["fix"] = problem.fix or "`tasak doctor` says what is wrong"
        if failure := start_failures.last(state):
            found["failed_start"] = failure.said
        found.update(of_the_silent(state))
    if state.is_disabled:
        found["disabled"] = f"calls do not start it: {state.disabled} is there"
    elif is_set("TASAK_NO_DAEMON"):
        found["disabled"] = "calls do not start it: TASAK_NO_DAEMON is set"
    return found


def of_the_silent(state: StateDir) -> Mapping[str, Any]:
    """Which process does not answer, or ended without a word."""
    try:
        connection = launcher.connect(state)
    except DaemonAway:
        return {}
    if connection:
        with connection:
            pid = stopper.listener_pid(connection)
        return {"pid": pid} if pid else {}
    last = state.last_pid()
    if not last or not stopper.is_gone(state):
        return {}
    return {"ended": f"the last one, process {last}, did not stop by itself: killed, or crashed"}


def as_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        when = "" if value.get("last_loss") is None else f" ({value['last_loss']:.1f} s ago)"
        return f"{value['last_error']}{when}"
    return f"{value:.1f} s" if isinstance(value, float) else str(value)
