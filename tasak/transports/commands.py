"""A program that is run to its end, for what it writes. All that came of it is gone when we are done with it.

When its time is over its process group gets SIGTERM, then all get SIGKILL. When it ends by itself, what it left in the
background gets half a second to say the rest, then SIGKILL.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasak.errors import ConnectFailed
from tasak.transports import birth
from tasak.transports.birth import Program
from tasak.transports.child import TERM_GRACE
from tasak.transports.tree import KILL_GRACE

# As much as a person or a tool takes in; a program that never stops is stopped here.
MAX_OUTPUT = 16 << 20

# `>(tee …)` of a shell script outlives the script by a moment.
STRAGGLERS_GRACE = 0.5

STREAMS = {1: "stdout", 2: "stderr"}


class TooMuchOutput(Exception):
    """The program wrote more than `MAX_OUTPUT` bytes, and was killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where programs run, and where those with a slash in their name lie.

    `path` is a PATH: a folder of it that is not absolute does not count.
    """

    directory: Path
    program_folder: Path
    path: str
    environment: Mapping[str, str]

    def program(self, word: str) -> str:
        """The absolute path of the program that `word` names: on `path`, or with a slash in it, in `program_folder`.

        Raises:
            ConnectFailed: there is no such program.
        """
        if "/" in word:
            found = str(self.program_folder / word)
            fix = f"is it there, and executable? {found}"
            is_there = os.path.isfile(found) and os.access(found, os.X_OK)
        else:
            folders = os.pathsep.join(folder for folder in self.path.split(os.pathsep) if os.path.isabs(folder))
            found, fix = shutil.which(word, path=folders) or "", f"install it, or put its folder on PATH: {self.path!r}"
            is_there = bool(found)
        if not is_there:
            raise ConnectFailed(f"there is no program {word!r}", fix=fix)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What a program did. A negative status is the signal that ended it."""

    status: int
    stdout: bytes
    stderr: bytes


class Running(asyncio.SubprocessProtocol):
    """A program under way, and what it has written so far."""

    def __init__(self) -> None:
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()
        """It has exited, and nobody has its stdout and stderr any more."""
        self.flooded: str | None = None
        """The stream on which it wrote too much."""
        self.written = {fd: bytearray() for fd in STREAMS}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if self.flooded:
            return
        if len(self.written[fd]) + len(data) > MAX_OUTPUT:
            self.flooded = STREAMS[fd]
            self._transport.kill()
        else:
            self.written[fd] += data

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self._transport.close()


async def run(words: Sequence[str], place: Place) -> Completed:
    """Run the program of the first word, with the others as its arguments and nothing on its stdin.

    Raises:
        ConnectFailed: it cannot be started.
        TooMuchOutput: what it wrote is beyond the bound.
    """
    program = await birth.start(
        Running,
        [place.program(words[0]), *words[1:]],
        environment=place.environment,
        directory=place.directory,
        stdin=asyncio.subprocess.DEVNULL,
    )
    running = program.protocol
    try:
        await running.exited.wait()
        await is_set_within(running.closed, STRAGGLERS_GRACE)
    finally:
        await end(program)
    if running.flooded:
        raise TooMuchOutput(f"it wrote more than {MAX_OUTPUT >> 20} MiB on {running.flooded}")
    status = program.transport.get_returncode()
    assert status is not None
    return Completed(status=status, stdout=bytes(running.written[1]), stderr=bytes(running.written[2]))


async def end(program: Program[Running]) -> None:
    """End all that came of it, the program itself alive or dead."""
    try:
        await ask_to_go(program)
    finally:
        try:
            await program.tree.end()
            await is_set_within(program.protocol.closed, KILL_GRACE)
        finally:
            program.close()


async def ask_to_go(program: Program[Running]) -> None:
    if not program.protocol.exited.is_set():
        await program.tree.note()
        program.tree.signal_group(signal.SIGTERM)
        await is_set_within(program.protocol.exited, TERM_GRACE)


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await event.wait()
    return False
