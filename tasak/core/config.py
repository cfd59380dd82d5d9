"""The configuration: what the files that count for a caller say together, and one app of them.

Definitions come from files, never from a request.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasak.core import app, settings
from tasak.core.app import VOUCHED_FOR, App, Caller, Definition, Standing
from tasak.core.app_definition import check_keys, common_keys, transport_of
from tasak.core.app_options import TransportOptions
from tasak.core.config_file import AnyFile, BrokenFile, ConfigFile, SkippedFile
from tasak.core.digest import digest
from tasak.core.keyring import Keyring
from tasak.core.nearest import nearest
from tasak.core.trust import Trusted, what_to_trust
from tasak.errors import BadArguments, BadConfig, Denied, UnknownApp, Untrusted
from tasak.inert import one_line
from tasak.wire import RESERVED

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE = "up to 64 letters, digits, dots, dashes and underscores, a letter or digit first"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSummary:
    """One line of `tasak`. `transport` is None where the config does not say it."""

    name: str
    transport: str | None
    file: Path | None
    description: str | None
    disabled: bool
    error: str | None


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

    def problems(self) -> list[BadConfig]:
        """Why files that are broken say nothing: there may be apps in them that nobody knows of."""
        return [file.error() for file in self._sources if isinstance(file, BrokenFile)]

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
        require_enabled(definition)
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


def require_enabled(definition: Definition) -> None:
    """
    Raises:
        Denied: calls of the app are refused.
    """
    if definition.common.disabled:
        raise Denied(f"{definition.where}: it is disabled", fix="remove `disabled: true`")


def redefined(name: str, file: ConfigFile, farther: AnyFile, standing: Standing) -> Untrusted:
    assert file.path is not None
    how = "redefines" if isinstance(farther, ConfigFile) else "may redefine"
    why = "has changed since you trusted it" if standing == "changed" else "is not trusted"
    broken = f", which is broken ({farther.message})" if isinstance(farther, BrokenFile) else ""
    return Untrusted(
        f"{file.path} {how} the app {name!r} of {farther.path}{broken}, and {why}",
        fix=f"read it, and if all that it says shall hold: tasak trust {what_to_trust(file.path)}",
    )


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
