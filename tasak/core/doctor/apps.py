"""The configured apps: whether a call of each would get as far as its server."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasak.auth import options
from tasak.core import app_command
from tasak.core.app import App, Definition
from tasak.core.config import Config
from tasak.core.doctor import packages
from tasak.core.doctor.finding import Finding
from tasak.core.keyring import Unread
from tasak.errors import BadConfig, TasakError


def findings(config: Config, path: str) -> Iterator[Finding]:
    """What is wrong with the apps that are not disabled, for a caller who has that PATH."""
    for each in config.apps():
        if not each.disabled:
            yield from of_app(config, each.name, path)


def of_app(config: Config, name: str, path: str) -> Iterator[Finding]:
    try:
        definition = config.definition(name)
        commands = [*commands_of(definition)]
    except TasakError as problem:
        yield Finding.of("app", problem)
        return
    for command in commands:
        yield from packages.findings(command, definition.where)
    try:
        read_secrets(config.resolve(name), definition)
    except Unread:
        pass  # a keyring may ask its user: only a call may
    except TasakError as problem:
        yield Finding.of("app", problem)
        return
    yield from of_programs(commands, definition, path)


def read_secrets(app: App, definition: Definition) -> None:
    """Read the files with the token or the key that the app signs in with, as a call would, and forget them.

    Raises:
        BadConfig: one is not there, or is open to others.
    """
    if definition.transport not in ("http", "sse") or not app.config.options.get("auth"):
        return
    try:
        match options.parse(app.config.options["auth"]):
            case options.Bearer(token=read):
                read()
            case options.ClientCredentials(private_key=read) if read is not None:
                read()
    except BadConfig as problem:
        raise BadConfig(f"{definition.where}: {problem.message}", fix=problem.fix) from problem


def commands_of(definition: Definition) -> Iterator[Sequence[str]]:
    """The commands that it runs, as they are written.

    Raises:
        BadConfig: one of them is none.
    """
    raw = definition.raw
    for key in sorted(definition.options.commands & raw.keys()):
        args = raw.get("args") if key == "command" else None
        yield app_command.split(raw[key], args, definition.where)
    if definition.transport == "mcp-remote":
        yield ["npx", "-y", str(raw.get("package") or packages.pinned_mcp_remote().split()[-1])]
    if definition.transport == "curated":
        yield from ([*map(str, step["command"])] for step in steps_of(raw) if is_command(step.get("command")))


def steps_of(raw: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    tools = raw.get("tools")
    for tool in tools.values() if isinstance(tools, Mapping) else ():
        steps = tool.get("steps") if isinstance(tool, Mapping) else None
        yield from (step for step in steps or () if isinstance(step, Mapping))


def is_command(words: object) -> bool:
    return isinstance(words, list) and bool(words) and all(isinstance(word, str | int | float) for word in words)


def of_programs(commands: Sequence[Sequence[str]], definition: Definition, path: str) -> Iterator[Finding]:
    """Programs that are only looked for when they are run; the others, resolving has found."""
    wanted = {command[0] for command in commands if definition.transport != "stdio"}
    if any(packages.needs_node(command) for command in commands):
        wanted.add("node")
    for program in sorted(wanted):
        if "/" not in program and "${" not in program and not shutil.which(program, path=path):
            needs = "Node.js 18 or newer (https://nodejs.org)" if program in ("node", "npx") else "it"
            yield Finding(
                "app", f"{definition.where}: there is no program {program!r} on PATH", f"install {needs}, or mend PATH"
            )
