"""A lock between processes, and between the tasks of one: whoever has the file open and locked."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tasak.errors import BadConfig, NotExecuted
from tasak.locking import LOCK_POLL, has_locked
from tasak.paths import open_private, quoted


@asynccontextmanager
async def locked(path: Path, timeout: float) -> AsyncIterator[None]:  # noqa: ASYNC109 - for the lock, not for the block
    """Hold the lock at `path`, which is waited for at most `timeout` seconds.

    Raises:
        NotExecuted: someone else held it all the time.
        BadConfig: there can be no such file.
    """
    try:
        fd = open_private(path, os.O_RDWR)
    except OSError as problem:
        raise BadConfig(f"{path} cannot be opened: {problem}", fix=f"remove it: rm {quoted(path)}") from None
    try:
        await take(fd, timeout)
        yield
    finally:
        os.close(fd)


async def take(fd: int, timeout: float) -> None:  # noqa: ASYNC109 - as above
    try:
        async with asyncio.timeout(timeout):
            while not has_locked(fd):  # noqa: ASYNC110 - another process has no event of ours to set
                await asyncio.sleep(LOCK_POLL)
    except TimeoutError:
        raise NotExecuted(
            f"another process has been signing in for {timeout:g} s", fix="try again; if it stays so, end that process"
        ) from None
