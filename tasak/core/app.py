"""One app for one caller: its definition with the caller's values filled in, ready to be connected to."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasak.core import app_command
from tasak.core.app_definition import CommonKeys, ToolRule
from tasak.core.app_options import TransportOptions
from tasak.core.digest import digest
from tasak.core.interpolation import fill, fill_all
from tasak.core.settings import Limits
from tasak.errors import ConnectFailed
from tasak.plugin import AppConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose call it is. `cwd` is None where the caller has no working directory."""

    cwd: Path | None
    env: Mapping[str, str]
    home: Path

    @property
    def path(self) -> str:
        return self.env.get("PATH", os.defpath)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One app as a file says it, checked; nobody's values are in it."""

    name: str
    file: Path | None
    """None for an app that exists without any file."""
    folder: Path
    transport: str
    raw: Mapping[str, Any]
    common: CommonKeys
    options: TransportOptions
    where: str
    """What to call it in a message."""
    notices: tuple[str, ...]
    digest: str
    """Changes with what the file says of it, and with nothing of the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """All that connection and call need to know of an app."""

    config: AppConfig
    transport: str
    file: Path | None
    description: str | None
    limits: Limits
    allow: tuple[str, ...] | None
    """Globs; None allows every tool, an empty tuple none."""
    deny: tuple[str, ...]
    tools: Mapping[str, ToolRule]
    session: str | None
    definition: str
    """Changes when the file's text does."""
    fingerprint: str
    """Changes with everything that shapes a session: who has the same may share one."""
    notices: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.config.name


def resolve(
    definition: Definition, caller: Caller, *, session: str | None, limits: Limits, notices: tuple[str, ...]
) -> App:
    """Fill in the caller's values. `notices` are those about other files than the app's own.

    Raises:
        BadConfig: a variable is unset, or an option is not what the transport takes.
        ConnectFailed: the app's directory or its program is not there.
    """
    directory = _directory(definition, caller)
    options = _options(definition, caller, directory)
    config = AppConfig(name=definition.name, options=options, directory=directory, path=caller.path)
    return App(
        config=config,
        transport=definition.transport,
        file=definition.file,
        description=definition.common.description,
        limits=limits,
        allow=definition.common.allow,
        deny=definition.common.deny,
        tools=definition.common.tools,
        session=session,
        definition=definition.digest,
        fingerprint=digest(definition.digest, options, str(directory), session),
        notices=(*notices, *definition.notices),
    )


def _directory(definition: Definition, caller: Caller) -> Path | None:
    if "url" in definition.raw:
        return None
    cwd = definition.common.cwd
    if cwd == "caller":
        directory = caller.cwd or caller.home
    else:
        directory = definition.folder / _expanded(fill(cwd or "", caller.env, definition.where), caller.home)
    if not os.path.isdir(directory):
        raise ConnectFailed(
            f"{definition.where}: its directory {directory} is not there", fix="make it, or mend `cwd:`"
        )
    return directory


def _options(definition: Definition, caller: Caller, directory: Path | None) -> dict[str, Any]:
    raw = {key: value for key, value in definition.raw.items() if key in definition.options.names}
    commands = definition.options.commands.intersection(raw)
    # Words are split before values are filled in: the schema sees a command as the file has it.
    as_written = commands | {"args"} if "command" in commands else commands
    filled = {
        key: value if key in as_written else fill_all(value, caller.env, definition.where) for key, value in raw.items()
    }
    definition.options.check(filled, definition.where)
    for key in sorted(commands):
        args = filled.pop("args", None) if key == "command" else None
        filled[key] = _words(raw[key], args, definition, caller, directory)
    return filled


def _words(command: Any, args: Any, definition: Definition, caller: Caller, directory: Path | None) -> tuple[str, ...]:
    where = definition.where
    words = [fill(word, caller.env, where) for word in app_command.split(command, args, where)]
    # `./server` with `cwd: caller` is the config's program, not whatever lies in the caller's folder.
    found = app_command.program(
        str(_expanded(words[0], caller.home)),
        folder=definition.folder if directory is None or definition.common.cwd == "caller" else directory,
        path=caller.path,
        caller_cwd=caller.cwd,
        where=where,
    )
    return found, *words[1:]


def _expanded(text: str, home: Path) -> str:
    return f"{home}{text[1:]}" if text == "~" or text.startswith("~/") else text
