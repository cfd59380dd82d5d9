"""`http` and `sse` against the MCP SDK's own servers, in each of the ways in which they are run."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tasak.core.tool_service import ToolCall
from tasak.errors import NotExecuted
from tasak.plugin import Progress
from tests.core.pool import Pool, soon
from tests.transports.sdk_servers import Witness, server, serving

pytestmark = pytest.mark.slow

ERAS = ("handshake", "stateless")
STREAMABLE: dict[str, dict[str, Any]] = {
    "with sessions": {},
    "without sessions": {"stateless_http": True},
    "with JSON": {"json_response": True},
    "with JSON and without sessions": {"json_response": True, "stateless_http": True},
}

streamable = pytest.mark.parametrize("kind", STREAMABLE)
in_both_eras = pytest.mark.parametrize("era", ERAS)


@pytest.fixture
async def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pool]:
    """Not held to leaving nothing in the loop: a task of these servers' library stays there for good."""
    monkeypatch.setenv("HOME", str(tmp_path))
    async with Pool(tmp_path) as made:
        yield made


@pytest.fixture
def witness() -> Witness:
    return Witness()


async def hold_to_the_promises(pool: Pool, app: Any) -> None:
    """Listed, called, called by fifty at once, and asked for much."""
    assert ["echo", "big", "steps", "sleep"] == [
        each["name"] for each in (await soon(pool.service.list_tools(app))).tools
    ]
    numbers = [str(number) for number in range(50)]
    assert numbers == await asyncio.gather(*(pool.text(app, "echo", text=number) for number in numbers))
    assert 4 << 20 == len(await pool.text(app, "big", size=4 << 20))
    await soon(pool.manager.find(app).ping())


async def progress_of(pool: Pool, app: Any) -> list[float]:
    seen: list[Progress] = []
    call = ToolCall(app=app, tool="steps", arguments={"count": 3, "seconds": 0.05}, on_progress=seen.append)
    await soon(pool.service.call(call))
    return [each.progress for each in seen]


async def cancel(pool: Pool, app: Any, witness: Witness) -> None:
    call = asyncio.ensure_future(pool.call(app, "sleep", seconds=1000))
    await witness.says("sleep")
    call.cancel()
    await witness.says("cancel")


@in_both_eras
@streamable
async def test_streamable_http(pool, witness, kind, era):
    async with serving(server(witness).streamable_http_app(**STREAMABLE[kind])) as origin:
        app = pool.reach(f"{origin}/mcp", protocol=era)

        await hold_to_the_promises(pool, app)

        await pool.gateway.shut_down()


async def test_a_server_of_both_eras_is_spoken_to_without_a_handshake(pool, witness):
    async with serving(server(witness).streamable_http_app()) as origin:
        app = pool.reach(f"{origin}/mcp")

        await pool.call(app, "echo", text="hello")

        assert "stateless" == pool.manager.find(app).era
        assert "sdk" == pool.manager.find(app).session.server_info["name"]
        await pool.gateway.shut_down()


@in_both_eras
async def test_progress_and_cancellation(pool, witness, era):
    async with serving(server(witness).streamable_http_app()) as origin:
        app = pool.reach(f"{origin}/mcp", protocol=era)

        assert [1, 2, 3] == await progress_of(pool, app)
        await cancel(pool, app, witness)
        assert "warm" == (await pool.call(app, "echo", text="hello")).mark

        await pool.gateway.shut_down()


async def test_sse(pool, witness):
    async with serving(server(witness).sse_app()) as origin:
        app = pool.reach(f"{origin}/sse", transport="sse")

        await hold_to_the_promises(pool, app)
        assert [1, 2, 3] == await progress_of(pool, app)
        await cancel(pool, app, witness)
        assert "warm" == (await pool.call(app, "echo", text="hello")).mark

        await pool.gateway.shut_down()


async def test_sse_is_found_where_http_was_expected(pool, witness):
    async with serving(server(witness).sse_app()) as origin:
        app = pool.reach(f"{origin}/sse")

        assert "hello" == await pool.text(app, "echo", text="hello")

        assert "sse" == pool.manager.find(app).transport
        await pool.gateway.shut_down()


async def test_the_wrong_path_is_an_error_that_names_it(pool, witness):
    async with serving(server(witness).streamable_http_app()) as origin:
        with pytest.raises(NotExecuted, match="/else answered HTTP 404 Not Found"):
            await pool.call(pool.reach(f"{origin}/else"), "echo", text="hello")
