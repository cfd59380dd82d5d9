from collections.abc import Iterator

import pytest

from tests.core.pool import pool
from tests.reliability.commands import Commands
from tests.reliability.world import World

__all__ = ["commands", "pool", "shared", "world"]


@pytest.fixture
def world() -> Iterator[World]:
    with World() as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[World]:
    """One whose daemon the tests of a module share: they are marked with `keeps`."""
    with World() as made:
        yield made


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    with Commands() as made:
        yield made
