"""What becomes of sessions over `http`: streams that break, servers that die, forget, or speak something else."""

import asyncio
from collections import Counter

import pytest

from tasak.core.tool_service import ToolCall
from tasak.errors import (
    CallTimedOut,
    ConnectFailed,
    NotExecuted,
    OutcomeUnknown,
    SessionLost,
    SignInNeeded,
)
from tasak.plugin import Progress
from tasak.testing import Answers, EndsEarly, FaultProxy, Hangs, HttpServer, Plan, Way
from tests.core.pool import close_all, failure_of, soon, until

STALLS = Plan(up=Way(stall_after=0))


# A stream that breaks


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_an_answer_whose_stream_broke_is_fetched_and_nothing_runs_again(pool, after):
    seen: list[Progress] = []
    async with HttpServer(eras=["handshake"]) as server:
        app = pool.reach(server.url)
        await pool.call(app, "echo", text="hello")
        server.spoil("tools/call", EndsEarly(after))
        call = ToolCall(app=app, tool="progress", arguments={"steps": 2, "seconds": 0.05}, on_progress=seen.append)

        answer = await soon(pool.service.call(call))

    assert "done" == answer.result["content"][0]["text"]
    assert [1, 2] == [each.progress for each in seen]
    assert 1 == server.executed().count("progress")
    assert any("Last-Event-ID" in each.headers for each in server.requests)


async def test_an_answer_is_asked_for_again_where_that_fails(pool):
    async with HttpServer(eras=["handshake"]) as server:
        app = pool.reach(server.url)
        await pool.call(app, "echo", text="hello")
        server.spoil("tools/call", EndsEarly(0))
        server.spoil("GET", Answers(503))

        assert "slept" == await pool.text(app, "sleep", seconds=0)

    assert 1 == server.executed().count("sleep")


async def test_an_answer_that_cannot_be_fetched_is_of_unknown_outcome(pool):
    async with HttpServer(eras=["handshake"]) as server:
        app = pool.reach(server.url)
        await pool.call(app, "echo", text="hello")
        server.spoil("tools/call", EndsEarly(0))
        server.spoil("GET", Answers(404, b""))

        problem = await failure_of(pool.call(app, "sleep", seconds=0))

    assert SessionLost is type(problem)
    assert "broke off its answer, and then: " in problem.message
    assert "HTTP 404 Not Found" in problem.message
    assert 1 == server.executed().count("sleep")


async def test_an_answer_is_not_waited_for_for_ever(pool):
    async with HttpServer(eras=["handshake"]) as server:
        app = pool.reach(server.url)
        await pool.call(app, "echo", text="hello")
        server.spoil("tools/call", EndsEarly(0))
        server.spoil("GET", *[Answers(503)] * 10)

        problem = await failure_of(pool.call(app, "sleep", seconds=0))

    assert SessionLost is type(problem)
    assert problem.message.endswith("broke off before it had answered")


async def test_without_a_session_there_is_nothing_to_fetch(pool):
    async with HttpServer(eras=["stateless"]) as server:
        app = pool.reach(server.url)
        await pool.call(app, "echo", text="hello")
        server.spoil("tools/call", EndsEarly(0))

        problem = await failure_of(pool.call(app, "sleep", seconds=0))

    assert SessionLost is type(problem)
    assert 1 == server.executed().count("sleep")
    assert [] == [each for each in server.requests if each.method == "GET"]


async def test_closing_a_session_ends_the_wait_for_an_answer(pool):
    body = "id: 1/0\nretry: 30000\ndata: \n\n"
    async with HttpServer(eras=["handshake"]) as server:
        app = pool.reach(server.url)
        await pool.call(app, "echo", text="hello")
        server.spoil("tools/call", Answers(200, body, "text/event-stream", executes=True))
        call = asyncio.ensure_future(pool.call(app, "sleep", seconds=0))
        await until(lambda: "sleep" in server.executed())

        await close_all(pool)

        assert isinstance(await failure_of(call), OutcomeUnknown)


# A server that dies


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_a_server_that_dies_during_a_call_leaves_its_outcome_unknown(pool, era):
    async with HttpServer(eras=[era]) as server:
        app = pool.reach(server.url)

        problem = await failure_of(pool.call(app, "die", status=1))

    assert isinstance(problem, OutcomeUnknown)
    assert 1 == server.executed().count("die")


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_a_server_that_is_gone_says_so_at_the_next_call_and_is_used_again_when_it_is_back(pool, era):
    async with HttpServer(eras=[era]) as server:
        app = pool.reach(server.url)
        await pool.call(app, "echo", text="hello")
        await server.cut()

        problem = await failure_of(pool.call(app, "echo", text="hello"))
        await server.start()
        answer = await pool.call(app, "echo", text="hello")

    assert isinstance(problem, NotExecuted)
    assert f"far echo: {server.url} cannot be reached: connection refused" == problem.message
    # Without a session there was no state to lose.
    assert {"handshake": "restarted", "stateless": "warm"}[era] == answer.mark
    assert 2 == server.executed().count("echo")


async def test_a_session_that_the_server_forgot_is_opened_afresh_and_that_is_said(pool):
    async with HttpServer(eras=["handshake"]) as server:
        app = pool.reach(server.url)
        await pool.call(app, "counter")
        server.sessions.forget()

        answer = await pool.call(app, "counter")

    assert ("restarted", "1") == (answer.mark, answer.result["content"][0]["text"])
    assert 2 == server.executed().count("counter")


async def test_a_call_that_is_not_repeated_says_that_the_session_was_forgotten(pool):
    async with HttpServer(eras=["handshake"]) as server:
        app = pool.reach(server.url, retries=0)
        await pool.call(app, "echo", text="hello")
        server.sessions.forget()

        problem = await failure_of(pool.call(app, "echo", text="hello"))
        answer = await pool.call(app, "echo", text="hello")

    assert (NotExecuted, f"far echo: {server.url} has forgotten the session") == (type(problem), problem.message)
    assert "restarted" == answer.mark


@pytest.mark.parametrize("is_restarted", [True, pytest.param(False, marks=pytest.mark.slow)])
async def test_fifty_callers_of_a_forgotten_session_share_one_fresh_one(pool, is_restarted):
    async with HttpServer(eras=["handshake"]) as server:
        app = pool.reach(server.url)
        await pool.call(app, "echo", text="hello")
        if is_restarted:
            await server.cut()
            await server.start()
        else:
            server.sessions.forget()
        server.requests.clear()

        answers = await asyncio.gather(*(pool.call(app, "sleep", seconds=0.01) for _ in range(50)))

    assert 1 == len(server.heard("initialize"))
    assert Counter(restarted=50) == Counter(each.mark for each in answers)
    assert 50 == server.executed().count("sleep")


async def test_a_connection_that_goes_silent_ends_its_call_in_time_and_not_the_next(pool):
    async with HttpServer() as server, FaultProxy(("127.0.0.1", server.port)) as proxy:
        app = pool.reach(f"http://127.0.0.1:{proxy.port}/mcp", call_timeout=0.3)
        await pool.call(app, "echo", text="hello")
        proxy.plans = [STALLS]
        await proxy.cut()

        problem = await failure_of(pool.call(app, "echo", text="hello"))

        assert CallTimedOut is type(problem)
        assert "warm" == (await pool.call(app, "echo", text="hello")).mark
    assert 2 == server.executed().count("echo")


TOO_SLOW = {"stops in the middle": Way(stall_after=100_000), "comes drop by drop": Way(bandwidth=20_000)}


@pytest.mark.parametrize("down", TOO_SLOW.values(), ids=TOO_SLOW)
async def test_the_time_is_that_of_the_whole_answer(pool, down):
    async with HttpServer() as server, FaultProxy(("127.0.0.1", server.port)) as proxy:
        app = pool.reach(f"http://127.0.0.1:{proxy.port}/mcp", call_timeout=0.3)
        await pool.call(app, "echo", text="hello")
        proxy.plans = [Plan(down=down)]
        await proxy.cut()

        problem = await failure_of(pool.call(app, "big", size=1_000_000))

        assert CallTimedOut is type(problem)
        assert "warm" == (await pool.call(app, "echo", text="hello")).mark
    assert 1 == server.executed().count("big")


# A server that speaks something else


@pytest.mark.parametrize("refusal", [400, 404, 405])
async def test_a_server_of_2024_is_found_and_remembered(pool, refusal):
    async with HttpServer(only_sse=True, refusal=refusal) as server:
        app = pool.reach(server.url)
        assert "hello" == await pool.text(app, "echo", text="hello")
        assert "sse" == pool.manager.find(app).transport
        await close_all(pool)
        server.requests.clear()

        assert "hello" == await pool.text(app, "echo", text="hello")

    assert [("GET", "/mcp"), ("POST", "/messages")] == [(each.method, each.path) for each in server.requests[:2]]


# The first is for the greeting by streamable HTTP, which is refused in any case.
async def test_a_server_of_2024_that_breaks_off_on_its_greeting_is_greeted_in_the_other_era(pool):
    async with HttpServer(only_sse=True) as server:
        server.spoil("initialize", EndsEarly(), EndsEarly())

        assert "hello" == await pool.text(pool.reach(server.url), "echo", text="hello")

    assert 3 == len(server.heard("initialize"))


async def test_a_server_of_2024_that_breaks_off_on_every_greeting_says_so(pool):
    async with HttpServer(only_sse=True) as server:
        server.spoil("initialize", *[EndsEarly()] * 9)
        app = pool.reach(server.url, init_attempts=1)

        problem = await failure_of(pool.call(app, "echo", text="hello"))

    assert (ConnectFailed, f"far: {server.url} ended its event stream") == (type(problem), problem.message)


async def test_another_refusal_is_not_taken_for_a_server_of_2024(pool):
    async with HttpServer(only_sse=True, refusal=403) as server:
        problem = await failure_of(pool.call(pool.reach(server.url), "echo", text="hello"))

    assert ConnectFailed is type(problem)
    assert "HTTP 403 Forbidden" in problem.message
    assert [] == [each for each in server.requests if each.method == "GET"]


async def test_a_url_where_there_is_nothing_says_so(pool):
    async with HttpServer() as server:
        problem = await failure_of(pool.call(pool.reach(f"{server.origin}/nothing"), "echo", text="hello"))

    assert ConnectFailed is type(problem)
    assert f"far: the handshake was refused: {server.origin}/nothing answered HTTP 404 Not Found" in problem.message


async def test_a_server_that_wants_to_know_who_asks_says_what_to_write(pool):
    async with HttpServer() as server:
        server.spoil("server/discover", Answers(401, b"", headers={"WWW-Authenticate": "Bearer"}))

        problem = await failure_of(pool.call(pool.reach(server.url), "echo", text="hello"))

    assert (SignInNeeded, 3) == (type(problem), problem.exit_status)
    assert f"far: {server.url} wants to know who asks (HTTP 401)" == problem.message
    assert "write `auth: oauth` in its config, or mend the token in its headers" == problem.fix


async def test_a_token_that_ran_out_during_a_session_is_a_matter_of_signing_in(pool):
    async with HttpServer() as server:
        app = pool.reach(server.url)
        await pool.call(app, "echo", text="hello")
        server.spoil("tools/call", Answers(401, b""))

        problem = await failure_of(pool.call(app, "echo", text="hello"))

    assert (SignInNeeded, "not_executed") == (type(problem), problem.outcome)
    assert 1 == server.executed().count("echo")


@pytest.mark.slow
async def test_a_server_that_is_silent_on_the_probe_is_shaken_hands_with(pool):
    async with HttpServer(eras=["handshake"]) as server:
        server.spoil("server/discover", Hangs())
        app = pool.reach(server.url)

        assert "hello" == await pool.text(app, "echo", text="hello")

    assert "handshake" == pool.manager.find(app).era
