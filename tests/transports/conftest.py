from collections.abc import AsyncIterator

import pytest

from tasak.testing import HttpServer
from tests.core.pool import Pool, pool

__all__ = ["pool", "server"]


@pytest.fixture
async def server(pool: Pool) -> AsyncIterator[HttpServer]:
    async with HttpServer() as made:
        yield made
