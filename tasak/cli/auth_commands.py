"""`tasak auth …`: signing in to the servers of apps. In this process: the browser and the terminal are the user's."""

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tasak.cli import output
from tasak.cli.asked import Asked
from tasak.cli.daemon_road import DaemonRoad
from tasak.cli.options import APP_NAME, with_json
from tasak.errors import NotExecuted, TasakError
from tasak.paths import StateDir

if TYPE_CHECKING:
    from tasak.cli.direct import Direct
    from tasak.core.gateway import Gateway
    from tasak.plugin import SignIn

# A session is given 9 s to end.
END_TIMEOUT = 10.0


@click.group()
def auth() -> None:
    """Sign in to the servers of your apps, and out."""


@auth.command()
@click.argument("app", type=APP_NAME)
@click.option("--no-browser", is_flag=True, help="Print the address, and take the callback's from stdin.")
@with_json
@click.pass_obj
def login(asked: Asked, app: str, no_browser: bool) -> int:
    """Sign in to an app's server, in the browser."""
    request = asked.request(app)
    road = direct(asked)
    road.run(lambda gateway: gateway.require_login(request))
    # A session that waits for the sign-in holds the place where its answer would come. One that serves calls is kept
    # until there is something better: this may come to nothing.
    let_go(asked, app, only_waiting=True)
    # What a transport has to tell the user, such as where to sign in.
    logging.getLogger(f"tasak.apps.{app}").setLevel(logging.WARNING)
    road.run(lambda gateway: gateway.login(request, opens_browser=not no_browser))
    let_go(asked, app)
    if asked.wants_json:
        output.print_json({"app": app, "signed_in": True})
    else:
        output.print_line(f"{app}: signed in")
    return 0


@auth.command()
@click.argument("app", type=APP_NAME, required=False)
@with_json
@click.pass_obj
def status(asked: Asked, app: str | None) -> int:
    """Say where the user is signed in."""

    async def found(gateway: "Gateway") -> list[Mapping[str, Any]]:
        names = [app] if app else with_sign_in(gateway, asked)
        return [await known(gateway, asked, name, is_asked_for=app is not None) for name in names]

    reports = direct(asked).run(found)
    if asked.wants_json:
        output.print_json({"apps": reports})
    elif not reports:
        output.say("no app that is configured here has a sign-in")
    else:
        output.print_table(("app", "signed in", "at", "scopes", "ends in", "problem"), [row(each) for each in reports])
    return 0


@auth.command()
@click.argument("app", type=APP_NAME)
@with_json
@click.pass_obj
def logout(asked: Asked, app: str) -> int:
    """Forget an app's sign-in."""
    request = asked.request(app)
    was_signed_in = direct(asked).run(lambda gateway: gateway.logout(request))
    let_go(asked, app)
    if asked.wants_json:
        output.print_json({"app": app, "was_signed_in": was_signed_in})
    else:
        output.print_line(f"{app}: signed out" if was_signed_in else f"{app}: nobody was signed in")
    return 0


def let_go(asked: Asked, app: str, *, only_waiting: bool = False) -> None:
    """Have the daemon, if one runs, end its sessions of the app: they are of before.

    Whichever file defines it: who signs in or out does so for its URL, in every project.
    """
    road = DaemonRoad(asked, StateDir.of_user(), starts=False)
    try:
        found = road.ask("GET", "/connections")["connections"]
        for each in found:
            if each["app"] == app and "id" in each and not (only_waiting and each["state"] == "ready"):
                road.ask("DELETE", f"/connections/{each['id']}", accepted=(200, 404), timeout=END_TIMEOUT)
    except NotExecuted:
        return


def direct(asked: Asked) -> "Direct":
    # Lazy: the whole core, which other commands do without.
    from tasak.cli.direct import Direct

    return Direct(StateDir.of_user(), debug=asked.debug, open_sign_in=open_sign_in)


def open_sign_in(app: str, folder: Path) -> "SignIn":
    # Lazy: half of the MCP SDK.
    from tasak.auth.sign_in import AppSignIn
    from tasak.core.settings import daemon_settings

    own_port = daemon_settings(os.environ).port
    return AppSignIn(app, folder, say=output.say, ask=entered, own_port=own_port)


def entered() -> str:
    """A line of the user's; nothing where stdin is closed, or at its end."""
    return sys.stdin.readline() if sys.stdin else ""


def with_sign_in(gateway: "Gateway", asked: Asked) -> list[str]:
    """The apps whose transport may ask for a sign-in; what is wrong with the files is told."""
    request = asked.request("")
    apps, notices = gateway.apps(request.cwd, request.env)
    output.notices(notices)
    return [app.name for app in apps if app.transport and not app.disabled and has_login(gateway, app.transport)]


def has_login(gateway: "Gateway", transport: str) -> bool:
    try:
        return gateway.registry.transport(transport).has_login
    except TasakError:
        return False


async def known(gateway: "Gateway", asked: Asked, app: str, *, is_asked_for: bool) -> Mapping[str, Any]:
    try:
        return await gateway.login_status(asked.request(app))
    except TasakError as problem:
        if is_asked_for:
            raise
        return {"app": app, "signed_in": False, "problem": problem.message}


def row(report: Mapping[str, Any]) -> tuple[str, ...]:
    ends = report.get("expires_in")
    return (
        str(report["app"]),
        "yes" if report.get("signed_in") else "no",
        str(report.get("issuer") or "-"),
        " ".join(report.get("scopes") or ()) or "-",
        "-" if ends is None else f"{ends:.0f} s",
        str(report.get("problem") or "-"),
    )
