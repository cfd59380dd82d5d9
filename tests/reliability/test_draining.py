"""How the daemon ends, and what its callers are told: each has exactly one honest end, and nothing runs twice."""

import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tasak.client import stopper
from tests.reliability.world import PATIENCE, End, World, is_alive, scribe
from tests.shell import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.keeps("the commands that are forked, and what they start, outlive single tests"),
]


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as threads:
        yield threads


def held(world: World, callers: ThreadPoolExecutor, **more: float) -> "tuple[str, Future[End]]":
    """A call that its server has, and does not answer yet."""
    mark = world.new_mark()
    call = callers.submit(world.call, world.request(mark, "hold", **more), world.connect())
    until(lambda: world.executions()[mark])
    return mark, call


# ── signals ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sigterm_delivers_what_ends_in_time_and_says_of_the_rest_that_it_may_have_run(world, callers):
    (soon, first), (later, second), (never, third) = (held(world, callers, timeout=60) for _ in range(3))
    (daemon,), servers = world.daemons(), world.servers()

    daemon.terminate()
    world.let_answer(soon)
    assert End("executed", 0, soon) == first.result(PATIENCE)
    until(lambda: stopper.is_leaving(world.state))
    world.let_answer(later)

    assert End("executed", 0, later) == second.result(PATIENCE)
    assert ("unknown", 6) == (third.result(PATIENCE).outcome, third.result().exit_status)
    until(lambda: not is_alive(daemon))
    assert not any(map(is_alive, servers))
    assert {soon: 1, later: 1, never: 1} == world.executions()
    assert not world.state.socket.exists()
    assert not world.state.pid_file.exists()


def test_a_new_call_while_the_daemon_drains_is_made_directly_and_once(world, callers):
    held_mark, under_way = held(world, callers)
    (daemon,) = world.daemons()
    daemon.terminate()
    until(lambda: stopper.is_leaving(world.state))
    mark = world.new_mark()

    done = world(*world.words(mark))

    assert (0, f"{mark}\n") == (done.returncode, done.stdout)
    assert "the daemon is stopping: called directly" in done.stderr
    assert 1 == world.executions()[mark]
    world.let_answer(held_mark)
    assert End("executed", 0, held_mark) == under_way.result(PATIENCE)


def goes_on_after(shared: World, number: signal.Signals) -> None:
    shared(*shared.words(shared.new_mark()))
    (daemon,) = shared.daemons()

    daemon.send_signal(number)

    mark = shared.new_mark()
    assert End("executed", 0, mark) == shared.call(shared.request(mark))
    assert [daemon] == shared.daemons()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGPIPE, signal.SIGWINCH, signal.SIGTSTP, signal.SIGTTOU])
def test_what_a_terminal_sends_is_nothing_to_the_daemon(shared, number):
    goes_on_after(shared, number)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGQUIT])
def test_a_signal_that_asks_a_program_what_it_does_does_not_end_the_daemon(shared, number):
    goes_on_after(shared, number)


def test_a_server_has_its_signals_as_every_program_has_them(world):
    """Python ignores SIGPIPE, and a shell has its background jobs ignore more."""
    witness = scribe(world.witness)
    look_first = ["sh", "-c", 'grep ^Sig /proc/self/status > "$$HOME/signals" && exec "$$@"', "sh"]
    world.configure({"scribe": witness | {"command": look_first + witness["command"]}})
    command = shlex.join(["tasak", *world.words("a")])

    subprocess.run(
        ["sh", "-c", f"trap '' HUP INT PIPE TERM; {command}"],
        env=world.env,
        cwd=world.home,
        stdout=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=True,
    )

    masks = dict(line.split(":\t") for line in (world.home / "signals").read_text().splitlines())
    ignored = {each.name for each in signal.Signals if int(masks["SigIgn"], 16) >> (each - 1) & 1}
    assert 0 == int(masks["SigBlk"], 16)
    assert set() == ignored & {"SIGHUP", "SIGINT", "SIGPIPE", "SIGTERM", "SIGCHLD"}


# ── restarts ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("callers", "restarts"), [(8, 2), pytest.param(50, 20, marks=pytest.mark.timeout(400))])
def test_who_calls_again_and_again_while_the_daemon_is_restarted_gets_one_honest_end_each_time(
    world, commands, callers, restarts
):
    world("daemon", "start")
    is_over = threading.Event()

    def call_for_ever() -> list[tuple[str, End]]:
        ends = []
        while not is_over.is_set():
            mark = world.new_mark()
            ends.append((mark, End.of_command(commands(*world.words(mark), env=world.env, cwd=world.home))))
        return ends

    with ThreadPoolExecutor(callers) as threads:
        calling = [threads.submit(call_for_ever) for _ in range(callers)]
        restarted = [world("daemon", "restart").returncode for _ in range(restarts)]
        is_over.set()
        ends = [end for each in calling for end in each.result(PATIENCE)]

    runs = world.executions()
    assert [] == [(mark, end, runs[mark]) for mark, end in ends if not end.is_honest_about(runs[mark])]
    assert [0] * restarts == restarted
    assert {mark for mark, _ in ends} >= runs.keys()
