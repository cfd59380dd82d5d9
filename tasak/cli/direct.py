"""Direct mode: the same core, in this process, for one command."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tasak.cli import output
from tasak.core.gateway import Gateway, silent_sign_in
from tasak.failure import of_thread
from tasak.loop import run_loop
from tasak.paths import StateDir
from tasak.plugin import Progress, SignIn
from tasak.request import Reply, Request

Result = TypeVar("Result")


class Direct:
    """The road without a daemon. With `debug` it tells on stderr how long each step took."""

    def __init__(
        self,
        state: StateDir,
        *,
        debug: bool = False,
        open_sign_in: Callable[[str, Path], SignIn] = silent_sign_in,
    ) -> None:
        self._state = state
        self._debug = debug
        self._open_sign_in = open_sign_in
        # What the daemon writes into its log is nothing for stderr, unless it is asked for.
        handler = logging.StreamHandler()
        handler.setFormatter(output.InertFormatter("%(name)s: %(message)s"))
        logging.basicConfig(level=logging.CRITICAL, handlers=[handler])
        threading.excepthook = of_thread
        if debug:
            logging.getLogger("tasak").setLevel(logging.DEBUG)

    def apps(self, cwd: Path | None, env: Mapping[str, str]) -> Mapping[str, Any]:
        async def listed(gateway: Gateway) -> Mapping[str, Any]:
            return gateway.describe_apps(cwd, env)

        return self.run(listed)

    def list_tools(self, request: Request) -> Mapping[str, Any]:
        async def listed(gateway: Gateway) -> Mapping[str, Any]:
            found = await self._timed("connect and list", gateway.list_tools(request))
            return {"tools": found.tools, "notices": found.notices, "blocked": found.blocked}

        return self.run(listed)

    def call(self, request: Request) -> Reply:
        async def called(gateway: Gateway) -> Reply:
            if self._debug:
                await self._timed("connect and list", gateway.list_tools(request))
            return await self._timed("call", gateway.call(request, show_progress if request.is_terminal else None))

        return self.run(called)

    def run(self, work: Callable[[Gateway], Awaitable[Result]]) -> Result:
        """Do the work with a core of its own, which is closed afterwards, also where SIGTERM ends it.

        Raises:
            KeyboardInterrupt: it was ended by SIGTERM or SIGINT.
        """

        async def whole() -> Result:
            this = asyncio.current_task()
            assert this is not None
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
            gateway = Gateway(
                self._state, home=self._state.root.parent, environment=os.environ, open_sign_in=self._open_sign_in
            )
            try:
                return await work(gateway)
            finally:
                await self._timed("close", gateway.shut_down())

        try:
            return run_loop(whole())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    async def _timed(self, step: str, work: Awaitable[Result]) -> Result:
        began = time.perf_counter()
        try:
            return await work
        finally:
            if self._debug:
                output.say(f"{step}: {(time.perf_counter() - began) * 1000:.1f} ms")


def show_progress(progress: Progress) -> None:
    output.progress(progress.progress, progress.total, progress.message)
