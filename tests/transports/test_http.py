"""The `http` transport: both eras, whatever the server does to a request, and what is run how often."""

import asyncio
import re
from collections import Counter
from dataclasses import dataclass

import pytest

from tasak.core.tool_service import ToolCall
from tasak.errors import (
    CallTimedOut,
    NotExecuted,
    OutcomeUnknown,
    ServerError,
    SessionLost,
    TasakError,
)
from tasak.plugin import Progress
from tasak.testing import Answers, CutOff, FaultProxy, Hangs, HttpServer, no_leaks, redirect
from tasak.testing.faults import Fault
from tests.core.pool import close_all, failure_of, soon, until

MIB = 1 << 20
ERAS = ("handshake", "stateless")

# How an era begins.
GREETING = {"handshake": "initialize", "stateless": "server/discover"}

in_both_eras = pytest.mark.parametrize("era", ERAS)


async def executions_of(server: HttpServer, word: str) -> int:
    await until(lambda: word in server.executed())
    return server.executed().count(word)


# What works


@in_both_eras
async def test_a_session_is_opened_once_and_keeps_its_state(pool, era):
    async with HttpServer(eras=[era]) as server:
        app = pool.reach(server.url)

        marks = [(await pool.call(app, "echo", text="hello")).mark for _ in range(2)]
        counted = [await pool.text(app, "counter") for _ in range(2)]

    assert (["new", "warm"], ["1", "2"]) == (marks, counted)
    assert 1 == len(server.heard(GREETING[era]))
    assert era == pool.manager.find(app).era


async def test_a_server_of_both_eras_is_asked_for_no_handshake(pool):
    async with HttpServer() as server:
        app = pool.reach(server.url)

        await pool.call(app, "echo", text="hello")

    assert "stateless" == pool.manager.find(app).era
    assert [] == server.heard("initialize")


@in_both_eras
async def test_the_era_is_remembered(pool, era):
    async with HttpServer(eras=[era]) as server:
        app = pool.reach(server.url)
        await pool.call(app, "echo", text="hello")
        await close_all(pool)
        server.requests.clear()

        await pool.call(app, "echo", text="hello")

    assert GREETING[era] == server.requests[0].message["method"]


@in_both_eras
async def test_fifty_calls_share_one_session(pool, era):
    async with HttpServer(eras=[era]) as server:
        app = pool.reach(server.url)

        texts = await asyncio.gather(*(pool.text(app, "echo", text=str(number)) for number in range(50)))

    assert [str(number) for number in range(50)] == texts
    assert 1 == len(server.heard(GREETING[era]))


@pytest.mark.parametrize(
    ("era", "form", "size"),
    [
        ("handshake", "json", 16 * MIB),
        ("stateless", "sse", 16 * MIB),
        pytest.param("stateless", "json", 40 * MIB, marks=pytest.mark.slow),
        pytest.param("handshake", "sse", 40 * MIB, marks=pytest.mark.slow),
    ],
)
async def test_a_result_may_be_large(pool, era, form, size):
    async with HttpServer(eras=[era], form=form) as server:
        app = pool.reach(server.url)

        assert size == len(await pool.text(app, "big", size=size))


async def test_an_argument_may_be_large(pool):
    text = "x" * (16 * MIB)
    async with HttpServer() as server:
        assert text == await pool.text(pool.reach(server.url), "echo", text=text)


@in_both_eras
async def test_progress_is_passed_on_and_starts_the_time_anew(pool, era):
    seen: list[Progress] = []
    async with HttpServer(eras=[era]) as server:
        app = pool.reach(server.url, call_timeout=0.5)
        call = ToolCall(app=app, tool="progress", arguments={"steps": 4, "seconds": 0.2}, on_progress=seen.append)

        await soon(pool.service.call(call))

    assert [(1, 4), (2, 4), (3, 4), (4, 4)] == [(each.progress, each.total) for each in seen]


async def test_a_changed_list_of_tools_is_heard_of(pool):
    async with HttpServer(eras=["handshake"]) as server:
        app = pool.reach(server.url)
        await pool.service.list_tools(app)
        await until(lambda: any(each.method == "GET" for each in server.requests))
        server.listed.append({"name": "late", "inputSchema": {"type": "object"}})

        server.tools_changed()

        await until(lambda: pool.manager.find(app).tools.known(900) is None)
        assert "late" == (await pool.service.list_tools(app)).tools[-1]["name"]


@pytest.mark.slow
async def test_what_a_server_says_is_heard_again_after_its_stream_has_ended(pool):
    async with HttpServer(eras=["handshake"]) as server:
        server.spoil("GET", Answers(503), Answers(200, b"", "text/event-stream"))
        app = pool.reach(server.url)
        await pool.service.list_tools(app)

        server.tools_changed()

        await until(lambda: pool.manager.find(app).tools.known(900) is None)


async def test_a_server_that_says_nothing_of_its_own_accord_is_not_asked_again(pool):
    async with HttpServer(eras=["handshake"]) as server:
        server.spoil("GET", Answers(405, b""))
        app = pool.reach(server.url)

        await pool.call(app, "echo", text="hello")
        await until(lambda: not any(task.get_name().startswith("what ") for task in asyncio.all_tasks()))

        assert 1 == sum(each.method == "GET" for each in server.requests)


@in_both_eras
async def test_a_ping_is_a_round_trip_of_its_own(pool, era):
    method = {"handshake": "ping", "stateless": "server/discover"}[era]
    async with HttpServer(eras=[era]) as server:
        app = pool.reach(server.url)
        await pool.call(app, "echo", text="hello")
        server.requests.clear()

        await soon(pool.manager.find(app).ping())
        assert [method] == [each.message["method"] for each in server.requests]

        await server.cut()
        assert isinstance(await failure_of(pool.manager.find(app).ping()), NotExecuted)


async def test_a_session_is_deleted_when_it_is_closed(pool):
    async with HttpServer(eras=["handshake"]) as server:
        await pool.call(pool.reach(server.url), "echo", text="hello")
        assert 1 == len(server.sessions)

        await close_all(pool)

        assert 0 == len(server.sessions)


@in_both_eras
async def test_an_answer_by_events_leaves_its_connection_for_the_next_call(pool, era):
    async with HttpServer(eras=[era], form="sse") as server, FaultProxy(("127.0.0.1", server.port)) as proxy:
        app = pool.reach(f"http://127.0.0.1:{proxy.port}/mcp")
        await pool.call(app, "echo", text="hello")
        opened = len(proxy.passages)

        for _ in range(5):
            await pool.call(app, "echo", text="hello")

    assert opened == len(proxy.passages)


@pytest.mark.slow
@in_both_eras
async def test_fifty_sessions_one_after_the_other_leave_nothing(pool, era):
    async with HttpServer(eras=[era]) as server:
        app = pool.reach(server.url)
        await pool.call(app, "echo", text="hello")
        await close_all(pool)

        async with no_leaks():
            for _ in range(50):
                await pool.call(app, "echo", text="hello")
                await close_all(pool)


# Nobody waits any more


@in_both_eras
async def test_cancelling_a_call_reaches_the_server_and_the_session_lives(pool, era):
    async with HttpServer(eras=[era]) as server:
        app = pool.reach(server.url)
        call = asyncio.ensure_future(pool.call(app, "sleep", seconds=1000))
        await until(lambda: "sleep" in server.executed())

        call.cancel()

        assert 1 == await executions_of(server, "cancel")
        assert "warm" == (await pool.call(app, "echo", text="hello")).mark


@in_both_eras
async def test_a_call_that_takes_too_long_is_cancelled_at_the_server_and_the_session_lives(pool, era):
    async with HttpServer(eras=[era]) as server:
        app = pool.reach(server.url, call_timeout=0.3)

        problem = await failure_of(pool.call(app, "sleep", seconds=1000))

        assert isinstance(problem, CallTimedOut)
        assert "far sleep: no answer to tools/call within 0.3 s" == problem.message
        assert 1 == await executions_of(server, "cancel")
        assert "warm" == (await pool.call(app, "echo", text="hello")).mark


# What goes wrong


@dataclass(frozen=True)
class Trouble:
    fault: Fault
    kind: type[TasakError]
    said: str
    executed: int = 0
    timeout: float = 20.0
    times: int = 1


TROUBLES = {
    "400": Trouble(Answers(400), ServerError, "answered HTTP 400 Bad Request: <html>"),
    "403": Trouble(Answers(403, b""), ServerError, "answered HTTP 403 Forbidden"),
    "error that is no JSON-RPC": Trouble(
        Answers(422, '{"detail": "no"}', "application/json"), ServerError, 'answered HTTP 422 .*: {"detail": "no"}'
    ),
    "429": Trouble(Answers(429, b"slow down", "text/plain"), ServerError, "HTTP 429 Too Many Requests: slow down"),
    "500": Trouble(Answers(500, executes=True), OutcomeUnknown, "answered HTTP 500 Internal Server Error: <html>", 1),
    "502": Trouble(Answers(502), OutcomeUnknown, "answered HTTP 502 Bad Gateway"),
    "503": Trouble(Answers(503, b"", executes=True), OutcomeUnknown, "answered HTTP 503 Service Unavailable", 1),
    "redirect elsewhere": Trouble(
        redirect("https://elsewhere.test/mcp?key=s3cret"),
        ServerError,
        "HTTP 307 .*points to https://elsewhere.test/mcp, which is not followed",
    ),
    "redirects for ever": Trouble(redirect("/mcp"), ServerError, "HTTP 307 .*which is not followed", times=6),
    "page": Trouble(Answers(200, executes=True), OutcomeUnknown, "no answer, but HTTP 200 with text/html", 1),
    "nothing": Trouble(Answers(200, b"", executes=True), OutcomeUnknown, "no answer, but HTTP 200 with", 1),
    "202": Trouble(Answers(202, b"", executes=True), OutcomeUnknown, "no answer, but HTTP 202 with", 1),
    "empty JSON": Trouble(
        Answers(200, " ", "application/json", executes=True), OutcomeUnknown, "that is no JSON-RPC response", 1
    ),
    "broken JSON": Trouble(
        Answers(200, '{"jsonrpc"', "application/json", executes=True), OutcomeUnknown, "that is no JSON-RPC", 1
    ),
    "a notification": Trouble(
        Answers(200, '{"jsonrpc": "2.0", "method": "notifications/x"}', "application/json"),
        OutcomeUnknown,
        "that is no JSON-RPC response",
    ),
    "no events": Trouble(
        Answers(200, "nothing of the kind\n\n", "text/event-stream"), SessionLost, "broke off before it had answered"
    ),
    "cut off": Trouble(CutOff(), SessionLost, "broke before the answer", 1),
    "cut off unread": Trouble(CutOff(executes=False), SessionLost, "broke before the answer"),
    "cut off after the headers": Trouble(CutOff("headers"), SessionLost, "broke before the answer", 1),
    "cut off in the middle": Trouble(CutOff("half"), SessionLost, "broke before the answer", 1),
    "silence": Trouble(Hangs(), CallTimedOut, "no answer to tools/call within 0.3 s", 0, 0.3),
    "silence afterwards": Trouble(Hangs(executes=True), CallTimedOut, "no answer to tools/call within 0.3 s", 1, 0.3),
}


@in_both_eras
@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
async def test_trouble_with_one_call_is_named_and_is_no_trouble_for_the_next(pool, era, trouble):
    async with HttpServer(eras=[era]) as server:
        app = pool.reach(f"{server.url}?key=s3cret", call_timeout=trouble.timeout)
        await pool.call(app, "echo", text="hello")
        server.spoil("tools/call", *[trouble.fault] * trouble.times)

        problem = await failure_of(pool.call(app, "counter"))

        assert trouble.kind is type(problem)
        assert re.search(trouble.said, problem.message)
        assert "s3cret" not in problem.message
        assert trouble.executed == server.executed().count("counter")
        assert "warm" == (await pool.call(app, "echo", text="hello")).mark


async def test_an_error_of_json_rpc_is_the_servers_answer_whatever_the_status(pool):
    body = '{"jsonrpc": "2.0", "id": null, "error": {"code": -32603, "message": "no luck"}}'
    async with HttpServer() as server:
        app = pool.reach(server.url)
        await pool.call(app, "echo", text="hello")
        server.spoil("tools/call", Answers(500, body, "application/json"))

        problem = await failure_of(pool.call(app, "echo", text="hello"))

    assert (ServerError, "no luck (JSON-RPC error -32603)") == (type(problem), problem.message)


@in_both_eras
async def test_one_failed_post_fails_its_own_call_only(pool, era):
    async with HttpServer(eras=[era]) as server:
        app = pool.reach(server.url)
        await pool.call(app, "echo", text="hello")
        server.spoil("tools/call", CutOff())

        done = await asyncio.gather(*(pool.call(app, "sleep", seconds=0.1) for _ in range(50)), return_exceptions=True)

    assert Counter({"Answer": 49, "SessionLost": 1}) == Counter(type(each).__name__ for each in done)
    assert 50 == server.executed().count("sleep")
    assert 1 == len(server.heard(GREETING[era]))
