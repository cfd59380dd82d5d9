"""A connection breaks, at every byte of a request and at every byte of a reply: what the caller is told is true."""

import asyncio
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from tasak.client import launcher
from tasak.client.fast import request_head
from tasak.paths import StateDir
from tasak.request import Request
from tasak.testing import FaultProxy, HttpServer, Plan, Way
from tests.client.daemon_stub import GO_AHEAD
from tests.reliability.commands import Commands
from tests.reliability.world import End, World

pytestmark = [pytest.mark.slow, pytest.mark.keeps("the daemon and its servers serve the whole module")]

Direction = Literal["up", "down"]
Road = Callable[[World, Path, str], Awaitable[End]]

# Who got half a go-ahead waits two seconds for the rest of it: many at once.
AT_ONCE = 32


SOME_OR_EVERY = pytest.mark.parametrize(
    "step", [29, pytest.param(1, marks=[pytest.mark.timeout(200)])], ids=["some", "every"]
)


@dataclass(frozen=True, slots=True)
class Cut:
    """What came of one call whose connection was cut after so many bytes of one direction."""

    after: int
    outcome: str
    executions: int
    said: str = field(default="", compare=False)


def plan(direction: Direction, after: int) -> Plan:
    way = Way(cut_after=after)
    return Plan(up=way) if direction == "up" else Plan(down=way)


# ── between the command and the daemon ───────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def terse(shared: World) -> World:
    """Its callers have little to say: each byte of theirs is a test."""
    shared.env["PATH"] = "/usr/bin"
    assert 0 == shared(*shared.words(shared.new_mark())).returncode
    return shared


async def client(world: World, home: Path, mark: str) -> End:
    """What the full CLI asks the daemon with."""
    connection = launcher.connect(StateDir(home / ".tasak"))
    return await asyncio.to_thread(world.call, world.request(mark), connection)


def command(commands: Commands) -> Road:
    """The whole command: it may ask again, or call directly."""

    async def road(world: World, home: Path, mark: str) -> End:
        env = {**world.env, "HOME": str(home)}
        return End.of_command(await asyncio.to_thread(commands, *world.words(mark), env=env, cwd=Path("/")))

    return road


async def through_proxy(world: World, road: Road, home: Path, mark: str, *plans: Plan) -> tuple[End, FaultProxy]:
    """Make a call from a home whose daemon is reached through a proxy alone."""
    state = home / ".tasak"
    if not state.exists():
        state.mkdir(0o700, parents=True)
        shutil.copy(world.state.config, state)
    listen = state / "daemon.sock"
    listen.unlink(missing_ok=True)
    async with FaultProxy(world.state.socket, plans, listen=listen) as proxy:
        return await road(world, home, mark), proxy


async def cuts(world: World, road: Road, direction: Direction, places: Iterable[int]) -> list[Cut]:
    """Cut a call at each of the places."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(AT_ONCE))
    homes: asyncio.Queue[Path] = asyncio.Queue()
    for number in range(AT_ONCE):
        homes.put_nowait(world.home / f"home{number:02}")

    async def cut(after: int) -> Cut:
        home, mark = await homes.get(), world.new_mark()
        end, _ = await through_proxy(world, road, home, mark, plan(direction, after))
        homes.put_nowait(home)
        return Cut(after, end.outcome, world.executions()[mark], end.said)

    return await asyncio.gather(*map(cut, places))


async def lengths(world: World, road: Road) -> tuple[int, int, int]:
    """How many bytes pass in an uncut call: the request's head, all of the request, and the go-ahead with the reply."""
    _, proxy = await through_proxy(world, road, world.home / "home00", world.new_mark())
    (passage,) = proxy.passages
    head = len(request_head("scribe", False, 999))
    assert 100 <= passage.up.passed - head <= 999
    return head, passage.up.passed, passage.down.passed


async def test_a_request_that_breaks_off_is_run_by_nobody_and_that_is_what_the_client_says(terse):
    head, request, _ = await lengths(terse, client)

    found = await cuts(terse, client, "up", range(request))

    expected = [Cut(after, "not_executed" if after <= head else "unknown", 0) for after in range(request)]
    assert expected == found


async def test_a_reply_that_breaks_off_leaves_open_what_ran_and_what_did_not_where_nothing_was_sent(terse):
    _, _, reply = await lengths(terse, client)

    found = await cuts(terse, client, "down", range(reply + 1))

    before = [Cut(after, "not_executed", 0) for after in range(len(GO_AHEAD))]
    during = [Cut(after, "unknown", 1) for after in range(len(GO_AHEAD) + 1, reply)]
    assert [*before, Cut(len(GO_AHEAD), "unknown", 0), *during, Cut(reply, "executed", 1)] == found


async def test_who_is_cut_off_when_all_was_sent_cannot_know(terse):
    _, request, _ = await lengths(terse, client)

    found = await cuts(terse, client, "up", [request] * 20)

    assert {"unknown"} == {each.outcome for each in found}
    assert {each.executions for each in found} <= {0, 1}


@SOME_OR_EVERY
async def test_a_command_whose_request_breaks_off_asks_again_only_if_nothing_of_the_call_was_sent(
    terse, commands, step
):
    head, request, _ = await lengths(terse, command(commands))
    places = sorted({*range(0, request, step), head, head + 1, request - 1})

    found = await cuts(terse, command(commands), "up", places)

    expected = [Cut(after, "executed", 1) if after <= head else Cut(after, "unknown", 0) for after in places]
    assert expected == found


@SOME_OR_EVERY
async def test_a_command_whose_reply_breaks_off_says_so_and_does_not_ask_again(terse, commands, step):
    _, _, reply = await lengths(terse, command(commands))
    called = len(GO_AHEAD)
    places = sorted({*range(0, reply, step), called - 1, called, called + 1, reply - 1, reply})

    found = await cuts(terse, command(commands), "down", places)

    before = [Cut(after, "executed", 1) for after in places if after < called]
    during = [Cut(after, "unknown", 1) for after in places if called < after < reply]
    assert [*before, Cut(called, "unknown", 0), *during, Cut(reply, "executed", 1)] == found


# ── between the daemon and a server elsewhere ────────────────────────────────────────────────────────────────────


# More than there are in a request or an answer here.
MANY_BYTES = 700

# How much of the end of such a stream belongs to the last answer, or a little more.
ANSWER = 150

# The stream by which the server speaks to us is opened anew after each cut: it and the call's own connection.
CONNECTIONS = 2


@SOME_OR_EVERY
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_what_is_said_of_a_call_to_a_server_elsewhere_is_true(shared, era, direction, step):
    async with HttpServer(eras=[era]) as server, FaultProxy(("127.0.0.1", server.port)) as proxy:
        there = {"url": f"http://127.0.0.1:{proxy.port}/mcp"}
        call = echo(shared, server, shared.request_of("there", "echo", "--text", "x", env=shared.env_with(there=there)))
        await call()
        found = []
        for after in range(0, MANY_BYTES, step):
            await proxy.cut()
            proxy.plans[:] = [plan(direction, after)] * CONNECTIONS
            found.append((after, *await call()))
            proxy.plans.clear()

    assert_honest(found)


@SOME_OR_EVERY
async def test_what_is_said_of_a_call_whose_message_breaks_off_is_true(shared, step):
    async with HttpServer(only_sse=True) as server, FaultProxy(("127.0.0.1", server.port)) as proxy:
        there = {"url": f"http://127.0.0.1:{proxy.port}/mcp", "transport": "sse"}
        call = echo(shared, server, shared.request_of("there", "echo", "--text", "x", env=shared.env_with(there=there)))
        await call()
        found = []
        for after in range(0, MANY_BYTES, step):
            proxy.plans[:] = [plan("up", after)]
            found.append((after, *await call()))
            proxy.plans.clear()

    assert_honest(found)


@SOME_OR_EVERY
async def test_what_is_said_of_a_call_whose_stream_of_events_breaks_off_is_true(shared, step):
    async with HttpServer(only_sse=True) as server, FaultProxy(("127.0.0.1", server.port)) as proxy:

        def opened_anew() -> Request:
            there = {"url": f"http://127.0.0.1:{proxy.port}/mcp", "transport": "sse"}
            return shared.request_of("there", "echo", "--text", "x", env=shared.env_with(there=there))

        await echo(shared, server, opened_anew())()
        end = proxy.passages[0].down.passed
        found = []
        for after in range(end - ANSWER, end + 1, step):
            proxy.plans[:] = [plan("down", after)]
            found.append((after, *await echo(shared, server, opened_anew())()))

    assert_honest(found)


def echo(world: World, server: HttpServer, request: Request) -> Callable[[], Awaitable[tuple[End, int]]]:
    """A call, which may be made again and again: its end, and how often it was run."""

    async def call() -> tuple[End, int]:
        ran = len(server.executed())
        end = await asyncio.to_thread(world.call, request)
        return end, len(server.executed()) - ran

    return call


def assert_honest(found: Sequence[tuple[int, End, int]]) -> None:
    assert [] == [each for each in found if not each[1].is_honest_about(each[2])]
    outcomes = Counter(end.outcome for _, end, _ in found)
    assert outcomes["unknown"] > len(found) / 5
