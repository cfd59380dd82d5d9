"""The daemon's own core around one plugin, so that a contract is held to what will really use it."""

import asyncio
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tasak.core.app import App
from tasak.core.containment import checked
from tasak.core.era import AnotherEra
from tasak.core.gateway import Gateway
from tasak.core.host import AppHost
from tasak.core.settings import CONFIG_VARIABLE
from tasak.errors import NotExecuted
from tasak.paths import PRIVATE_FILE, StateDir
from tasak.plugin import Session
from tasak.transports.registry import Registry, Transport, hooks_of

APP = "peer"

# The plugin's own steps from polite to certain take up to six seconds.
CLOSE_TIMEOUT = 20.0


class SessionOwner:
    """Opens and closes one session in a task of its own, as the daemon does; everyone else only sends requests."""

    def __init__(self, transport: Transport, app: App, host: AppHost) -> None:
        self._transport = transport
        self._app = app
        self._host = host
        self._closings = 1
        self._stop = asyncio.Event()
        self._opened: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._own(), name="owner of the session")
        # A failure that nobody waits for any more is no news.
        self._opened.add_done_callback(lambda opened: opened.cancelled() or opened.exception())
        # Not in the task itself: one that is cancelled before its first step runs nothing at all.
        self._task.add_done_callback(lambda _: self._opened.cancel())

    async def opened(self) -> Session:
        """The session, once it is open.

        Raises:
            TimeoutError: it took longer than `init_timeout`.
            Exception: whatever the plugin raised.
        """
        return await asyncio.shield(self._opened)

    async def close(self, *, times: int = 1) -> None:
        """Have it closed, so many times one after the other. Raises what the plugin did."""
        self._closings = times
        self._stop.set()
        await asyncio.wait([self._task], timeout=CLOSE_TIMEOUT)
        if not self._task.done():
            raise AssertionError(f"the session was not closed within {CLOSE_TIMEOUT:g} s")
        if not self._task.cancelled():
            self._task.result()

    async def cancel(self) -> None:
        """End it while it is being opened, as the daemon does where nobody wants it any more."""
        self._task.cancel()
        await self.close()

    async def _own(self) -> None:
        try:
            session = await self._connect()
        except (Exception, SystemExit) as problem:  # noqa: BLE001 - plugin code: the test is told
            self._opened.set_exception(problem)
            return
        self._opened.set_result(session)
        try:
            await self._stop.wait()
        finally:
            for _ in range(self._closings):
                await self._transport.close(session)

    async def _connect(self) -> Session:
        try:
            return await self._attempt()
        except AnotherEra as other:
            self._host.era = other.era
            try:
                return await self._attempt()
            except (NotExecuted, AnotherEra):
                raise other.problem from None

    async def _attempt(self) -> Session:
        async with asyncio.timeout(self._host.init_timeout):
            session = await self._transport.connect(self._app.config, self._host)
            return await checked(session, self._transport.close)


class Stage(Gateway):
    """The core over a config in `folder` with one app, `peer`, that the plugin reaches. `async with` ends it.

    `plugin` is the name of a transport that is installed, or a module with its hooks.
    """

    def __init__(self, folder: Path, plugin: Any, *, init_timeout: float) -> None:
        state = StateDir(folder / "state")
        state.create()
        super().__init__(state, environment={})
        self._folder = folder
        self._init_timeout = init_timeout
        if isinstance(plugin, str):
            self.transport = self.registry.transport(plugin)
        else:
            self.transport = Transport("plugin-under-test", hooks_of(plugin, "plugin-under-test"))
            self.registry = WithOneMore(self.transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.shut_down()

    def app(self, options: Mapping[str, Any], apps: Mapping[str, Mapping[str, Any]] | None = None) -> App:
        """The app that has these options, as a caller in this environment has it.

        Raises:
            BadConfig: they do not fit.
        """
        # A name of its own each time: what changed would be told by size and time alone.
        config = self._folder / f"{secrets.token_hex(4)}.yaml"
        config.touch(mode=PRIVATE_FILE)
        peer = {"transport": self.transport.name, "init_timeout": self._init_timeout, **options}
        config.write_text(json.dumps({"apps": {**(apps or {}), APP: peer}}))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TASAK_")}
        return self.config(self._folder, {**environment, CONFIG_VARIABLE: str(config)}).resolve(APP)

    def host_for(self, app: App) -> AppHost:
        return self._host_of(app, lambda: None)

    def own(self, app: App) -> SessionOwner:
        """Begin to open a session with the app."""
        return SessionOwner(self.transport, app, self.host_for(app))


class WithOneMore(Registry):
    """What is installed, and a plugin that is not."""

    def __init__(self, more: Transport) -> None:
        super().__init__()
        self._more = more

    def transport(self, name: str) -> Transport:
        return self._more if name == self._more.name else super().transport(name)
