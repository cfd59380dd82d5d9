"""One app for one caller: its definition with the caller's values filled in, ready to be connected to."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tasak.core import app_command
from tasak.core.app_definition import CommonKeys, OnToolChange, ToolRule
from tasak.core.app_options import TransportOptions
from tasak.core.digest import digest
from tasak.core.era import Spoken
from tasak.core.interpolation import fill, fill_all, fill_template
from tasak.core.keyring import Keyring
from tasak.core.settings import Limits
from tasak.core.sources import Look, Sources
from tasak.errors import ConnectFailed
from tasak.plugin import AppConfig

Standing = Literal["own", "trusted", "changed", "unknown"]
"""Of the file that defines an app: the user's own, trusted as it is, trusted as it was, or never trusted."""

# These have the user's word.
VOUCHED_FOR = ("own", "trusted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose call it is. `cwd` is None where the caller has no working directory."""

    cwd: Path | None
    env: Mapping[str, str] = field(repr=False)
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
    raw: Mapping[str, Any] = field(repr=False)
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
    protocol: Spoken
    limits: Limits
    allow: tuple[str, ...] | None
    """Globs; None allows every tool, an empty tuple none."""
    deny: tuple[str, ...]
    tools: Mapping[str, ToolRule]
    on_tool_change: OnToolChange
    session: str | None
    source: Definition = field(repr=False)
    """What its values were filled into."""
    definition: str
    """Changes when the file's text does."""
    fingerprint: str
    """Changes with everything that shapes a session: who has the same may share one."""
    notices: tuple[str, ...]
    standing: Standing = "unknown"
    trusted: bool = False
    """What its server says of its tools is believed."""
    parts: "Mapping[str, App]" = field(default_factory=dict)
    """The apps that it calls in its turn, as they are for the same caller."""
    looks: Mapping[str, Look] = field(default_factory=dict)
    """The files that its values come from, and how each looked when it was read."""
    uses_keyring: bool = False
    """Some of its values come from there, and nobody tells when they change."""

    @property
    def name(self) -> str:
        return self.config.name

    def whole(self) -> "Iterator[App]":
        """It, and all that it is made of."""
        yield self
        for part in self.parts.values():
            yield from part.whole()


def is_same(some: App, other: App | Definition) -> bool:
    """Whether the same file defines both: another project's app may have the same name."""
    return (some.name, some.file) == (other.name, other.file)


def composed(whole: App, parts: Mapping[str, App]) -> App:
    """The app with its parts: what shapes their sessions shapes it, too."""
    if not parts:
        return whole
    return replace(
        whole,
        parts=parts,
        fingerprint=digest(whole.fingerprint, *(part.fingerprint for part in parts.values())),
        notices=(*whole.notices, *(notice for part in parts.values() for notice in part.notices)),
    )


def with_timeout(app: App, seconds: float) -> App:
    """The same app for a call that may be silent for so long."""
    return replace(
        app,
        limits=replace(app.limits, call_timeout=seconds, call_timeout_max=max(seconds, app.limits.call_timeout_max)),
    )


def resolve(
    definition: Definition,
    caller: Caller,
    *,
    session: str | None,
    limits: Limits,
    notices: tuple[str, ...],
    standing: Standing,
    keyring: Keyring,
) -> App:
    """Fill in the caller's values. `notices` are those about other files than the app's own.

    Raises:
        BadConfig: a variable is unset, or an option is not what the transport takes.
        Unread: an entry of the keyring has to be read first.
        ConnectFailed: the app's directory or its program is not there.
    """
    folder = definition.file.parent if definition.file else definition.folder
    sources = Sources(env=caller.env, folder=folder, home=caller.home, keyring=keyring)
    directory = _directory(definition, caller, sources)
    # `./server` with `cwd: caller` is the config's program, not whatever lies in the caller's folder.
    programs = definition.folder if definition.common.cwd == "caller" else directory
    options = _options(definition, caller, programs or definition.folder, sources)
    config = AppConfig(
        name=definition.name,
        options=options,
        directory=directory,
        path=caller.path,
        program_folder=programs if directory else None,
    )
    return App(
        config=config,
        transport=definition.transport,
        file=definition.file,
        description=definition.common.description,
        protocol=definition.common.protocol,
        limits=limits,
        allow=definition.common.allow,
        deny=definition.common.deny,
        tools=definition.common.tools,
        on_tool_change=definition.common.on_tool_change,
        session=session,
        source=definition,
        definition=definition.digest,
        fingerprint=digest(definition.digest, options, str(directory), session),
        notices=(*notices, *definition.notices),
        standing=standing,
        trusted=definition.common.trusted,
        looks=sources.looks,
        uses_keyring=bool(sources.entries),
    )


def _directory(definition: Definition, caller: Caller, sources: Sources) -> Path | None:
    if "url" in definition.raw:
        return None
    cwd = definition.common.cwd
    if cwd == "caller":
        directory = caller.cwd or caller.home
    else:
        directory = definition.folder / _expanded(fill(cwd or "", sources, definition.where), caller.home)
    if not os.path.isdir(directory):
        raise ConnectFailed(
            f"{definition.where}: its directory {directory} is not there", fix="make it, or mend `cwd:`"
        )
    return directory


def _options(definition: Definition, caller: Caller, programs: Path, sources: Sources) -> dict[str, Any]:
    raw = {key: value for key, value in definition.raw.items() if key in definition.options.names}
    commands = definition.options.commands.intersection(raw)
    # Words are split before values are filled in: the schema sees a command as the file has it.
    as_written = commands | {"args"} if "command" in commands else commands
    templates = definition.options.templates
    filled = {
        key: value
        if key in as_written
        else fill_all(value, sources, definition.where, fill=fill_template if key in templates else fill)
        for key, value in raw.items()
    }
    definition.options.check(filled, definition.where)
    for key in sorted(commands):
        args = filled.pop("args", None) if key == "command" else None
        filled[key] = _words(raw[key], args, definition, caller, programs, sources)
    return filled


def _words(
    command: Any, args: Any, definition: Definition, caller: Caller, programs: Path, sources: Sources
) -> tuple[str, ...]:
    where = definition.where
    words = [fill(word, sources, where) for word in app_command.split(command, args, where)]
    found = app_command.program(
        str(_expanded(words[0], caller.home)),
        folder=programs,
        path=caller.path,
        caller_cwd=caller.cwd,
        where=where,
    )
    return found, *words[1:]


def _expanded(text: str, home: Path) -> str:
    return f"{home}{text[1:]}" if text == "~" or text.startswith("~/") else text
