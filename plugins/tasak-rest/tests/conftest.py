"""A pet shop, and sessions with it."""

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
from petshop import Petshop
from tasak.plugin import AppConfig, Host

import tasak_rest
from tasak_rest.session import RestSession

PATIENCE = 20.0

Open = Callable[..., AbstractAsyncContextManager[RestSession]]


@pytest.fixture
async def shop() -> AsyncIterator[Petshop]:
    async with Petshop() as shop:
        yield shop


@pytest.fixture
def rest(shop: Petshop, tmp_path: Path) -> Open:
    """Opens sessions: with the shop, unless the options say otherwise."""

    @asynccontextmanager
    async def opened(**options: Any) -> AsyncIterator[RestSession]:
        session = await connect(tmp_path, {"openapi": f"{shop.url}/openapi.json", **options})
        try:
            yield session
        finally:
            await tasak_rest.close(session)

    return opened


async def connect(directory: Path, options: Mapping[str, Any]) -> RestSession:
    app = AppConfig(name="shop", options=options, directory=directory, path="/usr/bin:/bin")
    # All that this transport asks of its host.
    log = logging.getLogger("tasak.apps.shop")
    host = cast("Host", SimpleNamespace(load=load, log=log, init_timeout=PATIENCE))
    async with asyncio.timeout(PATIENCE):
        return await tasak_rest.connect(app, host)


async def load(module: str) -> ModuleType:
    return importlib.import_module(module)


async def call(session: RestSession, tool: str, *, within: float = PATIENCE, **arguments: Any) -> dict[str, Any]:
    return await session.request("tools/call", {"name": tool, "arguments": arguments}, timeout=within)


def text(result: Mapping[str, Any]) -> str:
    """The text of a result that has no other blocks."""
    return "\n".join(block["text"] for block in result["content"])
