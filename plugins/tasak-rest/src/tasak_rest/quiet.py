"""Keeps what our libraries log within bounds."""

import logging


def keep_libraries_quiet() -> None:
    """FastMCP's import sets up a log of its own on stderr, and httpx2 logs every URL, with the arguments in it."""
    logger = logging.getLogger("fastmcp")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
