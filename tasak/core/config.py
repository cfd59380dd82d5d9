"""The configuration: which files count for a caller, what they say together, and one app of them.

Nothing else reads the environment or a config file. Definitions come from files, never from a request.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tasak.core import app, settings
from tasak.core.app import App, Caller, Definition
from tasak.core.app_command import folders_of_path
from tasak.core.app_definition import check_keys, common_keys, transport_of
from tasak.core.app_options import TransportOptions
from tasak.core.config_file import BrokenFile, ConfigFile, FileReader, SkippedFile
from tasak.core.config_text import Parse, parse
from tasak.core.config_walk import Walk
from tasak.core.digest import digest
from tasak.core.nearest import nearest
from tasak.core.resolved import ResolvedApps, looks_of
from tasak.errors import BadArguments, BadConfig, Denied, UnknownApp
from tasak.wire import RESERVED

__all__ = ["App", "AppSummary", "Config", "Loader"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE = "a name has up to 64 letters, digits, dots, dashes and underscores, a letter or digit first"

SchemaOf: TypeAlias = Callable[[str], Mapping[str, Any]]
Source: TypeAlias = ConfigFile | BrokenFile


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSummary:
    """One line of `tasak list`. `transport` is None where the config does not say it."""

    name: str
    transport: str | None
    file: Path | None
    description: str | None
    disabled: bool
    error: str | None


class Loader:
    """Lives as long as the daemon: keeps what it parsed while the files stay as they are.

    `schema_of` gives the JSON Schema of a transport's options, `builtins` are apps that exist without any file.
    """

    def __init__(
        self,
        *,
        state_config: Path,
        home: Path,
        schema_of: SchemaOf,
        builtins: Mapping[str, Mapping[str, Any]],
        daemon_env: Mapping[str, str],
        parse: Parse = parse,
    ) -> None:
        self._walk = Walk(state_config=state_config, home=home, reader=FileReader(parse))
        self._home = home
        self._schema_of = schema_of
        self._builtins = ConfigFile(path=None, folder=home, apps=builtins, settings={})
        self._daemon_env = daemon_env
        self._options: dict[str, TransportOptions] = {}
        self._resolved = ResolvedApps()

    def resolve(
        self,
        name: str,
        *,
        cwd: Path | None,
        env: Mapping[str, str],
        session: str | None = None,
        timeout: float | None = None,
    ) -> App:
        """The app `name` for a caller, as `Config.resolve` says; not made anew while all looks the same."""
        key = (name, cwd, session, timeout)
        if found := self._resolved.find(key, env):
            return found
        caller = Caller(cwd=cwd, env=env, home=self._home)
        files = self._walk.candidates(cwd, env.get(settings.CONFIG_VARIABLE))
        folders = folders_of_path(caller.path, cwd)
        looks = looks_of([*files, *folders])
        app = self.load(cwd, env).resolve(name, session=session, timeout=timeout)
        paths = [*files, *folders[: searched(app, folders)]]
        self._resolved.keep(key, env, paths, looks[: len(paths)], app)
        return app

    def load(self, cwd: Path | None, env: Mapping[str, str]) -> "Config":
        """The config for a caller in `cwd` with the environment `env`.

        Raises:
            BadConfig: the file that `TASAK_CONFIG` names is not there, or `cwd` is relative.
        """
        sources: list[Source] = []
        notices: list[str] = []
        for found in self._walk.files(cwd, env.get(settings.CONFIG_VARIABLE)):
            notices += self._about(found)
            if not isinstance(found, SkippedFile):
                sources.append(found)
            if isinstance(found, ConfigFile) and found.is_isolating:
                break
        return Config(
            sources=(*sources, self._builtins),
            notices=tuple(notices),
            caller=Caller(cwd=cwd, env=env, home=self._home),
            daemon_env=self._daemon_env,
            options_of=self.options_of,
        )

    def _about(self, found: Source | SkippedFile) -> Iterator[str]:
        match found:
            case SkippedFile():
                yield found.notice
            case BrokenFile():
                yield passed_over(found)
            case ConfigFile():
                if settings.MAX_CONNECTIONS.name in found.settings and found.path != self._walk.state_config:
                    yield f"{found.path}: 'max_connections' counts only in {self._walk.state_config}"
                yield from (reserved(name, found) for name in found.apps if name in RESERVED)

    def max_connections(self) -> int:
        """How many connections the whole daemon may hold: the user's own file says it, or nobody."""
        own = self._walk.own()
        knob = settings.MAX_CONNECTIONS
        chosen: Any = own.settings.get(knob.name, knob.default) if isinstance(own, ConfigFile) else knob.default
        return int(chosen)

    def options_of(self, transport: str) -> TransportOptions:
        """What the transport takes.

        Raises:
            BadConfig: there is no such transport.
            BrokenTransport: its plugin does not load, or its schema is none.
        """
        if transport not in self._options:
            self._options[transport] = TransportOptions(transport, self._schema_of(transport))
        return self._options[transport]


class Config:
    """All files together, as one caller sees them. Nothing of it changes with the files."""

    def __init__(
        self,
        *,
        sources: tuple[Source, ...],
        notices: tuple[str, ...],
        caller: Caller,
        daemon_env: Mapping[str, str],
        options_of: Callable[[str], TransportOptions],
    ) -> None:
        self.notices = notices
        """What is wrong with the files, a sentence each."""
        self._sources = sources
        self._caller = caller
        self._daemon_env = daemon_env
        self._options_of = options_of

    def apps(self) -> list[AppSummary]:
        """Every app, by name; nobody's values are needed for it, and no plugin is loaded."""
        defining: dict[str, ConfigFile] = {}
        for file in self._sources:
            if isinstance(file, ConfigFile):
                defining = {**dict.fromkeys(file.apps, file), **defining}
        return [summary(name, defining[name]) for name in sorted(defining)]

    def resolve(self, name: str, *, session: str | None = None, timeout: float | None = None) -> App:
        """The app `name`, ready for this caller. `session` and `timeout` (seconds) are the caller's own flags.

        Raises:
            UnknownApp: no file defines it.
            BadConfig: its definition is wrong, a variable that it uses is unset, or the file that may define it is
                broken.
            BadArguments: a flag is malformed.
            Denied: it is disabled.
            BrokenTransport, ConnectFailed: its plugin, its directory or its program is not there.
        """
        file, notices = self._find(name)
        definition = file.definitions.get(name) or self._define(name, file)
        if definition.common.disabled:
            raise Denied(f"{definition.where}: it is disabled", fix="remove `disabled: true`")
        return app.resolve(
            definition,
            self._caller,
            session=self._session(session),
            limits=settings.limits(
                asked_timeout(timeout),
                settings.of_environment(self._caller.env, is_daemons=False),
                settings.of_environment(self._daemon_env, is_daemons=True),
                definition.common.limits,
                file.settings,
            ),
            notices=notices,
        )

    def _find(self, name: str) -> tuple[ConfigFile, tuple[str, ...]]:
        passed: list[BrokenFile] = []
        for file in self._sources:
            if isinstance(file, BrokenFile):
                passed.append(file)
            elif name in file.apps:
                return file, tuple(passed_over(each) for each in passed)
        if passed:
            # The app may well be in there.
            raise passed[0].error()
        raise UnknownApp(f"there is no app {name!r}", fix=self._nearest(name))

    def _nearest(self, name: str) -> str:
        known = [each.name for each in self.apps()]
        if close := nearest(name, known):
            return f"did you mean {close!r}?"
        return f"configured are: {', '.join(known)}" if known else "configure it in a tasak.yaml"

    def _define(self, name: str, file: ConfigFile) -> Definition:
        where = where_is(name, file)
        raw = definition_of(name, file)
        transport = transport_of(raw, where)
        try:
            options = self._options_of(transport)
        except BadConfig as problem:
            raise BadConfig(f"{where}: {problem.message}", fix=problem.fix) from problem
        foreign = check_keys(raw, options.names, where)
        file.definitions[name] = Definition(
            name=name,
            file=file.path,
            folder=file.folder,
            transport=transport,
            raw=raw,
            common=common_keys(raw, where),
            options=options,
            where=where,
            notices=(*([foreign] if foreign else []), *([reserved(name, file)] if name in RESERVED else [])),
            digest=digest(name, str(file.path), transport, dict(raw)),
        )
        return file.definitions[name]

    def _session(self, flag: str | None) -> str | None:
        if flag is not None:
            if not NAME.fullmatch(flag):
                raise BadArguments(f"--session is {flag!r}", fix=NAME_RULE)
            return flag
        found = self._caller.env.get(settings.SESSION_VARIABLE) or None
        if found is not None and not NAME.fullmatch(found):
            raise settings.malformed(settings.SESSION_VARIABLE, found, NAME_RULE)
        return found


def searched(app: App, folders: list[str]) -> int:
    """How many of the `folders` on PATH were looked into until the app's program was found; 0 if none was."""
    places = [os.path.dirname(value[0]) for value in app.config.options.values() if isinstance(value, tuple)]
    return max((folders.index(place) + 1 for place in places if place in folders), default=0)


def summary(name: str, file: ConfigFile) -> AppSummary:
    transport = description = error = None
    disabled = False
    try:
        raw = definition_of(name, file)
        transport = transport_of(raw, where_is(name, file))
        common = common_keys(raw, where_is(name, file))
        description, disabled = common.description, common.disabled
    except BadConfig as problem:
        error = problem.message
    return AppSummary(
        name=name, transport=transport, file=file.path, description=description, disabled=disabled, error=error
    )


def definition_of(name: str, file: ConfigFile) -> Mapping[str, Any]:
    raw = file.apps[name]
    if not NAME.fullmatch(name):
        raise BadConfig(f"{where_is(name, file)}: it cannot have this name", fix=NAME_RULE)
    if not isinstance(raw, Mapping):
        raise BadConfig(f"{where_is(name, file)}: it has to be a mapping, such as {{command: npx server}}")
    return raw


def where_is(name: str, file: ConfigFile) -> str:
    return f"app {name!r} in {file.path}" if file.path else f"the built-in app {name!r}"


def passed_over(file: BrokenFile) -> str:
    return f"{file.message} (passed over)"


def reserved(name: str, file: ConfigFile) -> str:
    return f"{where_is(name, file)}: it is named like our own command: call it as `tasak -- {name}`"


def asked_timeout(seconds: float | None) -> dict[str, settings.Value]:
    if seconds is None:
        return {}
    try:
        return {"call_timeout": settings.SECONDS.read(seconds)}
    except ValueError:
        raise BadArguments(f"--timeout is {seconds!r}", fix=f"it takes {settings.SECONDS.expected}") from None
