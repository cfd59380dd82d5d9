"""Heavy modules, imported in a thread, one after the other.

Two threads that enter a package with circular imports by different doors find it half made; mcp is one.
"""

import asyncio
import pkgutil
import threading
from importlib import import_module
from types import ModuleType

ONE_AT_A_TIME = threading.Lock()


def load(name: str) -> ModuleType:
    """The module, imported when nobody else imports one this way."""
    with ONE_AT_A_TIME:
        return import_module(name)


def load_all(package: str) -> None:
    """Each module of the package. Files that come in the place of theirs later may be of another version."""
    for found in pkgutil.iter_modules(load(package).__path__, f"{package}."):
        if not found.ispkg:
            load(found.name)


async def load_aside(name: str) -> ModuleType:
    """The same, while the loop has other callers."""
    return await asyncio.to_thread(load, name)
