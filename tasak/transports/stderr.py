"""What an app's processes say on stderr: the last lines in memory, all of it in a file that does not grow for ever."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from tasak.errors import BadConfig
from tasak.inert import inert
from tasak.logs import PrivateRotatingFile
from tasak.paths import make_private
from tasak.transports.pace import Allowance, Pace

# Enough to find the cause of a crash in; a line is cut where nobody reads on.
RING_LINES = 200
LINE_LENGTH = 4000

CHUNK = 1 << 16

# So much is kept at once, and so much a second after that; of more, the last lines alone.
BURST = 1 << 20
RATE = 1 << 18
# What is kept is read in such pieces; a line costs time however short it is.
PIECE = 1 << 14
COST_OF_LINE = 64
# What of the rest is kept until it is known whether more comes.
TAIL = 1 << 12
# While nothing is kept: a program that writes faster than a pipeful in this time has to wait for us.
PAUSE = 0.005

log = logging.getLogger(__name__)


class StderrLog:
    """One process's stderr. `on_line` hears each line, too, as it is kept; it must not raise.

    Of a flood, what is beyond the allowance (bytes) is left out, and how much that was is said.
    """

    def __init__(
        self,
        path: Path | None,
        on_line: Callable[[str], None] = lambda line: None,
        allowance: Allowance | None = None,
    ) -> None:
        self._ring: deque[str] = deque(maxlen=RING_LINES)
        self._partial = b""
        self._path = path
        self._on_line = on_line
        self._file: PrivateRotatingFile | None = None
        self._allowance = allowance or Allowance(RATE, BURST)
        self._pace = Pace()
        self._left_out = 0
        self._tail = b""

    def lines(self) -> Sequence[str]:
        rest = self._whole_lines_of_tail() if self._left_out else self._partial
        return [*self._ring, *(as_texts(rest.removesuffix(b"\n").split(b"\n")) if rest else [])][-RING_LINES:]

    async def drain(self, stream: asyncio.StreamReader) -> None:
        """Read until the end. A process waits for us only where it writes tens of megabytes a second."""
        self._file = rotating_file(self._path) if self._path else None
        try:
            while not stream.at_eof():
                if self._allowance.allows():
                    await self._pace.keep()
                    self._end_gap()
                    self._take(await stream.read(PIECE))
                else:
                    self._leave_out(await stream.read(CHUNK))
                    await asyncio.sleep(PAUSE)
            self._end_gap()
            if self._partial:
                self._keep([self._partial])
                self._partial = b""
        finally:
            # However we end: a handler that nobody closes keeps its descriptor.
            if self._file:
                self._file.close()

    def _take(self, chunk: bytes) -> None:
        self._allowance.take(len(chunk) + COST_OF_LINE * chunk.count(b"\n"))
        *whole, self._partial = (self._partial + chunk).split(b"\n")
        self._partial = self._partial[:LINE_LENGTH]
        if whole:
            with self._pace:
                self._keep(whole)

    def _leave_out(self, chunk: bytes) -> None:
        """Keep the end alone, for the case that it was the last: it tells why a program died."""
        self._left_out += len(chunk)
        self._tail = (self._tail + chunk)[-TAIL:]

    def _end_gap(self) -> None:
        """Say how much was left out, and go on with the lines at its end that are whole."""
        if not self._left_out:
            return
        tail = self._whole_lines_of_tail()
        end_of_line = b"\n" if self._partial else b""
        gap = b"[tasak: %d bytes were left out here: too many at once]\n" % (self._left_out - len(tail))
        self._left_out, self._tail = 0, b""
        self._take(end_of_line + gap + tail)

    def _whole_lines_of_tail(self) -> bytes:
        _, _, tail = self._tail.partition(b"\n")
        return tail

    def _keep(self, lines: list[bytes]) -> None:
        texts = as_texts(lines)
        self._ring.extend(texts)
        if self._file:
            # A record costs ten times as much as a line.
            self._file.emit(logging.makeLogRecord({"msg": "%s", "args": ("\n".join(texts),)}))
        for text in texts:
            self._on_line(text)


def as_texts(lines: list[bytes]) -> list[str]:
    """All at once, which costs a fifth: neither a replacement nor an escape goes over the end of a line."""
    cut = [line[:LINE_LENGTH].rstrip(b"\r") for line in lines]
    return inert(b"\n".join(cut).decode("utf-8", "replace")).split("\n")


def rotating_file(path: Path) -> PrivateRotatingFile | None:
    try:
        make_private(path.parent)
        return PrivateRotatingFile(path)
    except (OSError, BadConfig) as problem:
        log.warning("no log of the app's stderr: %s", problem)
        return None
