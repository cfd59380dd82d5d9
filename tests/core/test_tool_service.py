"""Tools listed and called, over real servers: what comes back, how long it may take, and what runs how often."""

import asyncio
import os
import signal
import sys

import pytest

from tasak.core.app import App
from tasak.core.tool_service import Answer, ToolCall
from tasak.errors import (
    AmbiguousTool,
    BadArguments,
    CallTimedOut,
    ConnectFailed,
    ConnectTimedOut,
    Denied,
    NotExecuted,
    OutcomeUnknown,
    ServerError,
    SessionLost,
    UnknownTool,
)
from tasak.plugin import Progress
from tests.core.pool import Pool, soon, until

# As the config finds it, and as errors name it.
PROGRAM = sys.executable
PYTHON = os.path.basename(PROGRAM)

MOST = 64 << 20

PAGES = """
PAGES = {None: ("a", "2"), "2": ("b", "3"), "3": ("c", %r)}

def tools_list(message):
    name, cursor = PAGES[message["params"].get("cursor")]
    answer(message, tools=tools(name), nextCursor=cursor)
"""
CHANGES_WHEN_CALLED = """
def tools_call(message):
    send(method="notifications/tools/list_changed")
    answer(message, content=[])
"""
CHANGES_WHILE_LISTED = """
def tools_list(message):
    if "cursor" in message["params"]:
        send(method="notifications/tools/list_changed")
        answer(message, tools=tools("b"))
    else:
        answer(message, tools=tools("a"), nextCursor="2")
"""
GROWS = """
names = []

def tools_list(message):
    names.append("tool_%d" % (len(names) + 1))
    answer(message, tools=tools(*names))
"""
STRANGE_LIST = """
def tools_list(message):
    answer(message, tools=[{"inputSchema": {}}, "x", None, {"name": 3}, *tools("give")])
"""
TWO_OF_ONE_NAME_ON_TWO_PAGES = """
def tools_list(message):
    is_first = "cursor" not in message["params"]
    tool = {"name": "give", "description": "Harmless." if is_first else "Not at all.", "inputSchema": {}}
    answer(message, tools=[tool], **({"nextCursor": "2"} if is_first else {}))
"""
SAYS_BUSY_AND_LISTS_NOTHING = """
def started():
    complain("busy")

def tools_list(message):
    pass
"""
TWO_PARAMETERS = """
SCHEMA = {"properties": {"number": {"type": "integer"}, "text": {"type": "string"}}, "required": ["number", "text"]}

def tools_list(message):
    answer(message, tools=[{"name": "give", "inputSchema": {"type": "object", **SCHEMA}}])
"""
DIES_THE_FIRST_TIME = """
give = tools_call

def tools_call(message):
    hear("call-%s" % message["id"])
    if starts() == 1:
        os._exit(9)
    give(message)
"""
FAILS_TO_START_ONCE = """
def started():
    if starts() == 1:
        sys.exit(3)
"""


@pytest.fixture
def app(pool: Pool) -> App:
    """The stdlib server, which witnesses what it was made to do."""
    return pool.define(env={"EXEC": str(pool.witness)})


def witnessed(pool: Pool, **keys: object) -> App:
    return pool.define(env={"EXEC": str(pool.witness)}, **keys)


async def from_words(pool: Pool, app: App, tool: str, *argv: str) -> Answer:
    return await soon(pool.service.call(ToolCall(app=app, tool=tool, argv=argv)))


async def names(pool: Pool, app: App, **how: bool) -> list[str]:
    listed = await soon(pool.service.list_tools(app, **how))
    return [tool["name"] for tool in listed.tools]


# Listing


async def test_tools_are_listed_as_the_server_describes_them(pool, app):
    listed = await soon(pool.service.list_tools(app))

    expected = {
        "name": "echo",
        "description": "The tool echo.",
        "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    }
    assert expected == listed.tools[0]
    assert ("new", False, 0.0, 900.0) == (listed.mark, listed.is_cached, listed.age, listed.ttl)


async def test_a_list_is_asked_for_once_until_its_time_is_over(pool):
    app = pool.script("", cache_ttl=60)
    await pool.call(app, "give")

    pool.clock.advance(59)
    kept = await soon(pool.service.list_tools(app))
    pool.clock.advance(1)
    fresh = await soon(pool.service.list_tools(app))

    assert (True, 59.0) == (kept.is_cached, kept.age)
    assert (False, 0.0) == (fresh.is_cached, fresh.age)
    assert 2 == pool.heard().count("tools/list")


async def test_a_time_of_zero_asks_every_time(pool):
    app = pool.script("", cache_ttl=0)

    await names(pool, app)
    await pool.call(app, "give")

    assert 2 == pool.heard().count("tools/list")


async def test_refresh_asks_the_server(pool):
    app = pool.script(GROWS)

    found = [await names(pool, app), await names(pool, app), await names(pool, app, refresh=True)]

    assert [["tool_1"], ["tool_1"], ["tool_1", "tool_2"]] == found


async def test_a_list_that_has_changed_is_asked_for_again(pool):
    app = pool.script(CHANGES_WHEN_CALLED)
    await pool.call(app, "give")

    async with asyncio.timeout(20):
        while (await pool.service.list_tools(app)).is_cached:  # noqa: ASYNC110 - the notice sets no event here
            await asyncio.sleep(0.005)

    assert 2 == pool.heard().count("tools/list")


async def test_a_change_that_comes_while_the_list_is_asked_for_is_not_missed(pool):
    app = pool.script(CHANGES_WHILE_LISTED)

    assert ["a", "b"] == await names(pool, app)
    listed = await soon(pool.service.list_tools(app))

    assert not listed.is_cached


async def test_a_list_goes_with_its_session(pool):
    app = pool.script(GROWS)
    await names(pool, app)
    (connection,) = pool.manager

    await soon(pool.manager.close(connection))
    listed = await soon(pool.service.list_tools(app))

    assert not listed.is_cached


@pytest.mark.parametrize("last", [None, "3", "2", 7])
async def test_every_page_is_asked_for_until_there_is_none_or_one_that_was_there(pool, last):
    app = pool.script(PAGES % last)

    assert ["a", "b", "c"] == await names(pool, app)
    assert 3 == pool.heard().count("tools/list")


async def test_what_cannot_be_called_is_not_listed(pool):
    assert ["give"] == await names(pool, pool.script(STRANGE_LIST))


async def test_two_tools_of_one_name_are_none_of_either_page(pool):
    app = pool.script(TWO_OF_ONE_NAME_ON_TWO_PAGES)

    assert [] == await names(pool, app)
    with pytest.raises(AmbiguousTool):
        await pool.call(app, "give")


async def test_a_server_without_a_list_has_no_tools(pool):
    assert [] == await names(pool, pool.script("def tools_list(message): answer(message, tools=None)"))


async def test_a_server_that_refuses_to_list_has_answered(pool):
    app = pool.script("def tools_list(message): refuse(message, -32601, 'no such method')")

    with pytest.raises(ServerError, match=r"no such method \(JSON-RPC error -32601\)"):
        await names(pool, app)


async def test_a_list_that_never_comes_means_that_the_call_was_not_sent(pool):
    app = pool.script(SAYS_BUSY_AND_LISTS_NOTHING, list_timeout=0.2, retries=0)

    with pytest.raises(NotExecuted) as raised:
        await pool.call(app, "give")

    assert "scripted: listing its tools: no answer to tools/list within 0.2 s\n  | busy" == raised.value.message
    assert "tools/call" not in pool.heard()


async def test_what_the_config_forbids_is_neither_listed_nor_called(pool):
    app = witnessed(pool, allow=["echo", "counter", "die"], deny=["d*"])

    assert ["echo", "counter"] == await names(pool, app)
    with pytest.raises(Denied):
        await pool.call(app, "die", status=1)

    assert [] == pool.executed()


async def test_an_unknown_tool_is_looked_for_once_more_before_it_is_refused(pool):
    app = pool.script(GROWS)
    await names(pool, app)

    await pool.call(app, "tool_2")
    with pytest.raises(UnknownTool) as raised:
        await pool.call(app, "tool-33")

    assert "scripted has no tool 'tool-33'" == raised.value.message
    assert "did you mean 'tool_3'?" == raised.value.fix
    assert 3 == pool.heard().count("tools/list")


async def test_a_list_that_is_fresh_is_not_asked_for_again_for_an_unknown_tool(pool):
    app = pool.script("")

    with pytest.raises(UnknownTool) as raised:
        await pool.call(app, "zzz")

    assert "`tasak scripted` lists its tools" == raised.value.fix
    assert 1 == pool.heard().count("tools/list")


# Calling


async def test_a_result_comes_as_the_server_sent_it(pool):
    app = pool.script(
        """
def tools_call(message):
    answer(message, content=[{"type": "hologram", "x": [1.5, None, "ż"]}], novelty={"deep": True}, _meta={"a": 1})
"""
    )

    answer = await pool.call(app, "give")

    expected = {
        "content": [{"type": "hologram", "x": [1.5, None, "ż"]}],
        "novelty": {"deep": True},
        "_meta": {"a": 1},
    }
    assert expected == answer.result
    assert not answer.is_error


async def test_a_tool_that_fails_has_answered(pool, app):
    answer = await pool.call(app, "fail", reason="no luck")

    assert answer.is_error
    assert "no luck" == answer.result["content"][0]["text"]


@pytest.mark.parametrize("code", [-32602, -32603, -32000, -32001, 7])
async def test_a_json_rpc_error_is_an_answer_whatever_its_code(pool, app, code):
    with pytest.raises(ServerError, match=rf"refused \(JSON-RPC error {code}\)"):
        await pool.call(app, "refuse", code=code)

    assert ["refuse"] == pool.executed()
    assert "warm" == (await pool.call(app, "counter")).mark


async def test_words_and_arguments_call_alike(pool):
    app = pool.script(TWO_PARAMETERS)

    by_words = await from_words(pool, app, "give", "--number", "3", "--text", "4")
    by_arguments = await pool.call(app, "give", number=3, text="4")

    assert {"number": 3, "text": "4"} == by_words.result["structuredContent"]
    assert by_words.result == by_arguments.result


@pytest.mark.parametrize("words", [("--number", "x", "--text", "y"), ("--text", "y"), ("--nmber", "1"), ("stray",)])
async def test_words_that_do_not_fit_are_refused_before_anything_is_sent(pool, words):
    app = pool.script(TWO_PARAMETERS)

    with pytest.raises(BadArguments):
        await from_words(pool, app, "give", *words)

    assert "tools/call" not in pool.heard()


async def test_help_tells_of_the_tool_and_calls_nothing(pool, app):
    answer = await from_words(pool, app, "echo", "--help")

    assert answer.result is None
    assert "The tool echo." == answer.help.splitlines()[0]
    assert "tasak fast echo --text text" == answer.help.splitlines()[-1].strip()
    assert [] == pool.executed()


async def test_a_number_that_no_double_holds_survives_both_ways(pool):
    app = pool.script(TWO_PARAMETERS)

    by_words = await from_words(pool, app, "give", "--number", str(2**53 + 1), "--text", "")
    by_arguments = await pool.call(app, "give", number=2**53 + 1, text="")

    assert 2**53 + 1 == by_words.result["structuredContent"]["number"]
    assert 2**53 + 1 == by_arguments.result["structuredContent"]["number"]


@pytest.mark.slow
async def test_a_result_of_64_mib_arrives_whole(pool, app):
    text = await pool.text(app, "big", size=MOST)

    assert "x" * MOST == text


async def test_half_a_surrogate_pair_does_not_end_the_session(pool):
    app = pool.script(r"def tools_call(message): answer(message, content=[], half='\ud800')")

    assert "\ud800" == (await pool.call(app, "give")).result["half"]
    assert "warm" == (await pool.call(app, "give")).mark


async def test_calls_of_one_app_run_at_the_same_time(pool, app):
    sleeping = [asyncio.create_task(pool.call(app, "sleep", seconds=60)) for _ in range(20)]

    await until(lambda: 20 == pool.executed().count("sleep"))

    assert "1" == await pool.text(app, "counter")
    for call in sleeping:
        call.cancel()
    await soon(asyncio.wait(sleeping))


# How long a call may take


async def test_a_call_that_takes_too_long_is_cancelled_at_the_server(pool):
    app = witnessed(pool, call_timeout=0.3)

    with pytest.raises(CallTimedOut) as raised:
        await pool.call(app, "sleep", seconds=60)

    assert "fast sleep: no answer to tools/call within 0.3 s" == raised.value.message
    assert "raise --timeout" in raised.value.fix
    await until(lambda: ["sleep", "cancel"] == pool.executed())
    assert "warm" == (await pool.call(pool.app(timeout=20), "counter")).mark


async def test_a_caller_sets_a_time_of_its_own(pool, app):
    with pytest.raises(CallTimedOut, match=r"within 0\.2 s"):
        await pool.call(pool.app(timeout=0.2), "sleep", seconds=60)


async def test_a_caller_that_goes_away_cancels_its_own_call_alone(pool, app):
    going, staying = (asyncio.create_task(pool.call(app, "sleep", seconds=60)) for _ in range(2))
    await until(lambda: ["sleep", "sleep"] == pool.executed())

    going.cancel()
    await soon(asyncio.wait([going]))

    assert going.cancelled()
    await until(lambda: ["sleep", "sleep", "cancel"] == pool.executed())
    assert "warm" == (await pool.call(app, "counter")).mark
    assert not staying.done()
    staying.cancel()
    await soon(asyncio.wait([staying]))


async def test_progress_starts_the_time_anew(pool):
    app = witnessed(pool, call_timeout=1)
    seen: list[Progress] = []
    arguments = {"steps": 5, "seconds": 0.25}

    call = ToolCall(app=app, tool="progress", arguments=arguments, on_progress=seen.append)
    answer = await soon(pool.service.call(call))

    assert "done" == answer.result["content"][0]["text"]
    assert [Progress(progress=step, total=5, message=None) for step in range(1, 6)] == seen


async def test_progress_for_ever_ends_in_any_case(pool):
    app = witnessed(pool, call_timeout=1, call_timeout_max=1.2)

    with pytest.raises(CallTimedOut) as raised:
        await pool.call(app, "progress", steps=1000, seconds=0.05)

    assert "fast progress: still at work after 1.2 s" == raised.value.message
    assert "call_timeout_max" in raised.value.fix
    await until(lambda: ["progress", "cancel"] == pool.executed())


# A server that dies


async def test_a_server_that_dies_in_the_call_may_have_run_it_and_it_is_not_sent_again(pool, app):
    with pytest.raises(SessionLost) as raised:
        await pool.call(app, "die", status=9)

    assert f"fast die: {PYTHON} exited with status 9\n  | dying as asked" == raised.value.message
    assert "it may have run: look before you repeat it" == raised.value.fix
    assert ["die"] == pool.executed()
    assert 0 == pool.counted("tasak_retries_total", app="fast")


async def test_a_server_that_is_killed_in_the_call_tells_by_what(pool, app):
    call = asyncio.create_task(pool.call(app, "sleep", seconds=60))
    await until(pool.executed)
    (connection,) = pool.manager

    os.kill(connection.session.pid, signal.SIGKILL)

    with pytest.raises(SessionLost, match=f"fast sleep: {PYTHON} was killed by SIGKILL"):
        await soon(call)
    assert ["sleep"] == pool.executed()


async def test_a_server_that_closes_its_stdout_in_the_call_has_lost_it(pool):
    app = pool.script("def tools_call(message): os.close(1)")

    with pytest.raises(SessionLost):
        await pool.call(app, "give")

    assert 1 == pool.heard().count("tools/call")


async def test_only_the_last_lines_of_a_server_are_quoted(pool):
    app = pool.script(
        """
def tools_call(message):
    for number in range(1000):
        complain("line %d" % number)
    complain("\\x1b[2J")
    os._exit(1)
"""
    )

    with pytest.raises(SessionLost) as raised:
        await pool.call(app, "give")

    told = [f"  | line {number}" for number in range(991, 1000)]
    assert [*told, r"  | \x1b[2J"] == raised.value.message.splitlines()[1:]


async def test_a_request_on_a_session_that_has_ended_was_not_sent(pool, app):
    async with pool.manager.lease(app) as lease:
        os.kill(lease.session.pid, signal.SIGKILL)
        await soon(lease.session.ended.wait())

        with pytest.raises(NotExecuted):
            await soon(lease.session.request("tools/call", {"name": "counter"}, timeout=20))


# What may run again


async def test_what_the_user_calls_safe_runs_once_more(pool):
    app = pool.script(DIES_THE_FIRST_TIME, tools={"give": {"retry": "safe"}})

    answer = await pool.call(app, "give", number=1)

    assert {"number": 1} == answer.result["structuredContent"]
    assert "restarted" == answer.mark
    assert 1 == pool.counted("tasak_retries_total", app="scripted")
    calls = [word for word in pool.heard() if word.startswith("call-")]
    assert 2 == len(calls)


async def test_what_is_safe_and_fails_again_is_told_as_it_is(pool):
    app = witnessed(pool, tools={"die": {"retry": "safe"}})

    with pytest.raises(SessionLost):
        await pool.call(app, "die", status=9)

    assert ["die", "die"] == pool.executed()


async def test_another_tool_of_the_same_app_is_not_safe(pool):
    app = witnessed(pool, tools={"echo": {"retry": "safe"}})

    with pytest.raises(SessionLost):
        await pool.call(app, "die", status=9)

    assert ["die"] == pool.executed()


async def test_what_is_safe_runs_once_where_the_user_wants_no_retries(pool):
    app = witnessed(pool, tools={"die": {"retry": "safe"}}, retries=0)

    with pytest.raises(SessionLost):
        await pool.call(app, "die", status=9)

    assert ["die"] == pool.executed()


@pytest.mark.parametrize(("tool", "arguments"), [("fail", {"reason": "x"}), ("refuse", {"code": -32603})])
async def test_an_answer_is_never_asked_for_twice(pool, tool, arguments):
    app = witnessed(pool, tools={tool: {"retry": "safe"}})

    await soon(asyncio.gather(pool.call(app, tool, **arguments), return_exceptions=True))

    assert [tool] == pool.executed()


async def test_both_attempts_of_a_safe_call_have_one_deadline(pool):
    app = witnessed(pool, tools={"sleep": {"retry": "safe"}}, call_timeout=1, call_timeout_max=1.5)
    await pool.text(app, "counter")
    loop = asyncio.get_running_loop()

    began = loop.time()
    with pytest.raises(CallTimedOut):
        await pool.call(app, "sleep", seconds=60)

    # Two attempts of their own time each would take 2 s.
    assert 1.9 > loop.time() - began
    await until(lambda: ["counter", "sleep", "cancel", "sleep"] == pool.executed()[:4])


async def test_a_safe_call_whose_time_is_over_is_not_sent_again(pool):
    app = witnessed(pool, tools={"sleep": {"retry": "safe"}}, call_timeout=0.3, call_timeout_max=0.3)

    with pytest.raises(CallTimedOut):
        await pool.call(app, "sleep", seconds=60)

    await until(lambda: "cancel" in pool.executed())
    await pool.text(pool.app(timeout=20), "counter")
    assert ["sleep", "cancel", "counter"] == pool.executed()


# A server that cannot be reached


async def test_a_program_that_is_not_there_is_the_configs_fault(pool):
    with pytest.raises(ConnectFailed, match="there is no program 'no-such-program'") as raised:
        pool.define(command="no-such-program")

    assert "app 'fast' in " in raised.value.message
    assert "PATH" in raised.value.fix


async def test_a_program_that_has_gone_since_is_named(pool):
    program = pool.root / "server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    app = pool.define(command=[str(program)])
    program.unlink()

    with pytest.raises(ConnectFailed, match=f"fast: {program} cannot be started in {pool.root}"):
        await pool.call(app, "counter")


@pytest.mark.parametrize(
    ("script", "ending"),
    [
        ("echo one >&2; echo 'no licence' >&2; exit 3", "sh exited with status 3\n  | one\n  | no licence"),
        ("echo dying >&2; kill -9 $$", "sh was killed by SIGKILL\n  | dying"),
        ("echo 'Usage: server PORT'", "sh exited with status 0; on stdout it had said: Usage: server PORT"),
        ("printf 'no newline' >&2; exit 1", "sh exited with status 1\n  | no newline"),
    ],
)
async def test_a_server_that_does_not_live_to_shake_hands_says_how_it_ended(pool, script, ending):
    app = pool.shell(script)

    with pytest.raises(ConnectFailed) as raised:
        await pool.call(app, "give")

    assert f"shell: {ending}" == raised.value.message
    program = app.config.options["command"][0]
    assert f"try it by hand: {program}, and the rest of its command as in {app.file}" == raised.value.fix


async def test_a_server_that_never_answers_is_given_up_in_time_and_not_asked_again(pool):
    app = pool.shell("echo start >>starts; echo thinking >&2; cat >/dev/null", init_timeout=0.4)

    with pytest.raises(ConnectTimedOut) as raised:
        await pool.call(app, "give")

    expected = f"shell: {app.config.options['command'][0]} did not answer within 0.4 s\n  | thinking"
    assert expected == raised.value.message
    assert "init_timeout" in raised.value.fix
    await until(lambda: [] == list(pool.manager))
    assert "start\n" == (pool.root / "starts").read_text()


async def test_a_server_that_prints_garbage_and_nothing_else_is_given_up_in_time(pool):
    app = pool.shell("echo 'Welcome!'; echo '{}'; echo null; cat >/dev/null", init_timeout=0.3, retries=0)

    with pytest.raises(ConnectTimedOut, match=r"shell: .*sh did not answer within 0\.3 s"):
        await pool.call(app, "give")


async def test_garbage_between_the_answers_is_passed_over(pool):
    app = pool.script(
        r"""
def started():
    for line in ("Welcome!", "", "{}", "null", "[1]", "NaN", '"x"', "[" * 5000):
        print(line, flush=True)
    sys.stdout.buffer.write(b"\xff\xfe\x00 \x80\r\n")
"""
    )

    assert {"number": 1} == (await pool.call(app, "give", number=1)).result["structuredContent"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("refuse(message, -32600, 'not you')", "the handshake was refused: not you"),
        ("answer(message)", "the handshake failed: "),
        ("answer(message, protocolVersion='1066-10-14', capabilities={}, serverInfo={})", "the handshake failed: "),
    ],
)
async def test_a_handshake_that_fails_is_told(pool, script, reason):
    app = pool.script(f"def initialize(message): {script}", protocol="handshake")

    with pytest.raises(ConnectFailed) as raised:
        await pool.call(app, "give")

    assert raised.value.message.startswith(f"scripted: {reason}")


@pytest.mark.slow
async def test_a_server_that_does_not_start_at_once_is_started_once_more(pool):
    app = pool.script(FAILS_TO_START_ONCE)

    answer = await pool.call(app, "give")

    assert "new" == answer.mark
    assert 2 == pool.heard().count("start")


@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_server_that_does_not_start_is_started_as_often_as_the_user_says(pool, attempts):
    app = pool.script("def started(): sys.exit(3)", init_attempts=attempts)

    with pytest.raises(ConnectFailed):
        await pool.call(app, "give")

    in_the_other_era = 1
    assert attempts + in_the_other_era == pool.heard().count("start")


# One at a time


async def test_calls_of_an_app_that_does_one_at_a_time_wait_for_each_other(pool):
    app = pool.define(parallel=1)
    await pool.text(app, "counter")
    loop = asyncio.get_running_loop()

    began = loop.time()
    await asyncio.gather(*(pool.call(app, "sleep", seconds=0.15) for _ in range(3)))

    assert 0.45 <= loop.time() - began


async def test_a_call_that_gets_no_turn_in_its_time_was_not_sent(pool):
    app = witnessed(pool, parallel=1)
    long = asyncio.create_task(pool.call(app, "sleep", seconds=60))
    await until(pool.executed)

    with pytest.raises(NotExecuted) as raised:
        await pool.call(pool.app(timeout=0.2), "counter")

    assert "fast: other calls held its 1 places for 0.2 s" == raised.value.message
    assert ["sleep"] == pool.executed()
    long.cancel()
    await soon(asyncio.wait([long]))


async def test_a_call_waits_for_its_turn_no_longer_than_its_time(pool):
    app = witnessed(pool, parallel=1)
    long = asyncio.create_task(pool.call(app, "sleep", seconds=60))
    await until(pool.executed)

    with pytest.raises(NotExecuted):
        await pool.call(pool.app(timeout=0.2), "counter")

    assert 0 == pool.counted("tasak_retries_total", app="fast")
    long.cancel()
    await soon(asyncio.wait([long]))


async def test_a_turn_is_free_again_after_a_call_that_failed(pool):
    app = witnessed(pool, parallel=1, call_timeout=0.2)

    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            await pool.call(app, "sleep", seconds=60)

    assert "1" == await pool.text(pool.app(timeout=20), "counter")
