"""A call runs once at the most, whatever becomes of who makes it, who passes it on, and who carries it out."""

import asyncio
import os
import random
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from tasak.testing import Answers, CutOff, EndsEarly, HttpServer
from tests.client.daemon_stub import GO_AHEAD, Caller, DaemonStub, Script
from tests.reliability.world import End, World, scribe
from tests.shell import TASAK, Done, until

pytestmark = [pytest.mark.slow, pytest.mark.keeps("the daemon and its servers serve the whole module")]

# A daemon that says nothing is given up after some 40 s, if it answers no question either.
GIVING_UP = 100.0

# A call takes some 3 ms.
DURING_A_CALL = 0.006


# ── a daemon that runs the call, and then is of no use ───────────────────────────────────────────────────────────


def hang_up(caller: Caller) -> None:
    caller.read_body()


def reset(caller: Caller) -> None:
    caller.connection.recv(1)  # what else came is unread: closing now is a reset


def say(reply: bytes) -> Script:
    def script(caller: Caller) -> None:
        caller.read_body()
        caller.send(reply)

    return script


def hang(caller: Caller) -> None:
    caller.read_body()
    caller.connection.settimeout(GIVING_UP)
    caller.wait_for_hang_up()


def call_through_a_daemon_that_runs_it_and(spoils: Script) -> tuple[Done, list[str]]:
    """What the command says, and by whom the call was run."""

    def script(caller: Caller) -> None:
        if stub.callers[0] is caller:
            caller.read_head()
            caller.send(GO_AHEAD)
            with witness.open("a") as file:
                file.write("daemon\n")
            spoils(caller)

    with DaemonStub(script) as stub:
        witness = stub.home / "exec"
        stub.path.with_name("tasak.yaml").write_text(yaml.safe_dump({"apps": {"scribe": scribe(witness)}}))
        done = subprocess.run(
            [TASAK, "scribe", "write", "--mark", "direct", "--then", "answer"],
            env={"HOME": str(stub.home), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=GIVING_UP,
            check=False,
        )
        return done, witness.read_text().split()


@pytest.mark.parametrize(
    "spoils",
    [
        pytest.param(hang_up, id="hangs up"),
        pytest.param(reset, id="resets"),
        pytest.param(say(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 7\r\n\r\n<html/>"), id="says 502"),
        pytest.param(say(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTasak-Exit: 0\r\n\r\n{"re'), id="says half of it"),
        pytest.param(hang, id="says nothing", marks=[pytest.mark.timeout(GIVING_UP)]),
    ],
)
def test_a_call_that_the_daemon_may_have_run_is_not_made_again(spoils):
    done, ran = call_through_a_daemon_that_runs_it_and(spoils)

    assert ["daemon"] == ran
    assert 6 == done.returncode
    assert "may have run" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("is_stale", [False, True], ids=["no socket", "a dead daemon's socket"])
def test_where_nobody_listens_the_call_is_made_directly_and_once(world, commands, is_stale):
    if is_stale:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(world.state.socket))

    done = commands(*world.words("a"), env={**world.env, "TASAK_NO_DAEMON": "1"}, cwd=world.home)

    assert (0, "a\n") == (done.returncode, done.stdout)
    assert {"a": 1} == world.executions()


# ── a server that dies, or answers with an error ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("then", "status"), [("die", 6), ("error", 5), ("refuse", 5), ("answer", 0)])
def test_whatever_the_server_does_with_it_the_call_is_sent_once(shared, then, status):
    mark = shared.new_mark()

    done = shared(*shared.words(mark, then))

    assert status == done.returncode
    assert 1 == shared.executions()[mark]


def test_what_the_user_calls_safe_is_sent_once_more_and_then_the_outcome_is_said(shared):
    mark = shared.new_mark()

    done = shared(*shared.words(mark, "die", tool="write_again"))

    assert 6 == done.returncode
    assert 2 == shared.executions()[mark]


@pytest.mark.parametrize("times", [20, pytest.param(200, marks=[pytest.mark.timeout(200)])])
def test_a_server_that_is_killed_at_any_moment_runs_a_call_once_at_the_most(shared, times):
    with ThreadPoolExecutor(1) as caller:
        ends = [kill_during(shared, caller, random.uniform(0, DURING_A_CALL)) for _ in range(times)]

    executions = shared.executions()
    assert [] == [(mark, end, executions[mark]) for mark, end in ends if not end.is_honest_about(executions[mark])]
    assert "unknown" in {end.outcome for _, end in ends}


def kill_during(world: World, caller: ThreadPoolExecutor, moment: float) -> tuple[str, End]:
    """Kill the server so long after a call was begun; the call's mark and its end."""
    until(lambda: world.call(world.request(world.new_mark())).exit_status == 0)
    (server,) = world.servers()
    mark = world.new_mark()

    call = caller.submit(world.call, world.request(mark))
    time.sleep(moment)
    server.kill()

    return mark, call.result()


# ── a server elsewhere ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("era", ["handshake", "stateless"])
@pytest.mark.parametrize(
    "fault",
    [
        CutOff("nothing"),
        CutOff("headers"),
        CutOff("half"),
        Answers(500, executes=True),
        Answers(503, executes=True),
        Answers(200, body="", executes=True),
        Answers(202, body="", executes=True),
        EndsEarly(),
    ],
    ids=str,
)
async def test_a_call_that_a_server_elsewhere_ran_and_did_not_answer_is_not_sent_again(shared, era, fault):
    async with HttpServer(eras=[era]) as server:
        request = shared.request_of("there", "echo", "--text", "hello", env=shared.env_with(there={"url": server.url}))
        server.spoil("tools/call", fault)

        end = await asyncio.to_thread(shared.call, request)

        # The rest of a stream that ended early may be fetched: that is no second call.
        assert end.outcome in ({"unknown", "executed"} if isinstance(fault, EndsEarly) else {"unknown"})
        assert ["echo"] == server.executed()
