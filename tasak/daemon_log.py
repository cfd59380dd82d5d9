"""The daemon's log: JSON lines, one physical line a record."""

import logging
from pathlib import Path

import structlog
from structlog.typing import Processor

from tasak.logs import PrivateRotatingFile

SHARED: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(path: Path, level: str) -> None:
    """Send every record of this process to the file."""
    handler = PrivateRotatingFile(path)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(ensure_ascii=True),
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
