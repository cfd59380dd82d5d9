"""What an app's processes say on stderr: the last lines in memory, all of it in a file that does not grow for ever."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from tasak.errors import BadConfig
from tasak.inert import inert
from tasak.logs import PrivateRotatingFile

# Enough to find the cause of a crash in; a line is cut where nobody reads on.
RING_LINES = 200
LINE_LENGTH = 4000

CHUNK = 1 << 16

log = logging.getLogger(__name__)


class StderrLog:
    """One process's stderr."""

    def __init__(self, path: Path | None) -> None:
        self._ring: deque[str] = deque(maxlen=RING_LINES)
        self._partial = b""
        self._path = path
        self._file: PrivateRotatingFile | None = None

    def lines(self) -> Sequence[str]:
        return [*self._ring, *([self._as_text(self._partial)] if self._partial else [])]

    async def drain(self, stream: asyncio.StreamReader) -> None:
        """Read until the end. A process never waits for us to read its stderr."""
        self._file = rotating_file(self._path) if self._path else None
        while chunk := await stream.read(CHUNK):
            *whole, self._partial = (self._partial + chunk).split(b"\n")
            for line in whole:
                self._keep(line)
            self._partial = self._partial[:LINE_LENGTH]
        if self._partial:
            self._keep(self._partial)
            self._partial = b""

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _keep(self, line: bytes) -> None:
        text = self._as_text(line)
        self._ring.append(text)
        if self._file:
            self._file.emit(logging.makeLogRecord({"msg": "%s", "args": (text,)}))

    def _as_text(self, line: bytes) -> str:
        return inert(line[:LINE_LENGTH].decode("utf-8", "replace").rstrip("\r"))


def rotating_file(path: Path) -> PrivateRotatingFile | None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return PrivateRotatingFile(path)
    except (OSError, BadConfig) as problem:
        log.warning("no log of the app's stderr: %s", problem)
        return None
