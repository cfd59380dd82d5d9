"""The configuration: which files count for a caller, what they say together, and one app of them.

Definitions come from files, never from a request.
"""

import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from tasak.core import app, settings
from tasak.core.app import VOUCHED_FOR, App, Caller, Definition, Standing
from tasak.core.app_command import folders_of_path
from tasak.core.app_definition import check_keys, common_keys, transport_of
from tasak.core.app_options import TransportOptions
from tasak.core.config_file import AnyFile, BrokenFile, ConfigFile, FileReader, SkippedFile
from tasak.core.config_text import Parse, parse
from tasak.core.config_walk import Walk
from tasak.core.digest import digest
from tasak.core.keyring import Keyring, Unread
from tasak.core.nearest import nearest
from tasak.core.resolved import ResolvedApps, looks_of
from tasak.core.trust import Trusted, read_digests, what_to_trust
from tasak.errors import BadArguments, BadConfig, Denied, UnknownApp, Untrusted
from tasak.inert import one_line
from tasak.wire import RESERVED

__all__ = ["App", "AppSummary", "Config", "Loader"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE = "up to 64 letters, digits, dots, dashes and underscores, a letter or digit first"

SchemaOf: TypeAlias = Callable[[str], Mapping[str, Any]]
PartsOf: TypeAlias = Callable[[str, Mapping[str, Any]], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSummary:
    """One line of `tasak`. `transport` is None where the config does not say it."""

    name: str
    transport: str | None
    file: Path | None
    description: str | None
    disabled: bool
    error: str | None


class Loader:
    """Lives as long as the daemon: keeps what it parsed while the files stay as they are.

    `schema_of` gives the JSON Schema of a transport's options, `parts_of` the apps that one with such options is made
    of; `builtins` are apps that exist without any file; `trusted` is where the user's list of trusted files is.
    """

    def __init__(
        self,
        *,
        state_config: Path,
        home: Path,
        schema_of: SchemaOf,
        parts_of: PartsOf = lambda transport, options: (),
        builtins: Mapping[str, Mapping[str, Any]],
        daemon_env: Mapping[str, str],
        trusted: Path | None = None,
        parse: Parse = parse,
    ) -> None:
        self._walk = Walk(state_config=state_config, home=home, reader=FileReader(parse))
        self._home = home
        self._schema_of = schema_of
        self._parts_of = parts_of
        self._builtins = ConfigFile(path=None, folder=home, apps=builtins, settings={})
        self._daemon_env = daemon_env
        self._trusted = trusted
        self._options: dict[str, TransportOptions] = {}
        self._resolved = ResolvedApps()
        self._keyring = Keyring()

    def resolve(
        self,
        name: str,
        *,
        cwd: Path | None,
        env: Mapping[str, str],
        session: str | None = None,
        timeout: float | None = None,
    ) -> App:
        """The app `name` for a caller, as `Config.resolve` says; not made anew while all looks the same.

        Raises:
            Unread: `read_keyring` has to be called first.
        """
        key = (name, cwd, session, timeout)
        if found := self._resolved.find(key, env):
            return found
        caller = Caller(cwd=cwd, env=env, home=self._home)
        files = self._walk.candidates(cwd, env.get(settings.CONFIG_VARIABLE))
        if self._trusted:
            files.append(str(self._trusted))
        folders = folders_of_path(caller.path, cwd)
        looks = looks_of([*files, *folders])
        app = self.load(cwd, env).resolve(name, session=session, timeout=timeout)
        paths = [*files, *folders[: searched(app, folders)]]
        self._resolved.keep(key, env, paths, looks[: len(paths)], app)
        return app

    async def read_keyring(self, wanted: Unread) -> None:
        """Read what an app needs of the keyring, which may ask its user first.

        Raises:
            BadConfig: it is not there.
        """
        await self._keyring.read(wanted)

    def load(self, cwd: Path | None, env: Mapping[str, str]) -> "Config":
        """The config for a caller in `cwd` with the environment `env`.

        Raises:
            BadConfig: the file that `TASAK_CONFIG` names is not there, or `cwd` is relative.
        """
        trusted = Trusted(own=self._walk.state_config, digests=read_digests(self._trusted))
        files = self._walk.files(cwd, env.get(settings.CONFIG_VARIABLE))
        sources: list[AnyFile] = []
        notices: list[str] = []
        for found in files:
            notices += self._about(found)
            sources.append(found)
            if isinstance(found, ConfigFile) and found.is_isolating:
                break
        return Config(
            sources=(*sources, self._builtins),
            hidden=tuple(files),
            trusted=trusted,
            notices=tuple(notices),
            caller=Caller(cwd=cwd, env=env, home=self._home),
            daemon_env=self._daemon_env,
            options_of=self.options_of,
            keyring=self._keyring,
        )

    def _about(self, found: AnyFile) -> Iterator[str]:
        match found:
            case SkippedFile() | BrokenFile():
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

    def still_defines(self, app: str, file: Path | None, *, so: Mapping[str, Any] | None = None) -> bool:
        """Whether the app is in the `file` that it was found in, and `so` as it was. A broken one does not deny it."""
        return file is None or self._walk.defines(file, app, so)

    def options_of(self, transport: str) -> TransportOptions:
        """What the transport takes.

        Raises:
            BadConfig: there is no such transport.
            BrokenTransport: its plugin does not load, or its schema is none.
        """
        if transport not in self._options:
            self._options[transport] = TransportOptions(
                transport, self._schema_of(transport), functools.partial(self._parts_of, transport)
            )
        return self._options[transport]


class Config:
    """All files together, as one caller sees them. Nothing of it changes with the files."""

    def __init__(
        self,
        *,
        sources: tuple[AnyFile, ...],
        hidden: tuple[AnyFile, ...],
        trusted: Trusted,
        notices: tuple[str, ...],
        caller: Caller,
        daemon_env: Mapping[str, str],
        options_of: Callable[[str], TransportOptions],
        keyring: Keyring,
    ) -> None:
        self.notices = notices
        """What is wrong with the files, a sentence each."""
        self._sources = sources
        # What lies behind an isolating file gives no app, and is redefined all the same.
        self._hidden = hidden
        self._trusted = trusted
        self._caller = caller
        self._daemon_env = daemon_env
        self._options_of = options_of
        self._keyring = keyring

    def apps(self) -> list[AppSummary]:
        """Every app, by name; nobody's values are needed for it, and no plugin is loaded."""
        defining: dict[str, ConfigFile] = {}
        for file in self._sources:
            if isinstance(file, ConfigFile):
                defining = {**dict.fromkeys(file.apps, file), **defining}
        return [self._summary(name, defining[name]) for name in sorted(defining)]

    def definition(self, name: str) -> Definition:
        """What a file says of the app `name`, checked; nobody's values are in it.

        Raises:
            UnknownApp, BadConfig, BrokenTransport: as for `resolve`.
        """
        file, _ = self._find(name)
        return file.definitions.get(name) or self._define(name, file)

    def resolve(self, name: str, *, session: str | None = None, timeout: float | None = None) -> App:
        """The app `name`, ready for this caller. `session` and `timeout` (seconds) are the caller's own flags.

        Raises:
            UnknownApp: no file defines it.
            BadConfig: its definition is wrong, a variable that it uses is unset, or the file that may define it is
                broken.
            BadArguments: a flag is malformed.
            Denied: it is disabled.
            Untrusted: it stands in the place of another, in a file that the user does not trust.
            Unread: an entry of the keyring has to be read first.
            BrokenTransport, ConnectFailed: its plugin, its directory or its program is not there.
        """
        return self._resolve(name, session, timeout, within=())

    def _resolve(self, name: str, session: str | None, timeout: float | None, *, within: tuple[str, ...]) -> App:
        file, notices = self._find(name)
        definition = file.definitions.get(name) or self._define(name, file)
        if name in within:
            raise BadConfig(
                f"{definition.where}: it calls itself: {' → '.join((*within, name))}", fix="take one of these steps out"
            )
        if definition.common.disabled:
            raise Denied(f"{definition.where}: it is disabled", fix="remove `disabled: true`")
        settings.require_room(definition.where, definition.common.limits, file.settings)
        whole = app.resolve(
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
            standing=self._trusted.standing(file),
            keyring=self._keyring,
        )
        names = definition.options.parts_of(whole.config.options)
        return app.composed(whole, {part: self._part(part, session, definition, (*within, name)) for part in names})

    def _part(self, name: str, session: str | None, whole: Definition, within: tuple[str, ...]) -> App:
        try:
            return self._resolve(name, session, None, within=within)
        except UnknownApp as problem:
            raise BadConfig(f"{whole.where}: {problem.message}", fix=problem.fix) from problem

    def _find(self, name: str) -> tuple[ConfigFile, tuple[str, ...]]:
        passed: list[BrokenFile | SkippedFile] = []
        for file in self._sources:
            if not isinstance(file, ConfigFile):
                passed.append(file)
            elif name in file.apps:
                if problem := self._redefinition(name, file):
                    raise problem
                return file, tuple(passed_over(each) for each in passed)
        for each in passed:
            if isinstance(each, BrokenFile):  # the app may well be in there
                raise each.error()
        notices = [passed_over(each) for each in passed]
        raise UnknownApp(f"there is no app {name!r}", fix="\n".join([*notices, self._nearest(name)]))

    def _redefinition(self, name: str, file: ConfigFile) -> Untrusted | None:
        """Why the app may not be that of `file`, if it may not: a farther file has one of that name."""
        if (standing := self._trusted.standing(file)) in VOUCHED_FOR:
            return None
        files = (*self._sources, *self._hidden)
        for farther in files[files.index(file) + 1 :]:
            if farther.path and farther.may_define(name):
                return redefined(name, file, farther, standing)
        return None

    def _summary(self, name: str, file: ConfigFile) -> AppSummary:
        found = summary(name, file)
        problem = self._redefinition(name, file)
        return replace(found, error=problem.message) if problem else found

    def _nearest(self, name: str) -> str:
        known = [each.name for each in self.apps()]
        if close := nearest(name, known):
            return f"did you mean {close!r}?"
        if not any(file.path for file in self._sources):
            places = f"{self._caller.cwd}, above it, or in ~/.tasak" if self._caller.cwd else "~/.tasak"
            return f"no tasak.yaml is in {one_line(places)}: there is only {', '.join(known)}"
        return f"configured are: {', '.join(known)}"

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
                raise BadArguments(f"--session is {flag!r}", fix=f"a name has {NAME_RULE}")
            return flag
        found = self._caller.env.get(settings.SESSION_VARIABLE) or None
        if found is not None and not NAME.fullmatch(found):
            raise settings.malformed(settings.SESSION_VARIABLE, found, NAME_RULE)
        return found


def redefined(name: str, file: ConfigFile, farther: AnyFile, standing: Standing) -> Untrusted:
    assert file.path is not None
    how = "redefines" if isinstance(farther, ConfigFile) else "may redefine"
    why = "has changed since you trusted it" if standing == "changed" else "is not trusted"
    broken = f", which is broken ({farther.message})" if isinstance(farther, BrokenFile) else ""
    return Untrusted(
        f"{file.path} {how} the app {name!r} of {farther.path}{broken}, and {why}",
        fix=f"read it, and if all that it says shall hold: tasak trust {what_to_trust(file.path)}",
    )


def searched(app: App, folders: list[str]) -> int:
    """How many of the `folders` on PATH were looked into until the app's program was found; 0 if none was."""
    options = [value for each in app.whole() for value in each.config.options.values()]
    places = [os.path.dirname(value[0]) for value in options if isinstance(value, tuple)]
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
        raise BadConfig(f"{where_is(name, file)}: it cannot have this name", fix=f"a name has {NAME_RULE}")
    if not isinstance(raw, Mapping):
        raise BadConfig(f"{where_is(name, file)}: it has to be a mapping, such as {{command: npx server}}")
    return raw


def where_is(name: str, file: ConfigFile) -> str:
    return f"app {name!r} in {file.path}" if file.path else f"the built-in app {name!r}"


def passed_over(file: BrokenFile | SkippedFile) -> str:
    return file.notice if isinstance(file, SkippedFile) else f"{file.message} (passed over)"


def reserved(name: str, file: ConfigFile) -> str:
    return f"{where_is(name, file)}: it is named like our own command: call it as `tasak -- {name}`"


def asked_timeout(seconds: float | None) -> dict[str, settings.Value]:
    if seconds is None:
        return {}
    try:
        return {"call_timeout": settings.SECONDS.read(seconds)}
    except ValueError:
        raise BadArguments(f"--timeout is {seconds!r}", fix=f"it takes {settings.SECONDS.expected}") from None
