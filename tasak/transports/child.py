"""Owning a process that speaks lines of JSON-RPC: its two streams, its stderr, and its end.

Closing goes from polite to certain, and each step is bounded: stdin is closed, then the process group gets SIGTERM,
then SIGKILL.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tasak.errors import ConnectFailed
from tasak.plugin import Peer
from tasak.transports.lines import MAX_LINE, LineReader, LineWriter
from tasak.transports.stderr import StderrLog

# A server that wants to save its state on EOF, and one that wants to on SIGTERM.
EOF_GRACE = 2.0
TERM_GRACE = 2.0
# SIGKILL is not refused; what takes long is a process in uninterruptible sleep.
KILL_GRACE = 2.0
# EOF on stdout and the exit status do not come in a fixed order.
EXIT_STATUS_GRACE = 0.5


class Child(Peer):
    """A running program, in a session and process group of its own, that we talk to over stdin and stdout."""

    def __init__(self, process: asyncio.subprocess.Process, command: Sequence[str], stderr: StderrLog) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.pid = process.pid
        self.read = LineReader(process.stdout)
        self.write = LineWriter(process.stdin)
        self.command = command
        self._process = process
        self._stderr = stderr
        self._stderr_task = asyncio.create_task(stderr.drain(process.stderr), name=f"stderr of {process.pid}")

    @classmethod
    async def spawn(
        cls, command: Sequence[str], *, environment: Mapping[str, str], directory: Path | str, stderr: StderrLog
    ) -> Self:
        """Start the program. Nothing but fds 0-2 reaches it.

        Raises:
            ConnectFailed: it cannot be started.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                cwd=directory,
                start_new_session=True,
                limit=MAX_LINE,
            )
        except (OSError, ValueError) as problem:
            raise ConnectFailed(f"{command[0]} cannot be started in {directory}: {problem}") from problem
        return cls(process, command, stderr)

    def last_words(self) -> Sequence[str]:
        return self._stderr.lines()

    async def why_ended(self) -> str:
        name = os.path.basename(self.command[0])
        if self.read.problem:
            return f"{name} {self.read.problem}"
        try:
            async with asyncio.timeout(EXIT_STATUS_GRACE):
                status = await self._process.wait()
                # What it said last is still in the pipe.
                await asyncio.wait([self._stderr_task])
        except TimeoutError:
            if self._process.returncode is None:
                return f"{name} closed its stdout"
            status = self._process.returncode
        ending = f"was killed by {signal_name(-status)}" if status < 0 else f"exited with status {status}"
        strange = f"; on stdout it had said: {self.read.first_strange}" if self.read.first_strange else ""
        return f"{name} {ending}{strange}"

    async def aclose(self) -> None:
        """End the whole process group; returns when it is gone, or cannot be made to go."""
        try:
            self.write.close()
            if not await self._is_gone_within(EOF_GRACE):
                self._signal_group(signal.SIGTERM)
                if not await self._is_gone_within(TERM_GRACE):
                    self._signal_group(signal.SIGKILL)
                    await self._is_gone_within(KILL_GRACE)
        finally:
            # The leader may have gone politely and left its group behind.
            self._signal_group(signal.SIGKILL)
            self._stderr_task.cancel()
            await asyncio.wait([self._stderr_task])
            self._stderr.close()
            close_transport(self._process)

    async def _is_gone_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.wait()
                return True
        return False

    def _signal_group(self, number: signal.Signals) -> None:
        # The group's id is the leader's pid, which the kernel does not give away while the group has a member.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def close_transport(process: asyncio.subprocess.Process) -> None:
    """Close the pipes now rather than when the garbage collector comes by."""
    transport: asyncio.SubprocessTransport = process._transport  # type: ignore[attr-defined]  # noqa: SLF001 - no public way
    transport.close()
