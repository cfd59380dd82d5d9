"""What an app's processes say on stderr: the last lines in memory, all of it in a file that does not grow for ever."""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Sequence
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO, cast

from tasak.errors import BadConfig
from tasak.inert import inert
from tasak.paths import open_private

# Enough to find the cause of a crash in; a line is cut where nobody reads on.
RING_LINES = 200
LINE_LENGTH = 4000

FILE_SIZE = 1 << 20
FILES = 5

CHUNK = 1 << 16

log = logging.getLogger(__name__)


class PrivateRotatingFile(RotatingFileHandler):
    """A rotating log that only its owner can read, whatever the umask is, and that follows no link."""

    def _open(self) -> TextIOWrapper:
        fd = open_private(Path(self.baseFilename), os.O_WRONLY | os.O_APPEND)
        file: TextIO = os.fdopen(fd, "a", encoding="utf-8", errors="backslashreplace")
        return cast("TextIOWrapper", file)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A full disk must not cost a call: the line is dropped, the ring still has it."""


class StderrLog:
    """One process's stderr."""

    def __init__(self, path: Path | None) -> None:
        self._ring: deque[str] = deque(maxlen=RING_LINES)
        self._partial = b""
        self._file = rotating_file(path) if path else None

    def lines(self) -> Sequence[str]:
        return [*self._ring, *([self._as_text(self._partial)] if self._partial else [])]

    async def drain(self, stream: asyncio.StreamReader) -> None:
        """Read until the end. A process never waits for us to read its stderr."""
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
        return PrivateRotatingFile(path, maxBytes=FILE_SIZE, backupCount=FILES - 1)
    except (OSError, BadConfig) as problem:
        log.warning("no log of the app's stderr: %s", problem)
        return None
