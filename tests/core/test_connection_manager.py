"""Which connection serves a call, and when one goes."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterable

import psutil
import pytest

from tasak.core.app import App
from tasak.core.connection import Connection
from tasak.core.tool_service import ToolCall
from tasak.errors import (
    BackingOff,
    ConnectFailed,
    ConnectTimedOut,
    Draining,
    NotExecuted,
    SessionLost,
    UnknownTool,
)
from tests.core.pool import Pool, soon, until

# As the config finds it.
PYTHON = os.path.basename(sys.executable)

# A server that is not to be stopped while a test looks at it has this long for its handshake.
UNHURRIED = {"init_timeout": 60}

WAITS_AT_GATE = """
initialize_plainly = initialize

def initialize(message):
    wait_at_gate()
    initialize_plainly(message)
"""
HANGS_AND_LINGERS_AT_GATE = """
import atexit

atexit.register(wait_at_gate)

def initialize(message):
    pass
"""
FIRST_ONE_HANGS = """
initialize_plainly = initialize

def initialize(message):
    if starts() > 1:
        initialize_plainly(message)
"""
LINGERS = """
import atexit, time

atexit.register(time.sleep, 60)
"""
BROKEN_WHILE_ASKED = """
if os.path.exists("broken"):
    sys.exit(3)
"""


def only(connections: Iterable[Connection]) -> Connection:
    (found,) = connections
    return found


def pid_of(connection: Connection) -> int:
    assert connection.session is not None
    assert connection.session.pid is not None
    return connection.session.pid


# Who shares a session


async def test_a_session_stays_warm_from_one_call_to_the_next(pool):
    app = pool.define()

    first = await pool.call(app, "counter")
    second = await pool.call(app, "counter")

    assert ("new", "1") == (first.mark, first.result["content"][0]["text"])
    assert ("warm", "2") == (second.mark, second.result["content"][0]["text"])


async def test_callers_of_one_app_share_its_session_wherever_they_are(pool):
    (pool.root / "inner").mkdir()
    here = pool.define()
    there = pool.app(cwd=pool.root / "inner", TERM="dumb", PATH="/bin")

    counts = [await pool.text(here, "counter"), await pool.text(there, "counter")]

    assert ["1", "2"] == counts


async def test_two_projects_may_each_have_an_app_of_the_same_name(pool):
    for name in ("one", "two"):
        (pool.root / name).mkdir()
    one, two = (pool.define("db", folder=pool.root / name) for name in ("one", "two"))

    counts = [await pool.text(app, "counter") for app in (one, two, one)]

    assert ["1", "1", "2"] == counts
    assert str(pool.root / "two") == await pool.text(two, "where")


async def test_a_session_of_a_name_is_private(pool):
    shared = pool.define()
    private = pool.app(session="mine")

    counts = [await pool.text(app, "counter") for app in (shared, private, shared, private)]

    assert ["1", "1", "2", "2"] == counts


async def test_another_value_of_a_variable_only_adds_a_session(pool):
    pool.define(env={"TOKEN": "${TOKEN:-nobody's}"})
    mine, yours = pool.app(TOKEN="mine"), pool.app(TOKEN="yours")

    counts = [await pool.text(app, "counter") for app in (mine, yours, mine)]

    assert ["1", "1", "2"] == counts


async def test_an_edited_definition_gets_a_fresh_session_that_says_so(pool):
    before = pool.define()
    await pool.text(before, "counter")
    old = only(pool.manager)

    after = pool.define(env={"LEVEL": "debug"})
    answer = await pool.call(after, "counter")

    assert ("restarted", "1") == (answer.mark, answer.result["content"][0]["text"])
    await soon(old.closed())
    assert old not in pool.manager


async def test_what_an_edit_has_outdated_serves_its_calls_to_their_end(pool):
    before = pool.define()

    async with pool.manager.lease(before) as old:
        await pool.text(pool.define(env={"LEVEL": "debug"}), "counter")
        answer = await old.session.request("tools/call", {"name": "counter"}, timeout=20)

    assert "1" == answer["content"][0]["text"]
    await soon(old.connection.closed())


async def test_an_edit_leaves_the_sessions_of_others_alone(pool):
    pool.define()
    await pool.text(pool.app(session="mine"), "counter")
    other = pool.define("other")
    await pool.text(other, "counter")

    await pool.text(pool.define(env={"LEVEL": "debug"}), "counter")

    assert "2" == await pool.text(other, "counter")
    assert {"mine", None} == {each.app.session for each in pool.manager}
    assert 3 == len(list(pool.manager))


# Connecting


async def test_fifty_first_callers_share_one_connect(pool):
    app = pool.script("")

    answers = await asyncio.gather(*(pool.call(app, "give", number=number) for number in range(50)))

    assert list(range(50)) == [answer.result["structuredContent"]["number"] for answer in answers]
    assert {"new"} == {answer.mark for answer in answers}
    assert 1 == pool.heard().count("start")


async def test_a_caller_that_gives_up_does_not_cancel_the_connect_for_the_rest(pool):
    app = pool.script(WAITS_AT_GATE, **UNHURRIED)
    first, *rest = (asyncio.create_task(pool.call(app, "give")) for _ in range(3))
    await until(lambda: "initialize" in pool.heard())

    first.cancel()
    await asyncio.wait([first])
    pool.gate.let_one_pass()
    answers = await soon(asyncio.gather(*rest))

    assert first.cancelled()
    assert 2 == len(answers)
    assert 1 == pool.heard().count("start")


async def test_a_connect_that_everyone_gave_up_is_there_for_the_next_caller(pool):
    app = pool.script(WAITS_AT_GATE, **UNHURRIED)
    only_caller = asyncio.create_task(pool.call(app, "give"))
    await until(lambda: "initialize" in pool.heard())

    only_caller.cancel()
    await asyncio.wait([only_caller])
    pool.gate.let_one_pass()
    await pool.call(app, "give")

    assert 1 == pool.heard().count("start")


async def test_an_app_that_is_slow_to_connect_does_not_delay_another(pool):
    slow = asyncio.create_task(pool.call(pool.script(WAITS_AT_GATE, **UNHURRIED), "give"))
    await until(lambda: "initialize" in pool.heard())

    await pool.text(pool.define(), "counter")

    assert not slow.done()
    pool.gate.let_one_pass()
    await soon(slow)


async def test_all_who_wait_for_a_server_that_never_answers_give_up_before_it_is_let_go(pool):
    app = pool.script(HANGS_AND_LINGERS_AT_GATE, init_timeout=0.3)

    failures = await asyncio.gather(*(pool.call(app, "give") for _ in range(20)), return_exceptions=True)

    assert {ConnectTimedOut} == {type(failure) for failure in failures}
    assert 1 == len(pool.processes())
    pool.gate.let_one_pass()
    await until(lambda: [] == list(pool.manager))
    assert 1 == pool.heard().count("start")


async def test_who_comes_while_a_hung_server_is_let_go_has_lost_no_session(pool):
    app = pool.script(FIRST_ONE_HANGS, retries=0)
    with pytest.raises(ConnectTimedOut):
        await pool.call(pool.app("scripted", TASAK_MCP_INIT_TIMEOUT="0.4"), "give")

    answer = await pool.call(app, "give")

    assert "new" == answer.mark


# How long a connection lives


async def test_the_idle_time_counts_from_the_end_of_the_last_call(pool):
    app = pool.define(idle_ttl=300)
    async with pool.manager.lease(app) as lease:
        pool.clock.advance(1000)
        pool.manager.sweep()

    pool.clock.advance(299)
    pool.manager.sweep()
    assert lease.connection.is_usable

    pool.clock.advance(1)
    pool.manager.sweep()
    await soon(lease.connection.closed())
    assert not psutil.pid_exists(lease.session.pid)
    assert [] == list(pool.manager)


async def test_what_is_in_use_is_never_evicted(pool):
    app = pool.define(idle_ttl=1, max_age=1)

    async with pool.manager.lease(app) as lease:
        pool.clock.advance(1e6)
        pool.manager.sweep()
        answer = await lease.session.request("tools/call", {"name": "counter"}, timeout=20)

    assert "1" == answer["content"][0]["text"]
    assert lease.connection.is_usable


async def test_what_never_idles_out_stays(pool):
    app = pool.define(idle_ttl="never")
    await pool.text(app, "counter")

    pool.clock.advance(1e9)
    pool.manager.sweep()

    assert "2" == await pool.text(app, "counter")


async def test_a_connection_goes_at_its_age_however_busy_it_is(pool):
    app = pool.define(idle_ttl="never", max_age=100)
    for _ in range(3):
        pool.clock.advance(33)
        await pool.text(app, "counter")
        pool.manager.sweep()
    old = only(pool.manager)
    assert old.is_usable

    pool.clock.advance(34)
    pool.manager.sweep()

    assert "1" == await pool.text(app, "counter")
    await soon(old.closed())


async def test_the_cleanup_task_sweeps_by_itself(pool):
    app = pool.define(idle_ttl=1)
    await pool.text(app, "counter")
    connection = only(pool.manager)

    pool.manager.start_cleanup()
    pool.clock.advance(1)

    await soon(connection.closed())


async def test_the_least_recently_used_makes_room(pool):
    pool.set(max_connections=2)
    first, second, third = (pool.define(name) for name in ("first", "second", "third"))
    for app in (first, second, first):
        pool.clock.advance(1)
        await pool.text(app, "counter")

    await pool.text(third, "counter")

    assert pool.manager.find(second) is None
    assert "3" == await pool.text(first, "counter")


async def test_what_is_in_use_does_not_make_room(pool):
    pool.set(max_connections=1)
    first, second, third = (pool.define(name) for name in ("first", "second", "third"))

    async with pool.manager.lease(first) as one, pool.manager.lease(second) as two:
        await pool.text(third, "counter")
        assert one.connection is pool.manager.find(first)
        assert two.connection is pool.manager.find(second)

    assert "1" == await pool.text(second, "counter")


# An app that does not connect


async def fails_twice(pool: Pool, app: App) -> None:
    for _ in range(2):
        with pytest.raises(ConnectFailed):
            await pool.call(app, "give")


async def test_failed_connects_back_off_from_the_second_repeat_on_and_ever_longer(pool):
    app = pool.shell("exit 3", init_attempts=1)
    await fails_twice(pool, app)

    waits = []
    for _ in range(11):
        wait = only(pool.manager.failures).until - pool.clock()
        waits.append(round(wait, 3))
        pool.clock.advance(wait - 0.01)
        with pytest.raises(BackingOff):
            await pool.call(app, "give")
        pool.clock.advance(0.02)
        with pytest.raises(ConnectFailed):
            await pool.call(app, "give")

    assert [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0] == waits


async def test_who_has_to_wait_is_told_why_and_for_how_long(pool):
    app = pool.shell("echo 'no licence' >&2; exit 3", init_attempts=1)
    await fails_twice(pool, app)

    with pytest.raises(BackingOff) as raised:
        await pool.call(app, "give")

    expected = "shell: sh exited with status 3\n  | no licence\n(failed 2 times in a row; tried again in 0.1 s)"
    assert expected == raised.value.message
    assert raised.value.fix.startswith("try it by hand: /")


async def test_one_answered_request_ends_the_back_off(pool):
    app = pool.script(BROKEN_WHILE_ASKED, init_attempts=1)
    (pool.root / "broken").touch()
    await fails_twice(pool, app)

    (pool.root / "broken").unlink()
    pool.clock.advance(1)
    await pool.call(app, "give")

    assert [] == pool.manager.failures


async def test_an_app_that_has_answered_begins_anew_when_it_fails_again(pool):
    app = pool.script(BROKEN_WHILE_ASKED, init_attempts=1)
    (pool.root / "broken").touch()
    await fails_twice(pool, app)
    (pool.root / "broken").unlink()
    pool.clock.advance(1)
    await pool.call(app, "give")
    await soon(pool.manager.close(only(pool.manager)))

    (pool.root / "broken").touch()
    await fails_twice(pool, app)

    assert 2 == only(pool.manager.failures).count


async def test_a_server_that_dies_before_its_first_answer_backs_off_too(pool):
    app = pool.script("def tools_list(message): os._exit(9)", retries=0)
    for _ in range(2):
        with pytest.raises(NotExecuted):
            await pool.call(app, "give")
        await until(lambda: [] == list(pool.manager))

    with pytest.raises(BackingOff):
        await pool.call(app, "give")


async def test_a_connect_that_was_ended_on_purpose_is_no_failure(pool):
    app = pool.script(WAITS_AT_GATE, **UNHURRIED)
    caller = asyncio.create_task(pool.call(app, "give"))
    await until(lambda: "initialize" in pool.heard())

    pool.gate.let_one_pass()
    await soon(pool.manager.close(only(pool.manager)))

    with pytest.raises(NotExecuted):
        await soon(caller)
    assert [] == pool.manager.failures


# A server that goes


async def test_a_dead_server_is_replaced_on_the_next_call(pool):
    app = pool.define()
    with pytest.raises(SessionLost):
        await pool.call(app, "die", status=9)

    answer = await pool.call(app, "counter")

    assert ("restarted", "1") == (answer.mark, answer.result["content"][0]["text"])
    assert "warm" == (await pool.call(app, "counter")).mark


async def test_that_state_is_lost_is_told_with_the_first_answer_whoever_has_opened_the_session(pool):
    app = pool.define()
    with pytest.raises(SessionLost):
        await pool.call(app, "die", status=9)

    await pool.service.list_tools(app)
    with pytest.raises(UnknownTool):
        await pool.call(app, "countre")
    given_up = asyncio.create_task(pool.call(app, "sleep", seconds=60))
    await until(lambda: bool(only(pool.manager).calls))
    given_up.cancel()
    await asyncio.wait([given_up])
    marks = [(await pool.call(app, "counter")).mark for _ in range(2)]

    assert ["restarted", "warm"] == marks


async def test_the_death_of_an_idle_server_is_noticed_without_a_call(pool):
    app = pool.define()
    await pool.text(app, "counter")
    connection = only(pool.manager)

    os.kill(pid_of(connection), signal.SIGKILL)

    await soon(connection.closed())
    assert pool.manager.find(app) is None
    assert "restarted" == (await pool.call(app, "counter")).mark


async def test_every_call_of_a_server_fails_at_once_when_it_dies(pool):
    app = pool.define(env={"EXEC": str(pool.witness)})
    calls = [asyncio.create_task(pool.call(app, "sleep", seconds=60)) for _ in range(5)]
    await until(lambda: 5 == len(pool.executed()))

    os.kill(pid_of(only(pool.manager)), signal.SIGKILL)
    failures = await soon(asyncio.gather(*calls, return_exceptions=True))

    assert [f"fast sleep: {PYTHON} was killed by SIGKILL"] * 5 == [str(failure) for failure in failures]


async def test_a_session_that_idled_out_is_said_to_be_lost(pool):
    app = pool.define(idle_ttl=1)
    await pool.text(app, "counter")
    connection = only(pool.manager)

    pool.clock.advance(1)
    pool.manager.sweep()
    await soon(connection.closed())

    assert "restarted" == (await pool.call(app, "counter")).mark


async def test_a_session_is_lost_from_the_moment_when_it_begins_to_close(pool):
    app = pool.define(idle_ttl=1)
    await pool.text(app, "counter")

    pool.clock.advance(1)
    pool.manager.sweep()

    assert "restarted" == (await pool.call(app, "counter")).mark


async def test_a_connection_that_is_closed_takes_its_calls_with_it(pool):
    app = pool.define(env={"EXEC": str(pool.witness)})
    call = asyncio.create_task(pool.call(app, "sleep", seconds=60))
    await until(pool.executed)

    connection = only(pool.manager)
    pid = pid_of(connection)
    await soon(pool.manager.close(connection))

    with pytest.raises(SessionLost):
        await soon(call)
    assert not psutil.pid_exists(pid)


# The end


async def test_a_pool_that_drains_refuses(pool):
    app = pool.define()
    await pool.text(app, "counter")

    await soon(pool.manager.shut_down())

    with pytest.raises(Draining):
        await pool.text(app, "counter")


async def test_shutting_down_leaves_no_process_however_it_was_used(pool):
    idle, busy = pool.define("idle"), pool.define("busy", env={"EXEC": str(pool.witness)})
    await pool.text(idle, "counter")
    calling = asyncio.create_task(pool.call(busy, "sleep", seconds=60))
    connecting = asyncio.create_task(pool.call(pool.script(WAITS_AT_GATE, **UNHURRIED), "give"))
    await until(lambda: pool.executed() and "initialize" in pool.heard())
    assert 3 == len(pool.processes())

    pool.gate.let_one_pass()
    await soon(pool.manager.shut_down())

    assert [] == pool.processes()
    assert [] == list(pool.manager)
    failures = await soon(asyncio.gather(calling, connecting, return_exceptions=True))
    assert [SessionLost, ConnectFailed] == [type(failure) for failure in failures]


async def test_a_connect_that_has_not_begun_when_the_pool_shuts_down_lets_its_caller_go(pool):
    call = ToolCall(app=pool.define(), tool="counter", arguments={})
    # The caller makes the connection in its first step, and the pool ends it in the next one: its owner has had none.
    caller = asyncio.create_task(pool.service.call(call))
    ending = asyncio.create_task(pool.manager.shut_down())

    await soon(ending)

    with pytest.raises(NotExecuted):
        await soon(caller)
    assert [] == list(pool.manager)


async def test_a_server_that_is_just_being_started_when_the_pool_shuts_down_leaves_nothing_open(pool):
    caller = asyncio.create_task(pool.call(pool.define(), "counter"))
    await until(lambda: list(pool.manager))

    await soon(pool.manager.shut_down())

    with pytest.raises(NotExecuted):
        await soon(caller)
    assert [] == pool.processes()


@pytest.mark.slow
async def test_servers_that_do_not_go_politely_are_ended_side_by_side(pool):
    apps = [pool.script(LINGERS, f"app{number}") for number in range(4)]
    for app in apps:
        await pool.call(app, "give")
    loop = asyncio.get_running_loop()

    began = loop.time()
    await soon(pool.manager.shut_down())

    assert [] == pool.processes()
    # One after the other, they would take two seconds each before SIGTERM.
    assert 6 > loop.time() - began


# After a long rest


async def test_a_server_that_has_rested_is_asked_first_whether_it_is_there(pool):
    app = pool.script("", idle_ttl="never")
    await pool.call(app, "give")

    pool.clock.advance(59)
    await pool.call(app, "give")
    assert "ping" not in pool.heard()

    pool.clock.advance(60)
    await pool.call(app, "give")

    assert ["ping", "tools/call"] == pool.heard()[-2:]


async def test_many_callers_after_a_rest_ask_once(pool):
    app = pool.script("", idle_ttl="never")
    await pool.call(app, "give")
    pool.clock.advance(3600)

    await asyncio.gather(*(pool.call(app, "give") for _ in range(20)))

    assert 1 == pool.heard().count("ping")
    assert 21 == pool.heard().count("tools/call")


async def test_a_server_that_does_not_wake_up_is_replaced_before_the_call_is_sent(pool):
    script = """
def ping(message):
    if starts() == 1:
        refuse(message, -32603, "half asleep")
    else:
        answer(message)
"""
    app = pool.script(script, idle_ttl="never")
    await pool.call(app, "give")
    asleep = only(pool.manager)
    pool.clock.advance(3600)

    answer = await pool.call(app, "give")

    assert "restarted" == answer.mark
    await soon(asleep.closed())
    assert 2 == pool.heard().count("tools/call")


async def test_a_server_that_is_at_work_for_long_is_not_asked(pool):
    script = """
def tools_call(message):
    wait_at_gate()
    answer(message, content=[])
"""
    app = pool.script(script, idle_ttl="never")
    first = asyncio.create_task(pool.call(app, "give"))
    await until(lambda: "tools/call" in pool.heard())
    pool.clock.advance(3600)

    second = asyncio.create_task(pool.call(app, "give"))
    pool.gate.let_one_pass()
    await soon(first)
    await until(lambda: 2 == pool.heard().count("tools/call"))
    pool.gate.let_one_pass()
    await soon(second)

    assert "ping" not in pool.heard()
    assert 1 == pool.heard().count("start")
