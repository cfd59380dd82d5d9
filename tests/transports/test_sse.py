"""The `sse` transport: one long stream for all answers, and a POST for each message."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from tasak.core.tool_service import ToolCall
from tasak.errors import (
    CallTimedOut,
    ConnectFailed,
    NotExecuted,
    OutcomeUnknown,
    ServerError,
    SessionLost,
    SignInNeeded,
)
from tasak.plugin import Progress
from tasak.testing import Answers, CutOff, EndsEarly, FaultProxy, Hangs, HttpServer, Plan, Way, no_leaks, redirect
from tests.core.pool import Pool, close_all, failure_of, soon, until

MIB = 1 << 20


def reach(pool: Pool, server: HttpServer, **keys: Any) -> Any:
    return pool.reach(server.sse_url, transport="sse", **keys)


# What works


async def test_a_session_is_opened_once_and_keeps_its_state(pool, server):
    app = reach(pool, server)

    marks = [(await pool.call(app, "echo", text="hello")).mark for _ in range(2)]
    counted = [await pool.text(app, "counter") for _ in range(2)]

    assert (["new", "warm"], ["1", "2"]) == (marks, counted)
    assert 1 == len(server.heard("initialize"))


async def test_fifty_calls_share_one_session(pool, server):
    app = reach(pool, server)

    texts = await asyncio.gather(*(pool.text(app, "echo", text=str(number)) for number in range(50)))

    assert [str(number) for number in range(50)] == texts
    assert 1 == sum(each.method == "GET" for each in server.requests)


@pytest.mark.parametrize("size", [16 * MIB, pytest.param(40 * MIB, marks=pytest.mark.slow)])
async def test_a_result_may_be_large(pool, server, size):
    assert size == len(await pool.text(reach(pool, server), "big", size=size))


async def test_progress_is_passed_on_and_starts_the_time_anew(pool, server):
    seen: list[Progress] = []
    app = reach(pool, server, call_timeout=0.5)
    call = ToolCall(app=app, tool="progress", arguments={"steps": 4, "seconds": 0.2}, on_progress=seen.append)

    await soon(pool.service.call(call))

    assert [1, 2, 3, 4] == [each.progress for each in seen]


async def test_a_changed_list_of_tools_is_heard_of(pool, server):
    app = reach(pool, server)
    await pool.service.list_tools(app)

    server.tools_changed()

    await until(lambda: pool.manager.find(app).tools.known(900) is None)


async def test_a_ping_is_a_round_trip(pool, server):
    app = reach(pool, server)
    await pool.call(app, "echo", text="hello")

    await soon(pool.manager.find(app).ping())

    assert 1 == len(server.heard("ping"))


async def test_a_relative_endpoint_counts_from_where_the_stream_was_redirected_to(pool, server):
    server.legacy.endpoint = "messages"
    server.spoil("GET", redirect("/sse"))
    app = pool.reach(f"{server.origin}/deep/down/sse", transport="sse")

    await pool.call(app, "echo", text="hello")

    assert {"/messages"} == {each.path for each in server.requests if each.method == "POST"}


@pytest.mark.slow
async def test_fifty_sessions_one_after_the_other_leave_nothing(pool, server):
    app = reach(pool, server)
    await pool.call(app, "echo", text="hello")
    await close_all(pool)

    async with no_leaks():
        for _ in range(50):
            await pool.call(app, "echo", text="hello")
            await close_all(pool)


# Nobody waits any more


async def test_cancelling_a_call_reaches_the_server_and_the_session_lives(pool, server):
    app = reach(pool, server)
    call = asyncio.ensure_future(pool.call(app, "sleep", seconds=1000))
    await until(lambda: "sleep" in server.executed())

    call.cancel()

    await until(lambda: "cancel" in server.executed())
    assert "warm" == (await pool.call(app, "echo", text="hello")).mark


async def test_a_call_that_takes_too_long_is_cancelled_at_the_server_and_the_session_lives(pool, server):
    app = reach(pool, server, call_timeout=0.3)

    problem = await failure_of(pool.call(app, "sleep", seconds=1000))

    assert CallTimedOut is type(problem)
    await until(lambda: "cancel" in server.executed())
    assert "warm" == (await pool.call(app, "echo", text="hello")).mark


# What goes wrong with one message

TROUBLES = {
    "400": (Answers(400), ServerError, "answered HTTP 400 Bad Request", 0),
    "405": (Answers(405, b""), ServerError, "answered HTTP 405 Method Not Allowed", 0),
    "500": (Answers(500, executes=True), OutcomeUnknown, "answered HTTP 500 Internal Server Error", 1),
    "redirect": (
        redirect("https://elsewhere.test/"),
        ServerError,
        "points to https://elsewhere.test/, which is not",
        0,
    ),
    "accepted and forgotten": (Answers(202, b""), CallTimedOut, "no answer to tools/call within 1 s", 0),
    "silence": (Hangs(executes=True), CallTimedOut, "no answer to tools/call within 1 s", 1),
    "cut off": (CutOff(), SessionLost, "broke before the answer", 1),
    "cut off unread": (CutOff(executes=False), SessionLost, "broke before the answer", 0),
}


@pytest.mark.parametrize(("fault", "kind", "said", "executed"), TROUBLES.values(), ids=TROUBLES)
async def test_trouble_with_one_call_is_named_and_is_no_trouble_for_the_next(pool, server, fault, kind, said, executed):
    app = reach(pool, server, call_timeout=1)
    await pool.call(app, "echo", text="hello")
    server.spoil("tools/call", fault)

    problem = await failure_of(pool.call(app, "counter"))

    assert kind is type(problem)
    assert said in problem.message
    assert executed == server.executed().count("counter")
    assert "warm" == (await pool.call(app, "echo", text="hello")).mark


async def test_a_server_that_has_forgotten_the_session_gets_another_and_the_call_runs_there(pool, server):
    app = reach(pool, server)
    await pool.call(app, "counter")
    server.spoil("tools/call", Answers(404))

    answer = await pool.call(app, "counter")

    assert ("restarted", "1") == (answer.mark, answer.result["content"][0]["text"])
    assert ["counter", "counter"] == server.executed()


async def test_a_server_that_forgets_every_session_gets_no_third(pool, server):
    app = reach(pool, server)
    await pool.call(app, "counter")
    server.spoil("tools/call", Answers(404), Answers(404))

    problem = await failure_of(pool.call(app, "counter"))

    assert f"far counter: {server.sse_url} has forgotten the session" == problem.message
    assert ("not_executed", 2) == (problem.outcome, len(server.heard("initialize")))


async def test_one_failed_post_fails_its_own_call_only(pool, server):
    app = reach(pool, server)
    await pool.call(app, "echo", text="hello")
    server.spoil("tools/call", CutOff())

    done = await asyncio.gather(*(pool.call(app, "sleep", seconds=0.1) for _ in range(50)), return_exceptions=True)

    assert Counter({"Answer": 49, "SessionLost": 1}) == Counter(type(each).__name__ for each in done)
    assert 50 == server.executed().count("sleep")
    assert 1 == len(server.heard("initialize"))


async def test_a_token_that_ran_out_is_a_matter_of_signing_in(pool, server):
    app = reach(pool, server)
    await pool.call(app, "echo", text="hello")
    server.spoil("tools/call", Answers(401, b""))

    assert SignInNeeded is type(await failure_of(pool.call(app, "echo", text="hello")))


# What goes wrong with the stream


async def test_a_server_that_dies_while_idle_is_missed_at_once_and_replaced_at_the_next_call(pool, server):
    app = reach(pool, server)
    await pool.call(app, "counter")
    session = pool.manager.find(app).session

    await server.cut()
    await soon(session.ended.wait())
    await server.start()
    answer = await pool.call(app, "counter")

    assert ("restarted", "1") == (answer.mark, answer.result["content"][0]["text"])


async def test_a_server_that_dies_during_a_call_leaves_its_outcome_unknown(pool, server):
    problem = await failure_of(pool.call(reach(pool, server), "die", status=1))

    assert isinstance(problem, OutcomeUnknown)
    assert 1 == server.executed().count("die")


async def test_a_stream_that_ends_before_the_answer_leaves_its_outcome_unknown(pool, server):
    app = reach(pool, server)
    await pool.call(app, "echo", text="hello")
    server.spoil("tools/call", EndsEarly())

    problem = await failure_of(pool.call(app, "sleep", seconds=0))

    assert SessionLost is type(problem)
    assert f"far sleep: {server.sse_url} ended its event stream" == problem.message
    assert 1 == server.executed().count("sleep")
    assert "restarted" == (await pool.call(app, "echo", text="hello")).mark


async def test_a_stream_that_goes_silent_ends_a_call_in_time(pool, server):
    async with FaultProxy(("127.0.0.1", server.port), [Plan(down=Way(stall_after=20_000))]) as proxy:
        app = pool.reach(f"http://127.0.0.1:{proxy.port}/sse", transport="sse", call_timeout=0.3)
        await pool.call(app, "echo", text="hello")

        problem = await failure_of(pool.call(app, "big", size=100_000))

        assert CallTimedOut is type(problem)
        await close_all(pool)
        assert "restarted" == (await pool.call(app, "echo", text="hello")).mark
    assert 1 == server.executed().count("big")


ENDPOINTS = {
    "another origin": (
        "http://127.0.0.1:9/messages?key=s3cret",
        "sent to http://127.0.0.1:9/messages, which is another",
    ),
    "another scheme": ("https://127.0.0.1/messages", "which is another origin"),
    "without a scheme": ("//elsewhere.test/messages", "which is another origin"),
    "no place": ("javascript:alert(1)", "sent to what is no URL"),
    "no URL": ("http://[::1", "sent to what is no URL"),
    "a port too many": ("http://127.0.0.1:99999/", "which is another origin"),
}


@pytest.mark.parametrize(("endpoint", "said"), ENDPOINTS.values(), ids=ENDPOINTS)
async def test_messages_go_nowhere_but_to_the_origin_of_the_stream(pool, server, endpoint, said):
    server.legacy.endpoint = endpoint

    problem = await failure_of(pool.call(reach(pool, server), "echo", text="hello"))

    assert ConnectFailed is type(problem)
    assert said in problem.message
    assert "s3cret" not in problem.message
    assert {"GET"} == {each.method for each in server.requests}


STREAMS = {
    "404": (Answers(404, b""), "answered HTTP 404 Not Found"),
    "500": (Answers(500, b""), "answered HTTP 500 Internal Server Error"),
    "page": (Answers(200), "names no endpoint, as a server with events would"),
    "nothing": (Answers(200, b"", "text/event-stream"), "names no endpoint"),
    "another event first": (Answers(200, "data: {}\n\n", "text/event-stream"), "names no endpoint"),
    "cut off": (CutOff("half", executes=False), "names no endpoint"),
    "redirect": (redirect("http://127.0.0.1:9/sse"), "points to http://127.0.0.1:9/sse, which is not followed"),
}


@pytest.mark.parametrize(("fault", "said"), STREAMS.values(), ids=STREAMS)
async def test_what_is_no_stream_of_events_is_no_server(pool, server, fault, said):
    server.spoil("GET", fault)

    problem = await failure_of(pool.call(reach(pool, server, init_attempts=1), "echo", text="hello"))

    assert ConnectFailed is type(problem)
    assert problem.message.startswith("far: ")
    assert said in problem.message


async def test_a_server_that_wants_to_know_who_asks_says_what_to_write(pool, server):
    server.spoil("GET", Answers(401, b""))

    problem = await failure_of(pool.call(reach(pool, server), "echo", text="hello"))

    assert (SignInNeeded, 3) == (type(problem), problem.exit_status)
    assert "write `auth: oauth` in its config, or mend the token in its headers" == problem.fix


async def test_a_server_that_is_not_there_says_so(pool, server):
    await server.cut()

    problem = await failure_of(pool.call(reach(pool, server), "echo", text="hello"))

    assert isinstance(problem, NotExecuted)
    assert f"far: {server.sse_url} cannot be reached: connection refused" == problem.message
