"""Log files that only their owner can read and that do not grow for ever."""

import logging
import os
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO, cast

from tasak.paths import open_private

FILE_SIZE = 1 << 20
FILES = 5


class PrivateRotatingFile(RotatingFileHandler):
    """Five files of 1 MiB, mode 0600 whatever the umask is; follows no link."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=FILE_SIZE, backupCount=FILES - 1)

    def _open(self) -> TextIOWrapper:
        fd = open_private(Path(self.baseFilename), os.O_WRONLY | os.O_APPEND)
        file: TextIO = os.fdopen(fd, "a", encoding="utf-8", errors="backslashreplace")
        return cast("TextIOWrapper", file)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A full disk must not cost a call: the line is dropped."""
