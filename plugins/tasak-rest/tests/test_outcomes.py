"""What is known of a call that failed: whether it may have run."""

import asyncio
import json
import time

import pytest
from conftest import PATIENCE, call, connect
from tasak.plugin import BadConfig, CallTimedOut, ConnectFailed, NotExecuted, OutcomeUnknown
from tasak.testing.proxy import FaultProxy, Plan, Way

import tasak_rest

REX = {"name": "Rex", "owner": {"email": "a@b"}}


@pytest.fixture
async def proxy(shop):
    async with FaultProxy(("127.0.0.1", shop.port)) as proxy:
        yield proxy


@pytest.fixture
def through(rest, proxy):
    """Opens a session through the proxy."""
    return lambda: rest(base_url=f"http://127.0.0.1:{proxy.port}/v1")


async def call_with(plan: Plan, proxy: FaultProxy, session):
    """A call over a connection of its own, which fares as `plan` says."""
    await proxy.cut()
    proxy.plans.append(plan)
    return await call(session, "createPet", **REX)


async def test_a_service_that_is_not_there_has_executed_nothing_and_may_come_back(rest, shop):
    async with rest() as session:
        await shop.__aexit__(None, None, None)
        with pytest.raises(NotExecuted, match=r"POST .*/v1/pets: it cannot be reached"):
            await call(session, "createPet", **REX)
        async with shop:
            assert not (await call(session, "createPet", **REX))["isError"]

    assert [1] == list(shop.pets)


@pytest.mark.parametrize(
    "plan",
    [
        Plan(up=Way(cut_after=0)),
        Plan(up=Way(cut_after=30)),
        Plan(up=Way(cut_after=30), rst=True),
    ],
    ids=["at once", "within the request", "reset"],
)
async def test_a_connection_that_breaks_while_the_request_is_written_leaves_it_unknown(through, proxy, shop, plan):
    async with through() as session:
        with pytest.raises(OutcomeUnknown, match="the connection broke before the answer was there"):
            await call_with(plan, proxy, session)

    assert {} == shop.pets


@pytest.mark.parametrize(
    "plan",
    [Plan(close_before_reply=True), Plan(down=Way(cut_after=40)), Plan(down=Way(cut_after=200), rst=True)],
    ids=["before the reply", "within its head", "within its body"],
)
async def test_a_connection_that_breaks_in_the_answer_leaves_it_unknown(through, proxy, shop, plan):
    async with through() as session:
        with pytest.raises(OutcomeUnknown):
            await call_with(plan, proxy, session)

    assert [1] == list(shop.pets)


async def test_one_broken_call_leaves_its_neighbours_alone(through, proxy, shop):
    async with through() as session:
        slow = asyncio.create_task(call(session, "slow"))
        await shop.begun.wait()
        proxy.plans.append(Plan(close_before_reply=True))
        with pytest.raises(OutcomeUnknown):
            await call(session, "createPet", **REX)

        assert not slow.done()
        assert not session.ended.is_set()
        slow.cancel()


async def test_a_connection_that_is_not_made_in_time_has_executed_nothing(rest):
    release = asyncio.Event()

    async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    server = await asyncio.start_server(says_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        # TLS is part of the connection: none of the request is written before.
        with pytest.raises(ConnectFailed, match="no connection in time") as caught:
            async with rest(base_url=f"https://127.0.0.1:{port}", timeout=0.2):
                pass
    finally:
        release.set()
        server.close()

    assert isinstance(caught.value.__cause__, NotExecuted)


async def test_a_call_that_takes_too_long_is_given_up_and_the_service_learns_it(rest, shop):
    async with rest() as session:
        began = time.monotonic()
        with pytest.raises(CallTimedOut, match=r"no answer to POST .*/v1/slow within 0.3 s"):
            await call(session, "slow", within=0.3)

        assert time.monotonic() - began < PATIENCE / 4
        async with asyncio.timeout(PATIENCE):
            await shop.cancelled.wait()
        assert not (await call(session, "createPet", **REX))["isError"]


async def test_cancelling_a_call_cancels_the_request(rest, shop):
    async with rest() as session:
        under_way = asyncio.create_task(call(session, "slow"))
        await shop.begun.wait()

        under_way.cancel()
        async with asyncio.timeout(PATIENCE):
            await shop.cancelled.wait()
        with pytest.raises(asyncio.CancelledError):
            await under_way

        assert not (await call(session, "createPet", **REX))["isError"]


async def test_a_call_that_is_under_way_when_the_session_closes_is_unknown(rest, shop):
    async with rest() as session:
        under_way = asyncio.create_task(call(session, "slow"))
        await shop.begun.wait()

    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(under_way, PATIENCE)


async def test_after_the_session_is_closed_nothing_is_executed(rest):
    async with rest() as session:
        pass

    assert session.ended.is_set()
    with pytest.raises(NotExecuted):
        await call(session, "createPet", **REX)


async def test_a_session_may_be_closed_twice(rest):
    async with rest() as session:
        await tasak_rest.close(session)


async def test_a_header_that_http_cannot_carry_is_not_shown(rest, shop):
    async with rest() as session:
        with pytest.raises(NotExecuted, match="a header that HTTP cannot carry") as caught:
            await call(session, "listPets", **{"X-Request-ID": "secret\nX: y"})

    assert "secret" not in str(caught.value)


# Pings


async def test_any_answer_of_the_base_is_a_sign_of_life(rest, shop):
    async with rest() as session:
        await tasak_rest.ping(session)
        await session.request("ping", None, timeout=1)

    assert [("HEAD", "/v1")] * 3 == [(ping.method, ping.path) for ping in shop.pings]


async def test_a_ping_of_a_service_that_is_gone_fails(rest, shop):
    async with rest() as session:
        await shop.__aexit__(None, None, None)
        with pytest.raises(NotExecuted):
            await tasak_rest.ping(session)
        await shop.__aenter__()
        await tasak_rest.ping(session)


async def test_health_has_to_be_a_success(rest, shop):
    async with rest(health="/health") as session:
        shop.is_well = False
        with pytest.raises(NotExecuted, match=r"GET .*/health answered 503"):
            await tasak_rest.ping(session)
        shop.is_well = True
        await tasak_rest.ping(session)

    assert {("GET", "/health")} == {(ping.method, ping.path) for ping in shop.pings}


async def test_a_ping_that_is_not_answered_ends(rest, shop, proxy):
    async with rest(base_url=f"http://127.0.0.1:{proxy.port}/v1", timeout=0.3) as session:
        await proxy.cut()
        proxy.plans.append(Plan(down=Way(stall_after=0)))
        with pytest.raises(OutcomeUnknown):
            await tasak_rest.ping(session)


async def test_health_is_at_the_service(rest):
    with pytest.raises(BadConfig, match=r"health: http://127.0.0.2/ is not at 127.0.0.1"):
        async with rest(health="http://127.0.0.2/"):
            pass


async def test_a_service_that_is_not_well_is_not_connected_to(rest, shop):
    shop.is_well = False

    with pytest.raises(ConnectFailed, match="answered 503"):
        async with rest(health="/health"):
            pass


async def test_a_service_that_is_not_there_is_not_connected_to(tmp_path, shop):
    (tmp_path / "shop.json").write_text(json.dumps(shop.description))
    await shop.__aexit__(None, None, None)

    with pytest.raises(ConnectFailed, match="cannot be reached"):
        await connect(tmp_path, {"openapi": "shop.json", "base_url": shop.url})
    await shop.__aenter__()
