"""Owning a program that speaks lines of JSON-RPC: its two streams, its stderr, and the end of all that came of it.

Closing goes from polite to certain, and each step is bounded: stdin is closed, then the process group gets SIGTERM,
then SIGKILL; then whatever is left of the tree is killed, until none is.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tasak.plugin import AppConfig, Peer
from tasak.transports import birth
from tasak.transports.birth import Program, close_pipes
from tasak.transports.lines import LineReader, LineWriter
from tasak.transports.mark import VARIABLE
from tasak.transports.stderr import CHUNK, StderrLog
from tasak.transports.stdout import Stdout
from tasak.transports.tree import KILL_GRACE

# What a program needs to find its way; everything else is the config's to name.
INHERITED = ("HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG")

STDOUT = 1

# A server that wants to save its state on EOF, and one that wants to on SIGTERM.
EOF_GRACE = 2.0
TERM_GRACE = 2.0
# EOF on stdout and the exit status do not come in a fixed order.
EXIT_STATUS_GRACE = 0.5
# What a program wrote before it ended is in the pipe already.
LAST_WORDS_GRACE = 0.1


class Child(Peer):
    """A running program, in a session and process group of its own, that we talk to over stdin and stdout."""

    def __init__(self, program: "Program[Streams]", command: Sequence[str], stderr: StderrLog) -> None:
        process = asyncio.subprocess.Process(program.transport, program.protocol, asyncio.get_running_loop())
        assert process.stdin is not None
        assert process.stderr is not None
        self.pid = process.pid
        self.read = LineReader(program.protocol.lines)
        self.write = LineWriter(Stdin(process.stdin))
        self.command = command
        self.program = program
        self._process = process
        self._stdin = process.stdin
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
        program = await birth.start(
            Streams, command, environment=environment, directory=directory, stdin=asyncio.subprocess.PIPE
        )
        return cls(program, command, stderr)

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
        """End the program and all that came of it; returns when that is gone, or cannot be made to go.

        One that is cancelled skips what is polite.
        """
        try:
            await self._ask_to_go()
        finally:
            await self._remove()

    async def _ask_to_go(self) -> None:
        # Noted before each step: after it, there may be nothing left that tells whose they are.
        await self.program.tree.note()
        self._stdin.close()
        if not await self._is_gone_within(EOF_GRACE):
            await self.program.tree.note()
            self._signal_group(signal.SIGTERM)
            await self._is_gone_within(TERM_GRACE)

    async def _remove(self) -> None:
        try:
            await self.program.tree.end()
            await self._is_gone_within(KILL_GRACE)
            # Nobody can say more; what is in the pipe is read to its end.
            await asyncio.wait([self._stderr_task], timeout=EXIT_STATUS_GRACE)
        finally:
            self._stderr_task.cancel()
            await asyncio.wait([self._stderr_task])
            self.program.close()

    async def _is_gone_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.wait()
                return True
        return False

    def _signal_group(self, number: signal.Signals) -> None:
        self.program.tree.signal_group(number)


class Streams(asyncio.subprocess.SubprocessStreamProtocol):
    """The program's streams. They end soon after it, also where someone whom it left behind has them too."""

    def __init__(self) -> None:
        super().__init__(limit=CHUNK, loop=asyncio.get_running_loop())
        self.lines = Stdout()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._pipes = transport
        stdout = transport.get_pipe_transport(STDOUT)
        assert isinstance(stdout, asyncio.ReadTransport)
        self.lines.follow(stdout)

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        if fd == STDOUT and isinstance(data, bytes):
            self.lines.data_received(data)  # it had come before the pipe was followed
        else:
            super().pipe_data_received(fd, data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == STDOUT:
            self.lines.end(exc)
        super().pipe_connection_lost(fd, exc)

    def process_exited(self) -> None:
        super().process_exited()
        self.lines.hear_out()
        asyncio.get_running_loop().call_later(LAST_WORDS_GRACE, close_pipes, self._pipes)


class Stdin:
    """The program's stdin, for a session: it may stop writing, but the end of stdin is the child's to give.

    That asks the program to go, and before it does, it has to be noted who is there.
    """

    def __init__(self, stream: asyncio.StreamWriter) -> None:
        self._stream = stream
        self._is_closed = False

    def write(self, data: bytes) -> None:
        self._stream.write(data)

    async def drain(self) -> None:
        await self._stream.drain()

    def is_closing(self) -> bool:
        return self._is_closed or self._stream.is_closing()

    def close(self) -> None:
        self._is_closed = True


def environment(app: AppConfig, instance: str) -> dict[str, str]:
    """The whole environment of an app's program, with what its `env:` names.

    `TASAK_TREE` marks what this daemon started; each program gets a part of its own behind it.
    """
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    named = {name: str(value) for name, value in app.options.get("env", {}).items()}
    return {**inherited, "PATH": app.path, **named, VARIABLE: instance}


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
