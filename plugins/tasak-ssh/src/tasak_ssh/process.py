"""A process on another machine, from the login to its end.

Closing goes from polite to certain, and each step is bounded: stdin is closed, the process gets SIGTERM, then SIGKILL,
and the connection is closed, with which the SSH server lets go of whatever is left.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from typing import Self, TypeVar

import asyncssh
from tasak.plugin import ConnectFailed, Peer

from tasak_ssh.command import RemoteCommand, as_line, remote_command
from tasak_ssh.connecting import connect
from tasak_ssh.failures import by_hand
from tasak_ssh.options import Options
from tasak_ssh.stderr import Stderr
from tasak_ssh.streams import Stdin, Streams

# A server that wants to save its state on EOF, and one that wants to on SIGTERM; what does not go on SIGKILL, does not
# go, or its SSH server delivers no signals.
GRACES = {"": 2.0, "TERM": 2.0, "KILL": 1.0}
# EOF on stdout, the exit status and the end of the connection come one after the other.
EXIT_STATUS_GRACE = 0.5

# A POSIX shell's answers for a program that it does not find, or cannot run.
NOT_RUN = (126, 127)

Opened = TypeVar("Opened")


class RemoteProcess(Peer):
    """A running command on another machine, over a connection of its own."""

    def __init__(
        self, options: Options, streams: Streams, channel: "asyncssh.SSHClientChannel[bytes]", closing: AsyncExitStack
    ) -> None:
        super().__init__(closing)
        self.stdout = streams.stdout
        self.stdin = Stdin(channel, streams)
        self._options = options
        self._streams = streams
        self._channel = channel

    @classmethod
    async def start(cls, options: Options, log: logging.Logger) -> Self:
        """Log in and start the command.

        Raises:
            ConnectFailed: there is no connection, or the server there starts nothing.
        """
        # It tells of every step, with the whole command line, which a log should not have.
        asyncssh.set_log_level(logging.WARNING)
        async with AsyncExitStack() as closing:
            connection = await connect(options, log, closing)
            streams = Streams(Stderr(log))
            channel = await run(remote_command(options), connection, streams, options)
            return cls(options, streams, channel, closing.pop_all())

    async def explaining(self, opening: Awaitable[Opened]) -> Opened:
        """What `opening` a session with it answers; a failure says what can be done about it on that machine."""
        try:
            return await opening
        except Exception as problem:
            if self._streams.exit_status in NOT_RUN:
                # Whatever else the host would try with a peer that went away: this one was never there.
                raise ConnectFailed(await self.why_ended(), fix=self._how_to_be_found()) from problem
            if isinstance(problem, ConnectFailed) and problem.fix is None:
                problem.fix = f"try it by hand: {by_hand(self._options, as_line(self._options.command))}"
            raise

    def last_words(self) -> Sequence[str]:
        return self._streams.stderr.lines()

    async def why_ended(self) -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXIT_STATUS_GRACE):
                await self._streams.closed.wait()
        streams, command = self._streams, f"the command on {self._options.host}"
        if streams.exit_signal is not None:
            return f"{command} was killed by SIG{streams.exit_signal}"
        if streams.exit_status is not None:
            return f"{command} exited with status {streams.exit_status}"
        if streams.problem is not None:
            return f"the SSH connection to {self._options.host} was lost: {streams.problem}"
        return f"{command} closed its stdout" if not streams.closed.is_set() else f"{command} ended"

    async def aclose(self) -> None:
        """End the process and the connection; takes no more than a few seconds, whatever the peer does."""
        try:
            await self._end()
        finally:
            await super().aclose()

    async def _end(self) -> None:
        self.stdin.close()
        for signal, grace in GRACES.items():
            if signal and not self._streams.closed.is_set():
                self._channel.send_signal(signal)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._streams.closed.wait()
                    return

    def _how_to_be_found(self) -> str:
        return (
            f"a command that is run over SSH has a short PATH: see {by_hand(self._options, 'echo $PATH')}, and name the"
            " program with its absolute path, or set PATH in `env`"
        )


async def run(
    command: RemoteCommand, connection: asyncssh.SSHClientConnection, streams: Streams, options: Options
) -> "asyncssh.SSHClientChannel[bytes]":
    try:
        channel, _ = await connection.create_session(lambda: streams, command.line, encoding=None)
        channel.write(command.preamble)
    except (asyncssh.Error, OSError, ValueError) as problem:
        raise ConnectFailed(
            f"the SSH server of {options.host} starts no command: {problem}",
            fix=f"try it by hand: {by_hand(options, as_line(options.command))}",
        ) from problem
    return channel
