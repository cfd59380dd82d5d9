"""A program's stdout as lines: read when somebody has time for them, or taken as they come."""

import asyncio
from collections.abc import Callable

from tasak.transports.reading import MAX_LINE

# A program that says more than this, and is not read, has to wait.
ROOM = 1 << 17

# No pipe holds more, unless root has allowed it.
FULL_PIPE = 1 << 20


class Stdout(asyncio.Protocol):
    """Lines of up to `MAX_LINE`.

    It stands where asyncio's own protocol did, which hands on what came a turn of the loop later; the end of the pipe
    stays with that one, since the end of the program depends on it.
    """

    def __init__(self) -> None:
        self.first: Callable[[bytes], bool] = lambda line: False
        """Is given a line that comes alone, before it is kept for who reads: whether it takes it."""
        self._pipe: asyncio.ReadTransport | None = None
        self._asyncios: asyncio.BaseProtocol | None = None
        self._buffer = bytearray()
        self._searched = 0
        self._room = ROOM
        self._more: asyncio.Future[None] | None = None
        self._is_over = False
        self._problem: Exception | None = None

    def follow(self, pipe: asyncio.ReadTransport) -> None:
        """Read from here on what comes through the pipe."""
        self._pipe = pipe
        if not pipe.is_closing():  # else asyncio knows of the end already, and tells it
            self._asyncios = pipe.get_protocol()
            pipe.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        try:
            self._keep(data)
        except MemoryError as problem:
            # What came is lost, and asyncio would go on with what comes next. Whole lines are kept.
            del self._buffer[self._buffer.rfind(b"\n") + 1 :]
            self.end(problem)

    def _keep(self, data: bytes) -> None:
        is_a_line = data.find(b"\n") == len(data) - 1
        if is_a_line and not self._buffer and self.first(data):
            return
        self._buffer += data
        if self._more is None and len(self._buffer) > self._room and self._pipe:
            self._pipe.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        assert self._asyncios is not None
        self._asyncios.connection_lost(exc)

    def hear_out(self) -> None:
        """The program has ended, and the pipe will soon be closed: what is still in it waits for nobody to read."""
        self._room = ROOM + FULL_PIPE
        if self._pipe:
            self._pipe.resume_reading()

    def end(self, problem: Exception | None) -> None:
        """There is no more; `problem` is why, unless the program has closed it."""
        if not self._is_over:
            self._is_over, self._problem = True, problem
        self._wake()

    async def readline(self) -> bytes:
        """The next line with its end; the rest where there is none, nothing at the end. For one reader.

        Raises:
            ValueError: it is longer.
            OSError: the pipe broke.
            MemoryError: there is none for it, and nothing more comes.
        """
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > MAX_LINE:
                raise ValueError("the line is too long")
            if self._is_over:
                break
            await self._wait()
        if self._problem and not self._buffer:
            raise self._problem
        return self._take(end + 1 or len(self._buffer))

    def _take(self, length: int) -> bytes:
        with memoryview(self._buffer) as view, view[:length] as part:
            taken = bytes(part)
        del self._buffer[:length]
        self._searched = 0
        return taken

    async def _wait(self) -> None:
        self._more = asyncio.get_running_loop().create_future()
        if self._pipe:
            self._pipe.resume_reading()
        try:
            await self._more
        finally:
            self._more = None

    def _wake(self) -> None:
        if self._more and not self._more.done():
            self._more.set_result(None)
