"""`tasak doctor`: everything that is wrong here, a line each, with what mends it."""

import dataclasses
import os
import socket
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from tasak.cli import output
from tasak.cli.asked import Asked, working_directory
from tasak.cli.daemon_road import refuse_what_others_can_change
from tasak.cli.options import with_json
from tasak.client import client, launcher, stopper
from tasak.errors import BadConfig, DaemonAway
from tasak.paths import StateDir

if TYPE_CHECKING:
    from tasak.core.doctor.finding import Finding
    from tasak.core.gateway import Gateway


@click.command()
@with_json
@click.pass_obj
def doctor(asked: Asked) -> int:
    """Look for what is wrong: files, config, packages, programs, plugins, the port. Exits 0 if nothing is, else 2.

    Starts nothing, and asks no server anything.
    """
    # Lazy: the whole core.
    from tasak.cli.direct import Direct

    state = StateDir.of_user()

    async def examined(gateway: "Gateway") -> "list[Finding]":
        return list(dict.fromkeys(findings(state, gateway)))

    found = Direct(state).run(examined)
    if asked.wants_json:
        output.print_json({"findings": [dataclasses.asdict(each) for each in found]})
    elif found:
        output.print_table(("check", "what is wrong", "what to do"), [(f.check, f.what, f.fix) for f in found])
    else:
        output.print_line("nothing is wrong")
    return BadConfig.exit_status if found else 0


def findings(state: StateDir, gateway: "Gateway") -> "Iterator[Finding]":
    from tasak.core.doctor import apps, daemon, files, installation
    from tasak.core.doctor.finding import Finding

    cwd, env, home = working_directory(), os.environ, state.root.parent
    yield from installation.of_versions()
    yield from files.of_state(state)
    yield from files.of_tokens(home)
    yield from files.of_configs(state, home, cwd, env)
    try:
        yield from apps.findings(gateway.config(cwd, env), env.get("PATH", os.defpath))
    except BadConfig as problem:
        yield Finding.of("config", problem)
    yield from installation.of_plugins(gateway.registry)
    health: Mapping[str, Any] | None = None
    try:
        refuse_what_others_can_change(state)
        connection = launcher.connect(state)
    except DaemonAway as problem:
        yield Finding.of("daemon", problem)
        connection = None
    pid = stopper.listener_pid(connection) if connection else None
    try:
        health = health_of(connection) if connection else None
    except DaemonAway as problem:
        what = f"the daemon that runs{f', process {pid},' if pid else ''} does not answer: {problem.message}"
        yield Finding("daemon", what, "tasak daemon restart")
    yield from daemon.findings(health, state) if health else daemon.of_start(state)
    yield from daemon.of_port(env, health, pid)


def health_of(connection: socket.socket) -> Mapping[str, Any]:
    """What a daemon that runs says of itself.

    Raises:
        DaemonAway: it does not answer, or with something else.
    """
    _, content = client.ask(connection, "GET", "/health")
    return client.object_in(content)
