"""From the files to the configuration of a caller, and what is kept of them from one call to the next."""

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tasak.core import settings
from tasak.core.app import App, Caller
from tasak.core.app_command import folders_of_path
from tasak.core.app_options import TransportOptions
from tasak.core.config import Config, passed_over, reserved
from tasak.core.config_file import AnyFile, BrokenFile, ConfigFile, FileReader, SkippedFile
from tasak.core.config_text import Parse, parse
from tasak.core.config_walk import Walk
from tasak.core.keyring import Keyring, Unread
from tasak.core.resolved import ResolvedApps, looks_of
from tasak.core.trust import Trusted, read_digests
from tasak.wire import RESERVED

SchemaOf: TypeAlias = Callable[[str], Mapping[str, Any]]
PartsOf: TypeAlias = Callable[[str, Mapping[str, Any]], Sequence[str]]


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

    def load(self, cwd: Path | None, env: Mapping[str, str]) -> Config:
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

    def still_says(self, app: App) -> bool:
        """Whether the app, and all that it is made of, is still defined as it was."""
        return all(self.still_defines(each.name, each.file, so=each.source.raw) for each in app.whole())

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


def searched(app: App, folders: list[str]) -> int:
    """How many of the `folders` on PATH were looked into until the app's program was found; 0 if none was."""
    options = [value for each in app.whole() for value in each.config.options.values()]
    places = [os.path.dirname(value[0]) for value in options if isinstance(value, tuple)]
    return max((folders.index(place) + 1 for place in places if place in folders), default=0)
