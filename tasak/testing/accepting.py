"""How a server of asyncio's stops to accept connections without losing one."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

# A connection that was accepted is known to its protocol a few turns of the loop later.
TURNS = 4


class HasFileno(Protocol):
    def fileno(self) -> int: ...


async def stop_accepting(sockets: Iterable[HasFileno]) -> None:
    """Accept nothing more from these; returns when whatever was accepted before is a connection.

    Closing a server comes after this: asyncio forgets what it has accepted just then, and leaves it open for ever.
    """
    for listening in sockets:
        asyncio.get_running_loop().remove_reader(listening.fileno())
    for _ in range(TURNS):
        await asyncio.sleep(0)
