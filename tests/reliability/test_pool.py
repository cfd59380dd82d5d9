"""Bulkheads and a sound pool: what an app, its server or its plugin does wrong is trouble for its own callers alone."""

import asyncio
import contextlib
import functools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasak.client import client
from tasak.core.connection import State
from tasak.core.connection_manager import CLEANUP_INTERVAL
from tasak.errors import Busy, SessionLost
from tests.core.pool import Pool, soon
from tests.core.pool import until as it_holds
from tests.reliability.world import PATIENCE, End, World, is_alive
from tests.security.people import acting_as
from tests.shell import FAST_APP, TASAK, until

pytestmark = pytest.mark.slow

MIB = 1 << 20

# A server that is not to be given up while a test looks at it has this long for its handshake.
UNHURRIED = {"init_timeout": 60}


def call_of(world: World, app: str, tool: str, *argv: str, **more: Any) -> End:
    return world.call(world.request_of(app, tool, *argv, **more))


# ── a server that dies ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_killed_server_fails_its_calls_within_half_a_second_and_no_other_apps(pool):
    witness = {"env": {"EXEC": str(pool.witness)}}
    killed, other = pool.define("killed", **witness), pool.define("other", **witness)
    theirs = [asyncio.create_task(pool.call(killed, "sleep", seconds=60)) for _ in range(5)]
    others = asyncio.create_task(pool.call(other, "sleep", seconds=1))
    await it_holds(lambda: 6 == len(pool.executed()))

    began = time.monotonic()
    os.kill(pool.manager.find(killed).session.pid, signal.SIGKILL)
    failures = await soon(asyncio.gather(*theirs, return_exceptions=True))
    seconds = time.monotonic() - began

    assert [SessionLost] * 5 == [type(failure) for failure in failures]
    assert 0.5 > seconds
    assert "slept" == (await soon(others)).result["content"][0]["text"]
    assert "restarted" == (await pool.call(killed, "counter")).mark
    assert "warm" == (await pool.call(other, "counter")).mark


LEAVES_AFTER = """
give = tools_call

def tools_call(message):
    give(message)
    with open(os.environ["HEARD"]) as file:
        words = file.read().split()
    if words[::-1].index("start") >= {calls} + 3:
        os._exit({status})
"""


@pytest.mark.parametrize("status", [0, 1])
@pytest.mark.parametrize("calls", [1, 3])
async def test_a_server_that_leaves_after_so_many_calls_is_replaced_between_them(pool, calls, status):
    app = pool.script(LEAVES_AFTER.format(calls=calls, status=status))

    marks = []
    for number in range(1, 2 * calls + 2):
        marks.append((await pool.call(app, "give", number=number)).mark)
        if number % calls == 0:
            await it_holds(lambda: pool.manager.find(app) is None)

    warm = ["warm"] * (calls - 1)
    assert ["new", *warm, "restarted", *warm, "restarted"] == marks
    assert 2 * calls + 1 == pool.heard().count("tools/call")
    assert [] == pool.manager.failures


CRASHES = {"command": ["sh", "-c", "echo 'no licence' >&2; exit 3"], "init_attempts": 1}


def test_an_app_that_crashes_in_a_loop_is_seen_in_ping_and_connections(shell):
    shell.configure({"broken": CRASHES})
    shell("broken", "x")
    shell("broken", "x")

    pinged, listed = shell("ping", "broken"), shell.json("connections")["connections"]

    assert 4 == pinged.returncode
    assert "backoff" in pinged.stdout
    assert "no licence" in pinged.stdout
    assert [("broken", "backoff", 2)] == [(each["app"], each["state"], each["failures"]) for each in listed]


def test_an_app_that_crashes_in_a_loop_is_seen_in_the_daemons_status(shell):
    shell.configure({"broken": CRASHES})
    shell("broken", "x")

    status = shell("daemon", "status")

    assert "broken" in status.stdout
    assert "no licence" in status.stdout


# ── a server that floods ─────────────────────────────────────────────────────────────────────────────────────────

# With nothing but the standard library; it answers, and from its first call on says one thing over and over. How
# often it has written a pipeful goes to the file `flooded`, a byte each.
FLOOD = r"""
import json, os, sys, threading

KIND, DEAF = sys.argv[1], "deaf" in sys.argv
PIPEFUL = 1 << 16
writing = threading.Lock()

def send(content, fd=1):
    with writing:
        while content:
            content = content[os.write(fd, content):]

def message(**members):
    return json.dumps({"jsonrpc": "2.0", **members}).encode() + b"\n"

SAID = {
    "notifications": message(method="notifications/message", params={"level": "info", "data": "still here"}),
    "progress": message(method="notifications/progress", params={"progressToken": 1, "progress": 1}),
    "changes": message(method="notifications/tools/list_changed"),
    "answers": message(id=7, result={}),
    "requests": message(id=7, method="ping"),
    "garbage": b"Listening on port 3000\n",
    "emptiness": b"\n",
    "line": b"x",
    "stderr": b"I have a bad feeling about this\n",
    "empty-stderr": b"\n",
}

def flood():
    said = SAID[KIND] * (PIPEFUL // len(SAID[KIND]))
    progress = os.open("flooded", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    while True:
        if "stderr" in KIND:
            os.write(2, said)
        else:
            send(said)
        os.write(progress, b".")

has_begun = False
for line in sys.stdin.buffer:
    asked = json.loads(line)
    if "id" not in asked or "method" not in asked:
        continue
    result = {}
    if asked["method"] == "initialize":
        version = asked["params"]["protocolVersion"]
        result = {"protocolVersion": version, "capabilities": {}, "serverInfo": {"name": "flood", "version": "1"}}
    elif asked["method"] == "tools/list":
        result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("begin", "hang")]}
    elif asked["method"] == "tools/call":
        if asked["params"]["name"] == "hang":
            continue
        result = {"content": [{"type": "text", "text": "begun"}]}
    send(message(id=asked["id"], result=result))
    if asked["method"] == "tools/call" and not has_begun:
        has_begun = True
        threading.Thread(target=flood, daemon=True).start()
        if DEAF:
            threading.Event().wait()
os._exit(0)
"""

# Without a flood it takes a millisecond; with one, as long as that keeps everybody else waiting.
SOON = 0.1

# From its beginning; some tenths of a second where nobody else is at work.
END_OF_A_LINE = 5.0

# So many calls show it; where each takes its time, as many as there is time for.
CALLS = 9
ENOUGH = 5.0
MUCH = 100


class Flood:
    """An app that floods, beside one that does not, in one daemon."""

    def __init__(self, world: World, *words: str) -> None:
        self._world = world
        self._program = world.home / "flood.py"
        self._program.write_text(FLOOD)
        command = [sys.executable, "-I", "-S", str(self._program), *words]
        world.configure({"floods": {"command": command}, "plain": FAST_APP})
        call_of(world, "plain", "echo", "--text", "warm")
        call_of(world, "floods", "hang", timeout=0.01)
        self.daemon = psutil.Process(world.daemon_pid)
        self.memory = self.daemon.memory_info().rss

    def begin(self) -> None:
        assert "begun" == call_of(self._world, "floods", "begin").said
        until(lambda: self.pipefuls() > 0)

    def go_on(self) -> None:
        """Until much has come, or as much as is let come in some time."""
        enough = time.monotonic() + ENOUGH
        until(lambda: self.pipefuls() > MUCH or time.monotonic() > enough)

    def pipefuls(self) -> int:
        """How many have been written to where we read."""
        file = self._world.home / "flooded"
        return file.stat().st_size if file.exists() else 0

    def growth(self) -> int:
        return self.daemon.memory_info().rss - self.memory

    def seconds_of_others(self) -> float:
        """What a call of the other app takes meanwhile."""
        return seconds_of_calls(self._world)


def seconds_of_calls(world: World) -> float:
    """What one of the app `plain` takes."""
    found: list[float] = []
    enough = time.monotonic() + ENOUGH
    while len(found) < CALLS and (not found or time.monotonic() < enough):
        began = time.monotonic()
        assert "hello" == call_of(world, "plain", "echo", "--text", "hello").said
        found.append(time.monotonic() - began)
    return statistics.median(found)


@pytest.fixture
def flood(world: World) -> Callable[..., Flood]:
    return functools.partial(Flood, world)


def test_a_flood_of_notifications_holds_up_no_other_app(flood):
    flooding = flood("notifications")

    flooding.begin()

    assert SOON > flooding.seconds_of_others()


def test_a_flood_of_stderr_holds_up_no_other_app(flood):
    flooding = flood("stderr")

    flooding.begin()

    assert SOON > flooding.seconds_of_others()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["progress", "changes", "answers", "garbage", "emptiness", "empty-stderr"])
def test_a_flood_of_any_other_kind_holds_up_no_other_app(flood, kind):
    flooding = flood(kind)

    flooding.begin()

    assert SOON > flooding.seconds_of_others()


# An HTTP server that tells its clients over and over that its tools have changed, once one of them was called.
HTTP_FLOOD = """
import asyncio, json
from tasak.testing import HttpServer

async def main():
    async with HttpServer() as server:
        print(json.dumps({"sse": server.sse_url, "http": server.url}), flush=True)
        while True:
            for _ in range(50 if server.executed() else 0):
                server.tools_changed()
            await asyncio.sleep(0 if server.executed() else 0.01)

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["sse", "http"])
def test_a_flood_over_http_holds_up_no_other_app_and_does_not_fill_the_memory(world, transport):
    with subprocess.Popen([sys.executable, "-c", HTTP_FLOOD], stdout=subprocess.PIPE) as server:
        try:
            urls = json.loads(server.stdout.readline())
            app = {"transport": transport, "url": urls[transport], "protocol": "handshake"}
            world.configure({"floods": app, "plain": FAST_APP})
            call_of(world, "plain", "echo", "--text", "warm")
            memory = psutil.Process(world.daemon_pid).memory_info().rss
            call_of(world, "floods", "echo", "--text", "begin")

            assert SOON > seconds_of_calls(world)
            assert 32 * MIB > psutil.Process(world.daemon_pid).memory_info().rss - memory
        finally:
            server.kill()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["notifications", "progress", "answers", "garbage", "stderr"])
def test_a_flood_does_not_fill_the_memory_and_its_own_app_goes_on(flood, world, kind):
    flooding = flood(kind)

    flooding.begin()
    flooding.go_on()

    assert 32 * MIB > flooding.growth()
    assert "begun" == call_of(world, "floods", "begin").said


@pytest.mark.slow
def test_the_log_of_a_flood_is_bounded(flood, world):
    flooding = flood("stderr")

    flooding.begin()
    flooding.go_on()

    logs = list((world.home / ".tasak" / "logs").glob("floods.log*"))
    assert 1 <= len(logs) <= 5
    assert 5 * MIB >= sum(log.stat().st_size for log in logs)


@pytest.mark.slow
def test_of_a_flood_of_garbage_the_daemons_log_has_the_first_lines_alone(flood, world):
    flooding = flood("garbage")

    flooding.begin()
    flooding.go_on()

    assert 3 == (world.home / ".tasak" / "daemon.log").read_text().count("Listening on port 3000")


@pytest.mark.slow
def test_a_server_that_asks_and_reads_no_answer_does_not_fill_the_memory(flood):
    flooding = flood("requests", "deaf")

    flooding.begin()
    flooding.go_on()

    assert 32 * MIB > flooding.growth()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_line_without_end_ends_its_session_alone_and_memory_comes_back(flood, world):
    """A line may have 128 MiB: twice as much is what it may cost for a moment."""
    flooding = flood("line")
    [server] = [each for each in world.servers() if "flood.py" in " ".join(each.cmdline())]

    began = time.monotonic()
    flooding.begin()
    hanging = call_of(world, "floods", "hang")
    took = time.monotonic() - began

    assert ("unknown", True) == (hanging.outcome, "sent a line of more than 128 MiB" in hanging.said), hanging.said
    assert END_OF_A_LINE > took
    assert 300 * MIB > flooding.growth()
    assert SOON * 3 > flooding.seconds_of_others()
    until(lambda: not is_alive(server))
    assert "begun" == call_of(world, "floods", "begin").said


# ── a machine at its limits ──────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def limited(process: psutil.Process, resource: int, value: int) -> Iterator[None]:
    before, most = process.rlimit(resource)
    process.rlimit(resource, (value, most))
    try:
        yield
    finally:
        process.rlimit(resource, (before, most))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets the limits of a process that runs")
def test_without_a_free_descriptor_an_app_does_not_start_and_others_go_on(world):
    world.configure({"plain": FAST_APP, "more": FAST_APP | {"retries": 0}})
    call_of(world, "plain", "echo", "--text", "warm")
    daemon = psutil.Process(world.daemon_pid)

    with limited(daemon, psutil.RLIMIT_NOFILE, daemon.num_fds() + 2):
        refused = call_of(world, "more", "echo", "--text", "hello")
        meanwhile = call_of(world, "plain", "echo", "--text", "hello")
    afterwards = call_of(world, "more", "echo", "--text", "hello")

    assert ("not_executed", True) == (refused.outcome, "Too many open files" in refused.said)
    assert ("executed", "hello") == (meanwhile.outcome, meanwhile.said)
    assert ("executed", "hello") == (afterwards.outcome, afterwards.said)
    assert daemon.pid == world.daemon_pid


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets the limits of a process that runs")
def test_an_answer_that_does_not_fit_into_memory_fails_its_call_and_the_daemon_goes_on(world):
    world.configure({"plain": FAST_APP})
    call_of(world, "plain", "echo", "--text", "warm")
    daemon = psutil.Process(world.daemon_pid)

    with limited(daemon, psutil.RLIMIT_AS, daemon.memory_info().vms):
        failed = call_of(world, "plain", "big", "--size", str(40 * MIB))
    afterwards = call_of(world, "plain", "echo", "--text", "hello")

    assert ("unknown", True) == (failed.outcome, "sent more than there is memory for" in failed.said)
    assert ("executed", "hello") == (afterwards.outcome, afterwards.said)
    assert daemon.pid == world.daemon_pid


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets the limits of a process that runs")
@pytest.mark.timeout(30)
def test_starting_servers_without_memory_does_not_hang_the_daemon(world):
    world.configure({"plain": FAST_APP})
    call_of(world, "plain", "echo", "--text", "warm")
    daemon = psutil.Process(world.daemon_pid)

    with limited(daemon, psutil.RLIMIT_AS, daemon.memory_info().vms):
        call_of(world, "plain", "big", "--size", str(40 * MIB))
        ends = [call_of(world, "plain", "echo", "--text", "x", session=f"s{number}") for number in range(20)]

    assert {"executed", "not_executed", "unknown"} >= {end.outcome for end in ends}
    assert daemon.pid == world.daemon_pid


# Limits of processes hold everyone but root; and the interpreter may lie where only root may look.
NOBODY = 50001
RIGHTS = "+dac_override,+dac_read_search"


def by_another_user(world: World, *command: str | Path) -> None:
    """Run it as a user whom limits of processes hold, and whose home it is."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", world.home], check=True)
        who = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        prefix = ["setpriv", *who, f"--inh-caps={RIGHTS}", f"--ambient-caps={RIGHTS}", "--"]
    subprocess.run([*prefix, *command], env=world.env, cwd=world.home, check=True, capture_output=True)


@pytest.fixture
def of_another_user(world: World) -> Iterator[psutil.Process]:
    """A daemon whom limits of processes hold."""
    # Whether a program may be run is asked without those rights, and they are there when it is.
    app = {"command": ["/usr/bin/env", *FAST_APP["command"]], "retries": 0}
    world.configure({"plain": app, "more": app})
    by_another_user(world, TASAK, "daemon", "start")
    yield psutil.Process(world.daemon_pid)
    by_another_user(world, TASAK, "daemon", "stop")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets the limits of a process that runs")
def test_without_room_for_a_process_an_app_does_not_start_and_others_go_on(world, of_another_user):
    limit = ["prlimit", f"--pid={of_another_user.pid}"]
    with acting_as(of_another_user.uids().real):
        call_of(world, "plain", "echo", "--text", "warm")

    by_another_user(world, *limit, "--nproc=1:")
    with acting_as(of_another_user.uids().real):
        refused = call_of(world, "more", "echo", "--text", "hello")
        meanwhile = call_of(world, "plain", "echo", "--text", "hello")
    by_another_user(world, *limit, "--nproc=1000:")
    with acting_as(of_another_user.uids().real):
        afterwards = call_of(world, "more", "echo", "--text", "hello")

    assert ("not_executed", True) == (refused.outcome, "cannot be started" in refused.said)
    assert ("executed", "hello") == (meanwhile.outcome, meanwhile.said)
    assert ("executed", "hello") == (afterwards.outcome, afterwards.said)
    assert of_another_user.pid == world.daemon_pid


# ── how long a connection lives ──────────────────────────────────────────────────────────────────────────────────


async def test_a_connection_that_grew_too_old_in_a_call_goes_when_the_call_has_ended(pool):
    app = pool.define(idle_ttl="never", max_age=10)

    async with pool.manager.lease(app) as lease:
        pool.clock.advance(1000)
        pool.manager.sweep()
        assert lease.connection.is_usable
    pool.manager.sweep()

    await soon(lease.connection.closed())
    assert "restarted" == (await pool.call(app, "counter")).mark


HOLDS_AT_GATE = """
def tools_call(message):
    wait_at_gate()
    answer(message, content=[])
"""


async def test_the_parts_of_an_app_that_is_made_of_others_are_in_use_as_long_as_it_is(pool):
    part = pool.script(HOLDS_AT_GATE, "part", idle_ttl=1, max_age=1)
    pool.compose("whole", {"give": {"steps": [{"app": "part", "tool": "give"}]}}, idle_ttl=1, max_age=1)
    whole = pool.app("whole")
    call = asyncio.create_task(pool.call(whole, "give"))
    await it_holds(lambda: "tools/call" in pool.heard("part"))

    pool.clock.advance(1000)
    pool.manager.sweep()

    assert pool.manager.find(whole).is_usable
    assert pool.manager.find(part).is_usable
    pool.gate.let_one_pass()
    assert [] == (await soon(call)).result["content"]


@pytest.mark.slow
def test_a_server_goes_a_moment_after_its_idle_time_counted_from_the_end_of_the_call(world):
    idle = 0.5
    world.configure({"brief": FAST_APP | {"idle_ttl": idle}})
    call_of(world, "brief", "sleep", "--seconds", "2")
    ended = time.monotonic()
    [server] = world.servers()

    assert is_alive(server)
    until(lambda: not is_alive(server))
    rested = time.monotonic() - ended

    assert idle - 0.1 <= rested <= idle + CLEANUP_INTERVAL + 1.0


async def race(pool: Pool, app: Any, chance: random.Random, marks: Counter[str]) -> None:
    """A sweep and three callers, each some turns of the loop after another, where the connection may just expire."""

    async def use() -> None:
        await turns(chance.randrange(8))
        async with pool.manager.lease(app) as lease:
            marks[lease.mark] += 1
            lease.connection.has_told_restart = True
            await turns(chance.randrange(4))
            assert State.READY is lease.connection.state
            assert not lease.connection.is_stopped
            answer = await lease.session.request("tools/list", None, timeout=20)
            assert 1 <= len(answer["tools"])
            assert not lease.session.ended.is_set()

    async def sweep() -> None:
        await turns(chance.randrange(8))
        pool.clock.advance(chance.choice([0, 30, 61, 99, 100]))
        pool.manager.sweep()

    async with asyncio.TaskGroup() as racers:
        for _ in range(3):
            racers.create_task(use())
        racers.create_task(sweep())


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.timeout(300)
async def test_in_ten_thousand_races_with_the_sweep_no_call_gets_a_connection_that_closes(pool):
    pool.compose("whole", {"give": {"steps": [{"command": ["true"]}]}}, idle_ttl=100)
    chance, marks = random.Random(41), Counter[str]()

    for _ in range(10_000):
        await race(pool, pool.app("whole"), chance, marks)

    assert 30_000 == marks.total()
    assert min(marks["warm"], marks["restarted"]) > 1000


@pytest.mark.slow
async def test_in_two_hundred_races_no_call_gets_a_server_that_is_being_ended(pool):
    app = pool.define(idle_ttl=100)
    chance, marks = random.Random(42), Counter[str]()

    for _ in range(200):
        await race(pool, app, chance, marks)

    assert min(marks["warm"], marks["restarted"]) > 5


# ── many callers at once ─────────────────────────────────────────────────────────────────────────────────────────


async def test_fifty_callers_of_an_app_that_was_just_edited_share_one_connect(pool):
    await pool.call(pool.script(""), "give")

    app = pool.script("", env={"LEVEL": "debug"})
    answers = await asyncio.gather(*(pool.call(app, "give", number=number) for number in range(50)))

    assert list(range(50)) == [answer.result["structuredContent"]["number"] for answer in answers]
    assert {"restarted"} == {answer.mark for answer in answers}
    assert 2 == pool.heard().count("start")
    assert 2 == pool.heard().count("tools/list")


LISTS_AT_GATE = """
list_plainly = tools_list

def tools_list(message):
    wait_at_gate()
    list_plainly(message)
"""


async def test_a_caller_that_gives_up_does_not_cancel_the_list_of_tools_for_the_rest(pool):
    app = pool.script(LISTS_AT_GATE, list_timeout=60)
    first, *rest = (asyncio.create_task(pool.call(app, "give")) for _ in range(20))
    await it_holds(lambda: "tools/list" in pool.heard())

    first.cancel()
    await asyncio.wait([first])
    pool.gate.let_one_pass()
    answers = await soon(asyncio.gather(*rest))

    assert first.cancelled()
    assert 19 == len(answers)
    assert 1 == pool.heard().count("tools/list")


COUNTS_CALLS = """
import threading

pending = []
writing = threading.Lock()
plainly = send

def send(**message):
    with writing:
        plainly(**message)

def tools_call(message):
    pending.append(message)
    hear("number-%d" % message["params"]["arguments"]["number"])
    hear("at-once-%d" % len(pending))
    threading.Timer(0.02, finish, [message]).start()

def finish(message):
    pending.remove(message)
    answer(message, content=[])
"""


async def test_a_hundred_callers_of_an_app_that_does_four_at_a_time_are_served_in_the_order_they_came(pool):
    app = pool.script(COUNTS_CALLS, parallel=4)

    answers = await asyncio.gather(*(pool.call(app, "give", number=number) for number in range(100)))

    assert 100 == len(answers)
    heard = pool.heard()
    assert [f"number-{number}" for number in range(100)] == [word for word in heard if word.startswith("number-")]
    assert {f"at-once-{count}" for count in range(1, 5)} >= {word for word in heard if word.startswith("at-once-")}
    assert "at-once-4" in heard


async def test_who_comes_while_a_tool_hangs_with_every_place_is_told_in_time_that_nothing_was_sent(pool):
    other = pool.define("other")
    app = pool.define(env={"EXEC": str(pool.witness)}, parallel=4)
    holding = [asyncio.create_task(pool.call(app, "sleep", seconds=60)) for _ in range(4)]
    await it_holds(lambda: 4 == len(pool.executed()))
    hurried = pool.app(timeout=0.5)

    began = time.monotonic()
    waiting = [asyncio.create_task(pool.call(hurried, "counter")) for _ in range(96)]
    assert "1" == await pool.text(other, "counter")
    failures = await soon(asyncio.gather(*waiting, return_exceptions=True))

    assert [Busy] * 96 == [type(failure) for failure in failures]
    assert 0.5 <= time.monotonic() - began < 5
    assert ["sleep"] * 4 == pool.executed()
    await give_up(holding)


HANGS_AT_CONNECT = """
initialize_plainly = initialize

def initialize(message):
    wait_at_gate()
    initialize_plainly(message)
"""


async def test_apps_that_hang_do_not_use_up_the_pool(pool):
    pool.set(max_connections=4)
    healthy = pool.define("healthy")
    hanging = [pool.script(HANGS_AT_CONNECT, f"hangs{number}", **UNHURRIED) for number in range(4)]
    waiting = [asyncio.create_task(pool.call(app, "give")) for app in hanging for _ in range(25)]
    await it_holds(lambda: all("initialize" in pool.heard(f"hangs{number}") for number in range(4)))

    answers = [await pool.call(healthy, "counter") for _ in range(3)]

    assert ["new", "warm", "warm"] == [answer.mark for answer in answers]
    for number in range(4):
        pool.gate.let_one_pass()
        await it_holds(lambda count=number + 1: count == sum("tools/call" in pool.heard(app.name) for app in hanging))
    assert 100 == len(await soon(asyncio.gather(*waiting)))


async def give_up(calls: list["asyncio.Task[Any]"]) -> None:
    for call in calls:
        call.cancel()
    await soon(asyncio.wait(calls))


# ── plugins ──────────────────────────────────────────────────────────────────────────────────────────────────────

# A transport whose option `deed` says what it does wrong, and in which hook.
WILD = """
import asyncio
from tasak.plugin import TasakError, hookimpl

class Odd(TasakError):
    pass

SCHEMA = {"type": "object", "properties": {"deed": {"type": "string"}}, "additionalProperties": False}
TOOLS = {"tools": [{"name": "go", "inputSchema": {"type": "object"}}]}

RAISED = {
    "error": RuntimeError("kaput"),
    "timeout": TimeoutError(),
    "exit": SystemExit(7),
    "interrupt": KeyboardInterrupt(),
    "cancelled": asyncio.CancelledError(),
    "base": BaseException("far out"),
    "group": BaseExceptionGroup("two", [ValueError("a"), BaseException("b")]),
    "root": TasakError("odd"),
    "offshoot": Odd("odd"),
}

class Session:
    pid = protocol_version = server_info = None

    def __init__(self, deed):
        self.deed = deed
        self.ended = asyncio.Event()

    def last_words(self):
        return []

    async def request(self, method, params=None, *, timeout, on_progress=None):
        if method == "tools/list":
            return TOOLS
        await do(self.deed, "request")
        return {"content": [{"type": "text", "text": "gone"}]}

async def do(deed, hook):
    place, _, what = deed.partition("-")
    if place == hook and what == "hang":
        await asyncio.Event().wait()
    elif place == hook:
        raise RAISED[what]

@hookimpl
def transport_schema():
    return SCHEMA

@hookimpl
async def connect(app, host):
    await do(app.options["deed"], "connect")
    return Session(app.options["deed"])

@hookimpl
async def ping(session):
    await do(session.deed, "ping")

@hookimpl
async def close(session):
    await do(session.deed, "close")
"""

RAISED = ("error", "timeout", "exit", "interrupt", "cancelled", "base", "group", "root", "offshoot")


@pytest.fixture
def wild(world: World) -> Callable[..., list[str]]:
    """Configures an app for each deed, all of them of one plugin; the apps' names."""
    site = world.home / "site"
    info = site / "tasak_wild-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "plugin_wild.py").write_text(WILD)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tasak-wild\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tasak.transports]\nwild = plugin_wild\n")
    world.env["PYTHONPATH"] = str(site)

    def configure(*deeds: str) -> list[str]:
        apps = {deed: {"transport": "wild", "deed": deed} for deed in deeds}
        world.configure({"plain": FAST_APP, **apps})
        call_of(world, "plain", "echo", "--text", "warm")
        return list(deeds)

    return configure


def test_whatever_a_plugin_raises_when_it_connects_its_caller_is_told_and_nobody_else_notices(wild, world):
    deeds = wild(*(f"connect-{what}" for what in RAISED))
    daemon, servers = world.daemon_pid, world.servers()

    ends = {deed: call_of(world, deed, "go") for deed in deeds}

    assert dict.fromkeys(deeds, ("not_executed", True)) == {
        deed: (end.outcome, f"{deed}: transport wild: " in end.said) for deed, end in ends.items()
    }
    assert (daemon, servers) == (world.daemon_pid, world.servers())


def test_whatever_a_plugin_raises_in_a_request_its_caller_is_told_and_nobody_else_notices(wild, world):
    deeds = wild(*(f"request-{what}" for what in RAISED))
    daemon, servers = world.daemon_pid, world.servers()

    ends = {deed: call_of(world, deed, "go") for deed in deeds}

    assert dict.fromkeys(deeds, ("unknown", True)) == {
        deed: (end.outcome, "its transport failed" in end.said) for deed, end in ends.items()
    }
    assert (daemon, servers) == (world.daemon_pid, world.servers())
    assert "hello" == call_of(world, "plain", "echo", "--text", "hello").said


def test_whatever_a_plugin_raises_in_a_ping_is_told_and_nobody_else_notices(wild, world):
    deeds = wild(*(f"ping-{what}" for what in RAISED))
    daemon, servers = world.daemon_pid, world.servers()
    for deed in deeds:
        call_of(world, deed, "go")

    told = {deed: world.json("ping", "--deep", deed) for deed in deeds}

    for answer in told.values():
        assert not answer["ok"]
        assert answer["connections"][0]["ping_error"]
    assert "TimeoutError" == told["ping-timeout"]["connections"][0]["ping_error"]
    assert (daemon, servers) == (world.daemon_pid, world.servers())


def test_whatever_a_plugin_raises_when_it_closes_the_other_connections_are_closed_too(wild, world):
    deeds = wild(*(f"close-{what}" for what in RAISED))
    for deed in deeds:
        call_of(world, deed, "go")
    servers = world.servers()

    stopped = world.json("daemon", "stop")

    assert {"stopped": True, "survivors": []} == stopped
    assert not any(map(is_alive, servers))
    assert "did not close within" not in (world.home / ".tasak" / "daemon.log").read_text()


@pytest.mark.slow
def test_a_plugin_that_never_closes_is_given_up_and_named(wild, world):
    [deed] = wild("close-hang")
    call_of(world, deed, "go")
    [hanging] = [each["id"] for each in world.json("connections")["connections"] if each["app"] == deed]

    status, _ = client.ask(world.connect(), "DELETE", f"/connections/{hanging}", timeout=PATIENCE)

    assert 200 == status
    assert [] == [each for each in world.json("connections")["connections"] if each["app"] == deed]
    [row] = [each for each in world.json("plugins")["plugins"] if each["name"] == "wild"]
    assert ("failing", True) == (row["state"], "did not close within 8 s" in row["reason"])
