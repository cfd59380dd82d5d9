"""Direct mode: the same core, in this process, for one command."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tasak.core.gateway import Gateway, Reply, Request
from tasak.core.tool_service import ToolList
from tasak.paths import StateDir

Result = TypeVar("Result")


class Direct:
    """The road without a daemon."""

    def call(self, request: Request) -> Reply:
        return self._run(lambda gateway: gateway.call(request))

    def list_tools(self, request: Request) -> ToolList:
        return self._run(lambda gateway: gateway.list_tools(request))

    def apps(self, cwd: Path | None, env: Mapping[str, str]) -> dict[str, Any]:
        async def listed(gateway: Gateway) -> dict[str, Any]:
            return gateway.describe_apps(cwd, env)

        return self._run(listed)

    def _run(self, work: Callable[[Gateway], Awaitable[Result]]) -> Result:
        async def whole() -> Result:
            gateway = Gateway(StateDir.of_user(), environment=os.environ)
            try:
                return await work(gateway)
            finally:
                await gateway.shut_down()

        return asyncio.run(whole())
