"""Log files that only their owner can read and that do not grow for ever."""

import logging
import os
import sys
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO, cast

from tasak.errors import BadConfig
from tasak.paths import open_private

FILE_SIZE = 1 << 20
FILES = 5


class PrivateRotatingFile(RotatingFileHandler):
    """Five files of 1 MiB, mode 0600 whatever the umask is; follows no link."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=FILE_SIZE, backupCount=FILES - 1)
        self.trouble: OSError | BadConfig | None = None
        """Why the last line was dropped."""

    def emit(self, record: logging.LogRecord) -> None:
        self.trouble = None
        super().emit(record)

    def _open(self) -> TextIOWrapper:
        fd = open_private(Path(self.baseFilename), os.O_WRONLY | os.O_APPEND)
        file: TextIO = os.fdopen(fd, "a", encoding="utf-8", errors="backslashreplace")
        return cast("TextIOWrapper", file)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A full disk must not cost a call: the line is dropped."""
        problem = sys.exception()
        self.trouble = problem if isinstance(problem, OSError | BadConfig) else None


def rotated(path: Path) -> list[Path]:
    """The files that the log at `path` becomes, one after the other."""
    return [path.with_name(f"{path.name}.{number}") for number in range(1, FILES)]
