"""A session over stdio with a real process: what a request's caller learns, and what the server hears."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasak.core.exchange import MOST_QUESTIONS
from tasak.core.mcp_session import StreamSession
from tasak.errors import CallTimedOut, ConnectFailed, NotExecuted, OutcomeUnknown, ServerError, SessionLost
from tasak.plugin import Progress
from tasak.transports.child import Child
from tasak.transports.stderr import StderrLog
from tests.core.pool import until
from tests.shell import STDIO_SERVER

PATIENCE = 20.0
# What a busy machine may add to a time that is bounded.
SLACK = 1.0

FAST = [sys.executable, "-I", "-S", str(STDIO_SERVER)]
PYTHON = Path(sys.executable).name

Call = asyncio.Task[str]

# Shakes hands and hears the rest; a test's script says what it does with a request.
SCRIPTED = """
import json, os, sys, time

def send(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)

def hello(asked, version=None):
    send(id=asked["id"], result={
        "protocolVersion": version or asked["params"]["protocolVersion"],
        "capabilities": {"tools": {"listChanged": True}},
        "serverInfo": {"name": "scripted", "version": "1", "title": "A title"},
    })

def initialize(asked):
    hello(asked)

def other(asked):
    send(id=asked["id"], result={})

def notified(message):
    pass
# --- the test's own script ---
%s
# --- ends here ---
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        notified(message)
    else:
        (initialize if message.get("method") == "initialize" else other)(message)
"""


class Peers:
    """Sessions with processes. `executed` is what the fast server has run."""

    def __init__(self, folder: Path) -> None:
        self.changes = 0
        self._witness = folder / "executed"

    def fast(self) -> AbstractAsyncContextManager[StreamSession]:
        return self.session_with(*FAST)

    def scripted(self, script: str) -> AbstractAsyncContextManager[StreamSession]:
        return self.session_with(sys.executable, "-I", "-S", "-c", SCRIPTED % script)

    @asynccontextmanager
    async def session_with(self, *command: str) -> AsyncIterator[StreamSession]:
        async with asyncio.timeout(PATIENCE):
            environment = {"EXEC": str(self._witness)}
            child = await Child.spawn(command, environment=environment, directory="/", stderr=StderrLog(None))
            session = StreamSession(child.read, child.write, child, on_tools_changed=self._note_change)
            await session.open(first="handshake", only=True, seconds=PATIENCE)
            try:
                yield session
            finally:
                await session.aclose()

    def executed(self) -> list[str]:
        return self._witness.read_text().split() if self._witness.exists() else []

    def _note_change(self) -> None:
        self.changes += 1


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    yield Peers(tmp_path)
    assert [] == psutil.Process().children()


async def call(session: StreamSession, tool: str, *, within: float = PATIENCE, **arguments: Any) -> str:
    """The text that the tool answers."""
    result = await session.request("tools/call", {"name": tool, "arguments": arguments}, timeout=within)
    (block,) = result["content"]
    return block["text"]


@asynccontextmanager
async def under_way(peers: Peers, session: StreamSession, tool: str, **arguments: Any) -> AsyncIterator[Call]:
    """A call that the server has begun to carry out; cancelled at the end, if it is not over."""
    before = len(peers.executed())
    task = asyncio.create_task(call(session, tool, **arguments))
    try:
        await until(lambda: len(peers.executed()) > before)
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def seconds_until_failure(kind: type[Exception], work: Awaitable[Any]) -> float:
    began = time.monotonic()
    with pytest.raises(kind):
        await work
    return time.monotonic() - began


# The handshake


async def test_a_session_knows_whom_it_talks_to(peers):
    async with peers.fast() as session:
        assert {"name": "stdio_server", "version": "1"} == session.server_info
        assert "2025-11-25" == session.protocol_version
        assert FAST == psutil.Process(session.pid).cmdline()


async def test_what_the_server_says_of_itself_is_kept_as_it_says_it(peers):
    async with peers.scripted("") as session:
        assert {"name": "scripted", "version": "1", "title": "A title"} == session.server_info


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_the_server_may_choose_an_older_protocol(peers, version):
    async with peers.scripted(f"initialize = lambda asked: hello(asked, {version!r})") as session:
        assert version == session.protocol_version
        assert {} == await session.request("ping", None, timeout=PATIENCE)


REFUSING = {
    "an error": (
        'def initialize(asked): send(id=asked["id"], error={"code": -32602, "message": "no licence"})',
        "the handshake was refused: no licence",
    ),
    "an error with the code of a lost connection": (
        'def initialize(asked): send(id=asked["id"], error={"code": -32000, "message": "no licence"})',
        "the handshake was refused: no licence",
    ),
    "a version that nobody knows": (
        'def initialize(asked): hello(asked, "1999-01-01")',
        "the handshake failed: it speaks MCP 1999-01-01",
    ),
    "nonsense": ('def initialize(asked): send(id=asked["id"], result={"hello": "world"})', "the handshake failed: "),
    "an exit": ("def initialize(asked): sys.exit(3)", f"{PYTHON} exited with status 3"),
    "a crash": ("def initialize(asked): os.abort()", f"{PYTHON} was killed by SIGABRT"),
}


@pytest.mark.parametrize(("script", "reason"), REFUSING.values(), ids=REFUSING)
async def test_a_handshake_that_fails_says_why_and_leaves_no_process(peers, script, reason):
    with pytest.raises(ConnectFailed) as raised:
        async with peers.scripted(script):
            pass

    assert raised.value.message.startswith(reason)
    assert [] == psutil.Process().children()


# Requests


async def test_a_result_is_what_the_server_sent(peers):
    sent = {"content": [{"type": "text", "text": "zażółć"}], "isError": False, "x-more": {"big": 2**53 + 1}, "n": None}

    async with peers.scripted(f"other = lambda asked: send(id=asked['id'], result={sent!r})") as session:
        assert sent == await session.request("tools/call", {"name": "x"}, timeout=PATIENCE)


async def test_params_arrive_as_they_were_given(peers):
    params = {"name": "x", "arguments": {"text": "a\n\u2028b", "big": 2**53 + 1, "none": None, "list": [1.5, True]}}

    async with peers.scripted("other = lambda asked: send(id=asked['id'], result=asked)") as session:
        heard = await session.request("tools/call", params, timeout=PATIENCE)

    assert "tools/call" == heard["method"]
    assert params == {key: value for key, value in heard["params"].items() if key != "_meta"}


async def test_fifty_requests_share_a_session_and_none_gets_the_others_answer(peers):
    async with peers.fast() as session:
        texts = [f"text {number}" for number in range(50)]

        answers = await asyncio.gather(*(call(session, "echo", text=text) for text in texts))

    assert texts == answers


async def test_a_slow_request_does_not_hold_up_the_others(peers):
    async with peers.fast() as session, under_way(peers, session, "sleep", seconds=1000) as slow:
        assert "quick" == await call(session, "echo", text="quick")

        assert not slow.done()


async def test_a_result_of_many_mebibytes_arrives_whole(peers):
    async with peers.fast() as session:
        assert "x" * (8 << 20) == await call(session, "big", size=8 << 20)


async def test_strange_lines_between_the_answers_change_nothing(peers):
    script = """
def other(asked):
    print("working on it"); print(); print("[]"); print("null")
    sys.stdout.flush()
    os.write(1, b"\\xff\\xfe\\n")
    send(id=asked["id"], result={"fine": True})
"""
    async with peers.scripted(script) as session:
        for _ in range(2):
            assert {"fine": True} == await session.request("x", None, timeout=PATIENCE)


async def test_an_answer_to_nobody_is_dropped(peers):
    script = """
def other(asked):
    send(id=99999, result={"whose": "not yours"})
    send(id=str(asked["id"]) + "0", error={"code": 1, "message": "not yours"})
    send(id=asked["id"], result={"whose": "yours"})
    send(id=asked["id"], result={"whose": "yours, once more"})
"""
    async with peers.scripted(script) as session:
        for _ in range(2):
            assert {"whose": "yours"} == await session.request("x", None, timeout=PATIENCE)


async def test_a_changed_tool_list_is_told(peers):
    script = """
def other(asked):
    send(method="notifications/tools/list_changed")
    send(method="notifications/resources/list_changed")
    send(id=asked["id"], result={})
"""
    async with peers.scripted(script) as session:
        await session.request("x", None, timeout=PATIENCE)
        await until(lambda: peers.changes > 0)

    assert 1 == peers.changes


# Progress and time


async def test_progress_is_passed_on_in_order(peers):
    seen: list[Progress] = []
    params = {"name": "progress", "arguments": {"steps": 3, "seconds": 0.01}}

    async with peers.fast() as session:
        await session.request("tools/call", params, timeout=PATIENCE, on_progress=seen.append)

    assert [Progress(progress=step, total=3.0, message=None) for step in (1.0, 2.0, 3.0)] == seen


async def test_progress_has_its_message_and_need_not_have_a_total(peers):
    script = """
def other(asked):
    token = asked["params"]["_meta"]["progressToken"]
    send(method="notifications/progress", params={"progressToken": token, "progress": 0.5, "message": "half"})
    send(method="notifications/progress", params={"progressToken": "another", "progress": 0.6})
    send(id=asked["id"], result={})
"""
    seen: list[Progress] = []

    async with peers.scripted(script) as session:
        await session.request("x", {"a": 1}, timeout=PATIENCE, on_progress=seen.append)

    assert [Progress(progress=0.5, total=None, message="half")] == seen


async def test_each_progress_starts_the_time_anew(peers):
    async with peers.fast() as session:
        # Half as long again in all, and a quarter of it each.
        assert "done" == await call(session, "progress", within=0.8, steps=6, seconds=0.2)


async def test_no_answer_in_time_is_unknown_and_cancelled_at_the_server(peers):
    async with peers.fast() as session:
        with pytest.raises(CallTimedOut, match=r"^no answer to tools/call within 0.2 s$"):
            await call(session, "sleep", within=0.2, seconds=1000)

        await until(lambda: ["sleep", "cancel"] == peers.executed())
        assert "usable" == await call(session, "echo", text="usable")


async def test_a_server_that_does_not_read_costs_no_more_than_the_time(peers):
    script = """
def notified(message):
    if message["method"] == "notifications/initialized":
        time.sleep(1000)
"""
    async with peers.scripted(script) as session:
        text = "x" * (4 << 20)
        first = await seconds_until_failure(CallTimedOut, call(session, "echo", within=0.2, text=text))
        second = await seconds_until_failure(CallTimedOut, session.request("ping", None, timeout=0.2))
        psutil.Process(session.pid).kill()

    assert first < 0.2 + SLACK
    assert second < 0.2 + SLACK


async def test_a_late_answer_is_dropped(peers):
    script = """
late = []
def notified(message):
    if message["method"] == "notifications/cancelled":
        send(id=message["params"]["requestId"], result={"late": True})
def other(asked):
    if asked["method"] == "ping":
        send(id=asked["id"], result={})
"""
    async with peers.scripted(script) as session:
        with pytest.raises(CallTimedOut):
            await session.request("x", None, timeout=0.1)

        assert {} == await session.request("ping", None, timeout=PATIENCE)


# Cancelling


async def test_cancelling_the_caller_cancels_the_request_at_the_server_and_nothing_else(peers):
    async with peers.fast() as session, under_way(peers, session, "sleep", seconds=1000) as other:
        async with under_way(peers, session, "sleep", seconds=1000) as cancelled:
            cancelled.cancel()

        await until(lambda: ["sleep", "sleep", "cancel"] == peers.executed())
        assert (True, False) == (cancelled.cancelled(), other.done())
        assert "usable" == await call(session, "echo", text="usable")


async def test_a_caller_that_is_cancelled_before_it_began_sends_nothing(peers):
    async with peers.fast() as session:
        early = asyncio.create_task(call(session, "echo", text="never"))
        early.cancel()
        await asyncio.wait([early])

        await session.request("ping", None, timeout=PATIENCE)

    assert [] == peers.executed()


# Errors of a living server


@pytest.mark.parametrize("code", [-32000, -32001, -32600, -32601, -32602, -32603, -32700, 1, 0])
async def test_an_error_is_the_servers_whatever_its_code(peers, code):
    async with peers.fast() as session:
        with pytest.raises(ServerError, match=rf"^refused \(JSON-RPC error {code}\)$"):
            await call(session, "refuse", code=code)

        assert not session.ended.is_set()
        assert "usable" == await call(session, "echo", text="usable")


async def test_a_tools_own_error_is_a_result(peers):
    async with peers.fast() as session:
        params = {"name": "fail", "arguments": {"reason": "no"}}
        result = await session.request("tools/call", params, timeout=PATIENCE)

    assert {"content": [{"type": "text", "text": "no"}], "isError": True} == result


# The end


async def test_the_end_of_an_idle_server_is_known_at_once(peers):
    async with peers.fast() as session:
        assert not session.ended.is_set()

        os.kill(session.pid, signal.SIGKILL)

        await asyncio.wait_for(session.ended.wait(), 1.0)


async def test_a_request_after_the_end_was_not_executed(peers):
    async with peers.fast() as session:
        os.kill(session.pid, signal.SIGKILL)
        await session.ended.wait()

        for _ in range(2):
            with pytest.raises(NotExecuted, match=rf"^{PYTHON} was killed by SIGKILL$"):
                await call(session, "echo", text="never")

    assert [] == peers.executed()


async def test_a_request_after_closing_was_not_executed(peers):
    async with peers.fast() as session:
        pass

    with pytest.raises(NotExecuted):
        await call(session, "echo", text="never")
    assert session.ended.is_set()
    assert [] == peers.executed()


async def test_a_server_killed_in_the_middle_of_calls_makes_them_unknown_at_once(peers):
    async with (
        peers.fast() as session,
        under_way(peers, session, "sleep", seconds=1000) as one,
        under_way(peers, session, "sleep", seconds=1000) as other,
    ):
        began = time.monotonic()
        os.kill(session.pid, signal.SIGKILL)

        for task in (one, other):
            with pytest.raises(SessionLost, match=rf"^{PYTHON} was killed by SIGKILL$"):
                await task
        assert time.monotonic() - began < SLACK


async def test_a_server_that_dies_of_a_call_says_how_and_its_last_words_are_there(peers):
    async with peers.fast() as session:
        with pytest.raises(SessionLost, match=rf"^{PYTHON} exited with status 9$"):
            await call(session, "die", status=9)

        assert ["dying as asked"] == session.last_words()
        assert session.ended.is_set()


async def test_a_server_that_stops_talking_makes_its_calls_unknown(peers):
    script = "def other(asked): os.close(1); time.sleep(1000)"

    async with peers.scripted(script) as session:
        with pytest.raises(SessionLost, match=rf"^{PYTHON} closed its stdout$"):
            await session.request("x", None, timeout=PATIENCE)
        psutil.Process(session.pid).kill()


GOES_DEAF = """
def notified(message):
    if message["method"] == "notifications/initialized":
        os.close(0)
        with open(os.environ["EXEC"], "w") as witness:
            witness.write("deaf")
        time.sleep(1000)
"""


async def test_a_server_that_stopped_listening_is_lost_and_the_next_request_not_executed(peers):
    async with peers.scripted(GOES_DEAF) as session:
        await until(lambda: ["deaf"] == peers.executed())
        with pytest.raises((NotExecuted, SessionLost)):
            await call(session, "echo", text="never", within=2.0)

        with pytest.raises(NotExecuted):
            await call(session, "echo", text="never", within=2.0)
        assert session.ended.is_set()
        psutil.Process(session.pid).kill()


async def test_a_request_to_a_server_that_has_just_stopped_listening_is_lost_at_once(peers):
    async with peers.scripted(GOES_DEAF) as session:
        # The loop stands still meanwhile: the pipe is closed and it does not know.
        deadline = time.monotonic() + PATIENCE
        while peers.executed() != ["deaf"] and time.monotonic() < deadline:
            time.sleep(0.002)  # noqa: ASYNC251 - that it stands still is the point

        with pytest.raises((NotExecuted, SessionLost)):
            await call(session, "echo", text="never", within=2.0)
        assert session.ended.is_set()
        psutil.Process(session.pid).kill()


ASKS_AND_READS_NOTHING = """
def notified(message):
    if message["method"] == "notifications/initialized":
        for number in range(1000):
            send(id="x" * 2000 + str(number), method="ping", params={})
        with open(os.environ["EXEC"], "w") as witness:
            witness.write("asked")
        time.sleep(1)

def initialize(asked):
    if "method" in asked:
        hello(asked)

def other(asked):
    if "method" in asked:
        send(id=asked["id"], result={})
"""


async def test_of_a_server_that_asks_and_reads_no_answer_no_more_questions_are_heard_and_it_is_served_on(peers):
    before = len(asyncio.all_tasks())
    async with peers.scripted(ASKS_AND_READS_NOTHING) as session:
        await until(lambda: ["asked"] == peers.executed())
        assert len(asyncio.all_tasks()) < before + MOST_QUESTIONS + 20

        await session.ping(PATIENCE)


async def test_a_request_that_broke_off_half_way_is_unknown(peers):
    script = """
def notified(message):
    if message["method"] == "notifications/initialized":
        os.read(0, 1)
        os._exit(3)
"""
    async with peers.scripted(script) as session:
        # More than the pipe holds: it is being written when the server goes.
        with pytest.raises(SessionLost, match=rf"^{PYTHON} exited with status 3$"):
            await call(session, "echo", text="x" * (8 << 20))


async def test_closing_makes_what_is_under_way_unknown(peers):
    async with peers.fast() as session:
        task = asyncio.create_task(call(session, "sleep", seconds=1000))
        await until(lambda: ["sleep"] == peers.executed())

    with pytest.raises(SessionLost):
        await asyncio.wait_for(task, PATIENCE)


@pytest.mark.parametrize("turns", range(12))
async def test_not_executed_is_said_only_of_what_was_not(peers, turns):
    async with peers.fast() as session:
        task = asyncio.create_task(call(session, "echo", text="once"))
        for _ in range(turns):
            await asyncio.sleep(0)
        os.kill(session.pid, signal.SIGKILL)
        await asyncio.wait_for(asyncio.wait([task]), PATIENCE)

    error = task.exception()
    assert error is None or isinstance(error, NotExecuted | OutcomeUnknown)
    assert len(peers.executed()) <= (0 if isinstance(error, NotExecuted) else 1)
