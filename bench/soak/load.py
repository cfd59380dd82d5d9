"""The calls: many at once, every so many of them spoilt, or made while something else is."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import Any

import psutil

from bench.home import Failed
from bench.soak.daemon import Daemon, hung_up
from bench.soak.ledger import End, Ledger
from bench.soak.world import World

CALLERS = 32

# A server that was killed may be down for so long, in seconds.
LONGEST_CUT = 0.2

# A call that is to be ended takes longer than this in any case.
SLEEP = 5.0
SHORT = 0.05

INTERNAL_ERROR = -32603


class Load:
    """So many calls, over the world's apps. `on_end` is called after each with the number of those that have ended."""

    def __init__(
        self,
        world: World,
        daemon: Daemon,
        *,
        calls: int,
        faults: float,
        seed: int,
        on_end: Callable[[int], Awaitable[None]],
    ) -> None:
        self.ledger = Ledger()
        self.spoilt: dict[str, int] = {}
        self._world = world
        self._daemon = daemon
        self._numbers: Iterator[int] = iter(range(calls))
        self._faults = faults
        self._random = Random(seed)
        self._on_end = on_end
        self._harms: dict[str, Callable[[], Awaitable[None]]] = {
            "kill": self._kill_server,
            "cut": self._cut_server,
            "fail": self._fail_server,
            "delete": self._delete_connection,
            "touch": self._touch_config,
            "edit": self._edit_config,
        }
        self._spoils: dict[str, Callable[[str, str], Awaitable[End]]] = {
            "refuse": self._refused,
            "timeout": self._timed_out,
            "cancel": self._cancelled,
        }

    async def run(self) -> None:
        """Make them all.

        Raises:
            Failed: the daemon is of no use any more.
        """
        try:
            async with asyncio.TaskGroup() as callers:
                for _ in range(CALLERS):
                    callers.create_task(self._call_on())
        except ExceptionGroup as failures:
            # One of them says it.
            raise failures.exceptions[0] from None

    async def _call_on(self) -> None:
        for number in self._numbers:
            text = f"call-{number}"
            self.ledger.begin(text)
            self.ledger.end(text, await self._call(self._random.choice(self._world.apps), text))
            await self._on_end(self.ledger.ended)

    async def _call(self, app: str, text: str) -> End:
        if self._random.random() >= self._faults:
            return await self._echo(app, text)
        fault = self._random.choice([*self._harms, *self._spoils])
        self.spoilt[fault] = self.spoilt.get(fault, 0) + 1
        if fault in self._spoils:
            return await self._spoils[fault](app, text)
        end, _ = await asyncio.gather(self._echo(app, text), self._harms[fault]())
        return end

    # ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _echo(self, app: str, text: str) -> End:
        return await self._make(app, "echo", {"text": text})

    async def _refused(self, app: str, text: str) -> End:
        return await self._make(app, "refuse", {"text": text, "code": INTERNAL_ERROR})

    async def _timed_out(self, app: str, text: str) -> End:
        return await self._make(app, "sleep", {"text": text, "seconds": SLEEP}, timeout=SHORT)

    async def _cancelled(self, app: str, text: str) -> End:
        call = asyncio.create_task(self._make(app, "sleep", {"text": text, "seconds": SLEEP}))
        return await hung_up(call, self._random.uniform(0.0, SHORT))

    async def _make(self, app: str, tool: str, arguments: dict[str, Any], **more: Any) -> End:
        body = {"tool": tool, "arguments": arguments, **more}
        return await self._daemon.call(app, body, keeps=self._random.random() < 0.5)

    # ── harm ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _kill_server(self) -> None:
        servers = psutil.Process(self._world.daemon_pid).children()
        if servers:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._random.choice(servers).kill()

    async def _cut_server(self) -> None:
        self._web_server().do(f"cut {self._random.uniform(0.0, LONGEST_CUT):.3f}")

    async def _fail_server(self) -> None:
        self._web_server().do("fail")

    async def _delete_connection(self) -> None:
        if connections := await self._daemon.connections():
            with contextlib.suppress(Failed):  # it has gone meanwhile
                await self._daemon.ask("DELETE", f"/connections/{self._random.choice(connections)['id']}")

    async def _touch_config(self) -> None:
        os.utime(self._world.home.state.config)

    async def _edit_config(self) -> None:
        self._world.edit()

    def _web_server(self) -> Any:
        return self._world.web[self._random.choice([*self._world.web])]
