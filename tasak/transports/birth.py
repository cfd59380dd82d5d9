"""Starting a program so that it does not outlive us, and so that a start which is cancelled leaves nothing.

On Linux the kernel kills it as soon as the thread that started it has ended, however that came: so this is called in
the loop's own thread. Elsewhere it is its stdin that ends, which most programs take as their own end.
"""

import asyncio
import contextlib
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tasak.errors import ConnectFailed
from tasak.transports import prctl
from tasak.transports.mark import VARIABLE, marked
from tasak.transports.tree import KILL_GRACE, POLL_INTERVAL, Tree

# A probe that takes milliseconds; a machine that cannot do it in this time has other troubles.
PROBE_TIMEOUT = 5.0

# In an ELF header: the magic number, word size and byte order; and the machine.
FORMAT, MACHINE = slice(0, 6), slice(18, 20)
ENOUGH = 256

Listener = TypeVar("Listener", bound=asyncio.SubprocessProtocol)


@dataclass(frozen=True, slots=True)
class Program(Generic[Listener]):
    """A program that runs, and what came of it."""

    transport: asyncio.SubprocessTransport
    protocol: Listener
    tree: Tree

    async def end(self) -> None:
        """Kill all that came of it, and wait until asyncio knows of its own end."""
        await self.tree.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_GRACE):
                while self.transport.get_returncode() is None:  # noqa: ASYNC110 - each protocol hears of it in its own way
                    await asyncio.sleep(POLL_INTERVAL)

    def close(self) -> None:
        """Let go of its pipes. As long as its end is not known, it is for the protocol to close the transport then."""
        if self.transport.get_returncode() is None:
            close_pipes(self.transport)
        else:
            self.transport.close()


async def start(
    listener: Callable[[], Listener],
    words: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Path | str,
    stdin: int,
) -> Program[Listener]:
    """Start it, in a session of its own, with pipes for stdout and stderr. Nothing but fds 0-2 reaches it.

    The protocol that `listener` makes closes its transport when the program has ended and its pipes are closed.

    Raises:
        ConnectFailed: it cannot be started.
    """
    starting = asyncio.ensure_future(started(listener, words, marked(environment), directory, stdin))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # It may run already, and only the end of its start tells of it; also if nobody waits here any more.
        starting.add_done_callback(kill_at_birth)
        await asyncio.wait([starting])
        if not starting.cancelled() and not starting.exception():
            await starting.result().end()
            starting.result().close()
        raise
    except (OSError, ValueError) as problem:
        raise ConnectFailed(f"{words[0]} cannot be started in {directory}: {problem}") from problem


async def started(
    listener: Callable[[], Listener],
    words: Sequence[str],
    environment: Mapping[str, str],
    directory: Path | str,
    stdin: int,
) -> Program[Listener]:
    prctl.adopt_orphans()
    run, before_exec = dying_with_us(words)
    transport, protocol = await asyncio.get_running_loop().subprocess_exec(
        listener,
        *run,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        cwd=directory,
        start_new_session=True,
        preexec_fn=before_exec,
    )
    return Program(transport, protocol, Tree(transport.get_pid(), environment.get(VARIABLE)))


def kill_at_birth(starting: "asyncio.Future[Program[Any]]") -> None:
    if not starting.cancelled() and not starting.exception():
        program = starting.result()
        program.tree.kill()
        program.close()


def close_pipes(transport: asyncio.SubprocessTransport) -> None:
    # Its own `close` would ask for the program's status itself, and asyncio's watcher would get none.
    for fd in range(3):
        if pipe := transport.get_pipe_transport(fd):
            pipe.close()


def dying_with_us(words: Sequence[str]) -> tuple[Sequence[str], Callable[[], None] | None]:
    """What to run in place of the words, and what to call before that, so that the kernel kills the program with us.

    A child has to ask for that itself. `setpriv` asks and becomes the program, for a millisecond. Where there is none,
    and where the kernel may refuse the program, which setpriv could not tell us, a fork asks: a copy of this process,
    which takes several milliseconds.
    """
    if sys.platform != "linux":
        return words, None
    setpriv = asking_program()
    if setpriv and is_surely_a_program(words[0]):
        return [setpriv, "--pdeathsig", "KILL", "--", *words], None
    return words, prctl.death_with_us()


@functools.cache
def asking_program() -> str | None:
    """util-linux's setpriv, from 2.33 on; busybox's does not know the option."""
    setpriv = shutil.which("setpriv", path=os.defpath)
    if setpriv is None:
        return None
    probe = [setpriv, "--pdeathsig", "KILL", "--", setpriv, "--version"]
    try:
        done = subprocess.run(
            probe,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return setpriv if done.returncode == 0 else None


def is_surely_a_program(path: str) -> bool:
    """Whether the kernel runs it: a binary like the one that we are, or a script whose interpreter is one."""
    head = beginning(path)
    if head.startswith(b"#!"):
        interpreter = head[2:].split(b"\n")[0].split()[:1]
        return bool(interpreter) and is_executable(path) and is_surely_a_binary(os.fsdecode(interpreter[0]))
    return is_surely_a_binary(path)


def is_surely_a_binary(path: str) -> bool:
    head, ours = beginning(path), beginning("/proc/self/exe")
    return (head[FORMAT], head[MACHINE]) == (ours[FORMAT], ours[MACHINE]) and is_executable(path)


def is_executable(path: str) -> bool:
    return os.path.isabs(path) and os.access(path, os.X_OK)


def beginning(path: str) -> bytes:
    """As much of the file as the kernel looks at to know what it is; nothing where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(ENOUGH)
    except (OSError, ValueError):  # a NUL in the path
        return b""
