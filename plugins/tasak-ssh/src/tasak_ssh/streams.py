"""The three streams of a remote process, as asyncssh hands them over and as the host reads and writes them."""

import asyncio
from typing import Any

import asyncssh

from tasak_ssh.stderr import Stderr

# The largest message that TASAK carries: 64 MiB of text, which JSON may escape to twice that.
MAX_LINE = 128 << 20


class Streams(asyncssh.SSHClientSession[bytes]):
    """What comes from the process. asyncssh's own reader ends a line at its window of 2 MiB, and copies it anew with
    each packet; asyncio's does neither."""

    def __init__(self, stderr: Stderr) -> None:
        self.stdout = asyncio.StreamReader(limit=MAX_LINE)
        self.stderr = stderr
        self.closed = asyncio.Event()
        """Set when the channel is gone: the process has ended, or the connection has."""
        self.writable = asyncio.Event()
        self.exit_status: int | None = None
        self.exit_signal: str | None = None
        self.problem: Exception | None = None
        """What the connection was lost by."""
        self.writable.set()

    def connection_made(self, chan: Any) -> None:
        # A channel pauses and resumes reading as a transport does, which is all that the reader asks of it.
        self.stdout.set_transport(chan)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            self.stderr.feed(data)
        else:
            self.stdout.feed_data(data)

    def eof_received(self) -> bool:
        self.stdout.feed_eof()
        return True  # its stdin may stay open

    def exit_status_received(self, status: int) -> None:
        self.exit_status = status

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self.exit_signal = signal

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.problem = exc
        self.closed.set()
        self.stdout.feed_eof()
        self.writable.set()


class Stdin:
    """What goes to the process: an `asyncio.StreamWriter`, as far as the host asks for one."""

    def __init__(self, channel: "asyncssh.SSHClientChannel[bytes]", streams: Streams) -> None:
        self._channel = channel
        self._streams = streams

    def write(self, data: bytes) -> None:
        self._channel.write(data)

    async def drain(self) -> None:
        await self._streams.writable.wait()
        if self._streams.closed.is_set():
            raise BrokenPipeError("the SSH channel is closed")

    def is_closing(self) -> bool:
        return self._channel.is_closing()

    def close(self) -> None:
        self._channel.write_eof()
