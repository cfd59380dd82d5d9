"""`tasak lock`: the user accepts an app's tools as they are, or has them held against what was accepted."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from tasak.cli import output
from tasak.cli.asked import Asked
from tasak.cli.options import APP_NAME, with_json
from tasak.errors import BadArguments, BadConfig, TasakError, ToolChanged
from tasak.paths import StateDir

if TYPE_CHECKING:
    from tasak.cli.direct import Direct
    from tasak.core.gateway import Gateway
    from tasak.core.tool_lock import LockReport

Failure: TypeAlias = tuple[str | None, TasakError]
"""An app that could not be looked at, and why; or none, where a file says nothing."""


@click.command()
@click.argument("app", type=APP_NAME, required=False)
@click.option("--check", "only_check", is_flag=True, help="Accept nothing; exit 8 if something differs.")
@with_json
@click.pass_obj
def lock(asked: Asked, app: str | None, only_check: bool) -> int:
    """Accept an app's tools as its server describes them now.

    With --check see whether they are what was accepted: those of one app, or of every app that has a lock.
    """
    if only_check:
        return check(asked, app)
    if app is None:
        raise BadArguments("it takes the name of an app", fix="`tasak lock --check` looks at every one that is locked")
    request = asked.request(app)
    report = direct(asked).run(lambda gateway: gateway.lock(request, only_check=False))
    if asked.wants_json:
        output.print_json(as_json(report))
    else:
        print_difference(report)
        output.print_line(f"{report.app}: {report.tools} tools are locked in {report.file}")
    return 0


def check(asked: Asked, app: str | None) -> int:
    """Hold the tools against the locks; the exit status."""

    async def checked(gateway: "Gateway") -> "tuple[list[LockReport], list[Failure]]":
        reports: list[LockReport] = []
        names, failures = ([app], []) if app else locked_apps(gateway, asked)
        for name in names:
            try:
                reports.append(await gateway.lock(asked.request(name), only_check=True))
            except TasakError as problem:
                failures.append((name, problem))
        return reports, failures

    reports, failures = direct(asked).run(checked)
    if app and failures:
        raise failures[0][1]
    if asked.wants_json:
        problems = [{"app": name, **problem.as_json()} for name, problem in failures]
        output.print_json({"apps": [*map(as_json, reports), *problems]})
    else:
        show(reports)
        for _, problem in failures:
            output.print_error(problem, wants_json=False)
    if any(report.changes for report in reports):
        return ToolChanged.exit_status
    return max((problem.exit_status for _, problem in failures), default=0)


def locked_apps(gateway: "Gateway", asked: Asked) -> tuple[Sequence[str], list[Failure]]:
    """Their names, and what is wrong with the files in which there may be more of them.

    Raises:
        BadConfig: there is none; whoever wants a check must not take that for a good end.
    """
    request = asked.request("")
    config = gateway.config(request.cwd, request.env)
    names = [app.name for app in config.apps() if not app.disabled and gateway.locks.has_lock(app.name, app.file)]
    problems = config.problems()
    if not names:
        raise [*problems, BadConfig("no app that is configured here has a lock", fix="`tasak lock APP` makes one")][0]
    return names, [(None, problem) for problem in problems]


def show(reports: "Sequence[LockReport]") -> None:
    for report in reports:
        print_difference(report)
        verdict = "are not what is locked" if report.changes else "are as they are locked"
        output.print_line(f"{report.app}: its tools {verdict} in {report.file}")


def print_difference(report: "LockReport") -> None:
    for line in report.difference:
        output.print_line(line)


def as_json(report: "LockReport") -> dict[str, Any]:
    return {
        "app": report.app,
        "file": os.fspath(report.file),
        "tools": report.tools,
        "changed": list(report.changes.changed),
        "new": list(report.changes.new),
        "removed": list(report.changes.removed),
        "difference": list(report.difference),
    }


def direct(asked: Asked) -> "Direct":
    # Lazy: the whole core, which other commands do without.
    from tasak.cli.direct import Direct

    return Direct(StateDir.of_user(), debug=asked.debug)
