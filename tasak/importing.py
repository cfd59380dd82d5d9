"""Heavy modules, imported in a thread, one after the other.

Two threads that enter a package with circular imports by different doors find it half made; mcp is one.
"""

import pkgutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from tasak.threads import aside

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
    return await aside(load, name)


@contextmanager
def leaving_out(name: str) -> Iterator[None]:
    """For an import that would take another module along and can do without: as if that one were not installed."""
    if name in sys.modules:
        yield
        return
    with ONE_AT_A_TIME:
        sys.modules[name] = None  # type: ignore[assignment]  # the documented way of saying so
        try:
            yield
        finally:
            del sys.modules[name]
