"""The daemon's log: JSON lines, one physical line a record."""

import logging
from logging.handlers import MemoryHandler
from pathlib import Path

from tasak.failure import trace
from tasak.importing import leaving_out
from tasak.logs import PrivateRotatingFile

# What it would paint a console with, which we have none of: 5 MiB, and half the time of its import.
with leaving_out("rich"):
    import structlog
    from structlog.typing import Processor

SHARED: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def write_to(path: Path, early: MemoryHandler) -> PrivateRotatingFile:
    """Send every record of this process to the file, those that are in `early` first.

    Raises:
        OSError, BadConfig: it cannot be opened.
    """
    handler = PrivateRotatingFile(path)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.ExceptionRenderer(lambda raised: trace(raised[1])),
                structlog.processors.JSONRenderer(ensure_ascii=True),
            ],
        )
    )
    # Other threads log meanwhile: what still goes to `early` goes on at once.
    early.setTarget(handler)
    early.flushLevel = logging.NOTSET
    early.flush()
    logging.getLogger().handlers = [handler]
    # They log each request with its URL, which may have a secret in it.
    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    return handler
