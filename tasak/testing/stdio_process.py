"""`stdio_server` as a program that something else starts: what it was made to do, and how it is ended."""

import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tasak.testing.peer import ContractPeer

PROGRAM = Path(__file__).with_name("stdio_server.py")

# A process that was killed is gone by then; what takes long is one in uninterruptible sleep.
DEATH_TIMEOUT = 5.0
POLL_INTERVAL = 0.002


class StdioServer:
    """Start `command` with `env` added to the environment, wherever; `with` makes and removes the witness's file."""

    def __init__(self) -> None:
        self.command = [sys.executable, "-I", "-S", str(PROGRAM)]
        self._folder = tempfile.TemporaryDirectory(prefix="tasak-stdio-")
        self._witness = Path(self._folder.name) / "executed"

    @property
    def env(self) -> dict[str, str]:
        """What tells the server where the witness is; its processes are known by it."""
        return {"EXEC": str(self._witness)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._folder.cleanup()

    def peer(self, options: Mapping[str, Any], *, unreachable: Mapping[str, Any] | None = None) -> ContractPeer:
        """The peer that is reached with these options."""
        return ContractPeer(
            options=options, cut=self.cut, executed=self.executed, frozen=self.frozen, unreachable=unreachable
        )

    def executed(self) -> list[str]:
        return self._witness.read_text().split() if self._witness.exists() else []

    def processes(self) -> list[psutil.Process]:
        """Those that run now, and what was started with the same environment on the way to them."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    async def cut(self) -> None:
        """Kill them; returns when they are dead."""
        async with asyncio.timeout(DEATH_TIMEOUT):
            # Again and again: one may just be starting another.
            while self.processes():
                self._signal(signal.SIGKILL)
                await asyncio.sleep(POLL_INTERVAL)

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """They stand still meanwhile."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            is_marked = process.environ().get("EXEC") == str(self._witness)
            return is_marked and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False
