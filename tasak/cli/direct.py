"""Direct mode: the same core, in this process, for one command."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tasak.cli import output
from tasak.core.gateway import Gateway
from tasak.paths import StateDir
from tasak.plugin import Progress
from tasak.request import Reply, Request

Result = TypeVar("Result")


class Direct:
    """The road without a daemon. With `debug` it tells on stderr how long each step took."""

    def __init__(self, *, debug: bool = False) -> None:
        self._debug = debug
        # What the daemon writes into its log is nothing for stderr, unless it is asked for.
        logging.basicConfig(level=logging.CRITICAL, format="%(name)s: %(message)s")
        if debug:
            logging.getLogger("tasak").setLevel(logging.DEBUG)

    def apps(self, cwd: Path | None, env: Mapping[str, str]) -> Mapping[str, Any]:
        async def listed(gateway: Gateway) -> Mapping[str, Any]:
            return gateway.describe_apps(cwd, env)

        return self._run(listed)

    def list_tools(self, request: Request) -> Sequence[Mapping[str, Any]]:
        async def listed(gateway: Gateway) -> Sequence[Mapping[str, Any]]:
            return (await self._timed("connect and list", gateway.list_tools(request))).tools

        return self._run(listed)

    def call(self, request: Request) -> Reply:
        async def called(gateway: Gateway) -> Reply:
            if self._debug:
                await self._timed("connect and list", gateway.list_tools(request))
            return await self._timed("call", gateway.call(request, show_progress if request.is_terminal else None))

        return self._run(called)

    def _run(self, work: Callable[[Gateway], Awaitable[Result]]) -> Result:
        async def whole() -> Result:
            gateway = Gateway(StateDir.of_user(), environment=os.environ)
            try:
                return await work(gateway)
            finally:
                await self._timed("close", gateway.shut_down())

        return asyncio.run(whole())

    async def _timed(self, step: str, work: Awaitable[Result]) -> Result:
        began = time.perf_counter()
        try:
            return await work
        finally:
            if self._debug:
                output.say(f"{step}: {(time.perf_counter() - began) * 1000:.1f} ms")


def show_progress(progress: Progress) -> None:
    output.progress(progress.progress, progress.total, progress.message)
