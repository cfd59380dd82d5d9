"""Calls, repeats, kills, drains, timeouts and cancellations in whatever order: no call runs twice, no end is a lie.

Real commands, a real daemon, and a server that is a witness. The seed of each run is printed; `SEED=number` repeats it.
"""

import contextlib
import os
import random
import socket
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tasak.client import client, stopper
from tests.reliability.commands import Commands
from tests.reliability.world import PATIENCE, End, World, kill
from tests.shell import until

pytestmark = pytest.mark.keeps("one daemon serves many runs")

# What a caller allows who does not want to wait.
SHORT = 0.05

# Starting a server anew takes as long as ten calls: it dies of few.
TIMES_OUT = "times out"
HOW_A_CALL_GOES = [*["answer", "error", "refuse"] * 3, "die", TIMES_OUT]
SERVES_AT_LEAST = 5

# A command takes as long as five calls of this process's.
BY_COMMAND = st.sampled_from([False] * 4 + [True])

# So many wait for calls that are held, and one more makes another.
MOST_AT_ONCE = 32


@dataclass
class Call:
    """One call, and all who wait for it: more than one only where it has an id."""

    mark: str
    tool: str
    then: str
    call_id: str | None
    timeout: float | None = None
    ends: "list[Future[End]]" = field(default_factory=list, repr=False)
    connections: list[socket.socket] = field(default_factory=list, repr=False)

    @property
    def most(self) -> int:
        return 2 if self.tool == "write_again" else 1

    def hang_up(self) -> None:
        """One of those who ask gives up."""
        with contextlib.suppress(OSError):  # it may have an answer
            self.connections.pop().shutdown(socket.SHUT_RDWR)

    def wait(self) -> None:
        """Until all who ask for it know how it ended."""
        for end in self.ends:
            end.result(PATIENCE)

    def complaint(self, runs: int) -> str | None:
        """What is wrong with what is known of it."""
        ends = [end.result() for end in self.ends if end.done()]
        if runs > self.most:
            return f"{self} has run {runs} times"
        if runs and len(ends) == len(self.ends) and all(end.outcome == "not_executed" for end in ends):
            return f"{self} has run, and everybody was told that it has not"
        if not runs and any(end.outcome == "executed" for end in ends):
            return f"{self} has not run, and somebody was told that it has"
        if len({end.said for end in ends if end.exit_status == 0}) > 1:
            return f"those who asked for {self} have different answers"
        return None


class Calls(RuleBasedStateMachine):
    world: ClassVar[World]
    commands: ClassVar[Commands]
    threads: ClassVar[ThreadPoolExecutor]
    steps: ClassVar[int]
    outcomes: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        # What may happen next depends on the steps alone, never on how fast things are.
        self.held: list[Call] = []
        self.may_end_daemon = False
        self.served = 0

    @initialize(chance=st.integers(0, 2))
    def begin(self, chance: int) -> None:
        """Starting a daemon takes a hundred times as long as a call: in one run of three it is ended, once."""
        self.world.witness.write_bytes(b"")
        self.may_end_daemon = chance == 0

    def teardown(self) -> None:
        for call in self.calls:
            self.world.let_answer(call.mark)
            call.wait()
            type(self).outcomes.update(end.result().outcome for end in call.ends)
        self.check()

    @invariant()
    def check(self) -> None:
        type(self).steps += 1
        runs = self.world.executions()
        complaints = [complaint for call in self.calls if (complaint := call.complaint(runs[call.mark]))]
        assert not complaints, "\n".join(complaints)

    # What callers do

    @rule(
        then=st.sampled_from(HOW_A_CALL_GOES),
        tool=st.sampled_from(["write", "write_again"]),
        has_id=st.booleans(),
        by_command=BY_COMMAND,
    )
    def call(self, then: str, tool: str, has_id: bool, by_command: bool) -> None:
        times_out = then == TIMES_OUT
        call = self.new(tool, "hold" if times_out else then, has_id, timeout=SHORT if times_out else None)
        self.ask(call, by_command=by_command and not times_out)
        call.wait()

    @precondition(lambda self: self.has_room)
    @rule(tool=st.sampled_from(["write", "write_again"]), has_id=st.booleans(), by_command=BY_COMMAND)
    def call_that_is_held(self, tool: str, has_id: bool, by_command: bool) -> None:
        call = self.new(tool, "hold", has_id)
        self.ask(call, by_command=by_command)
        self.held.append(call)

    @precondition(lambda self: self.has_room and self.with_ids())
    @rule(chance=st.data(), by_command=BY_COMMAND)
    def repeat(self, chance: st.DataObject, by_command: bool) -> None:
        call = chance.draw(st.sampled_from(self.with_ids()))
        if call not in self.held:
            self.world.let_answer(call.mark)
        self.ask(call, by_command=by_command)
        if call not in self.held:
            call.wait()

    @precondition(lambda self: self.cancellable())
    @rule(chance=st.data())
    def cancel(self, chance: st.DataObject) -> None:
        call = chance.draw(st.sampled_from(self.cancellable()))
        call.hang_up()
        if len(call.ends) == 1:
            self.held.remove(call)
            call.wait()

    # What the server does

    @precondition(lambda self: self.held)
    @rule(chance=st.data())
    def answer(self, chance: st.DataObject) -> None:
        call = chance.draw(st.sampled_from(self.held))
        self.held.remove(call)
        self.world.let_answer(call.mark)
        call.wait()

    @precondition(lambda self: self.served >= SERVES_AT_LEAST)
    @rule()
    def kill_server(self) -> None:
        self.served = 0
        kill(self.world.servers())
        self.wait_for_all()

    # What becomes of the daemon

    @precondition(lambda self: self.may_end_daemon)
    @rule(is_killed=st.booleans())
    def end_daemon(self, is_killed: bool) -> None:
        self.may_end_daemon = False
        if is_killed:
            kill(self.world.daemons())
        else:
            client.ask(self.world.connect(), "POST", f"/shutdown?drain={SHORT}", timeout=PATIENCE)
        # Also one that was killed listens until the last of its threads has ended, and breaks off what comes meanwhile.
        until(lambda: stopper.is_gone(self.world.state))
        self.wait_for_all()

    # How it is done

    def new(self, tool: str, then: str, has_id: bool, timeout: float | None = None) -> Call:
        mark = self.world.new_mark()
        self.calls.append(Call(mark, tool, then, mark if has_id else None, timeout))
        return self.calls[-1]

    def ask(self, call: Call, *, by_command: bool) -> None:
        """Have one more caller make the call; returns when that has run, or has ended."""
        self.served += 1
        runs = self.world.executions()[call.mark]
        end = self.by_command(call) if by_command else self.by_client(call)
        call.ends.append(end)
        until(lambda: end.done() or self.world.executions()[call.mark] > runs or (runs and call in self.held))

    def by_command(self, call: Call) -> "Future[End]":
        options = ["--call-id", call.call_id] if call.call_id else []
        words = [*options, *self.world.words(call.mark, call.then, tool=call.tool)]
        return self.threads.submit(
            lambda: End.of_command(self.commands(*words, env=self.world.env, cwd=self.world.home))
        )

    def by_client(self, call: Call) -> "Future[End]":
        more = {"call_id": call.call_id, "timeout": call.timeout}
        request = self.world.request(call.mark, call.then, tool=call.tool, **more)
        connection = self.world.connect()
        call.connections.append(connection)
        return self.threads.submit(self.world.call, request, connection)

    def wait_for_all(self) -> None:
        for call in self.held:
            if call.most > 1:  # it is run once more, and held again
                self.world.let_answer(call.mark)
            call.wait()
        self.held.clear()

    @property
    def has_room(self) -> bool:
        return sum(len(call.ends) for call in self.held) < MOST_AT_ONCE - 1

    def with_ids(self) -> list[Call]:
        return [call for call in self.calls if call.call_id]

    def cancellable(self) -> list[Call]:
        return [call for call in self.held if call.connections]


def run(world: World, commands: Commands, *, runs: int, steps: int) -> type[Calls]:
    """Run the machine so many times, each of so many steps."""
    number = int(os.environ.get("SEED") or random.randrange(1 << 32))
    print(f"SEED={number}")
    with ThreadPoolExecutor(MOST_AT_ONCE) as threads:
        members = {"world": world, "commands": commands, "threads": threads, "steps": 0, "outcomes": Counter()}
        machine = type("Calls", (Calls,), members)
        run_state_machine_as_test(
            seed(number)(machine),
            settings=settings(
                max_examples=runs,
                stateful_step_count=steps,
                database=None,
                phases=[Phase.generate],  # no smaller example: each takes as long as this one
                suppress_health_check=list(HealthCheck),
            ),
        )
    print(f"{machine.steps} steps; the calls ended as {dict(machine.outcomes)}")
    return machine


def test_nothing_that_happens_makes_a_call_run_twice_or_its_end_a_lie(shared, commands):
    machine = run(shared, commands, runs=6, steps=25)

    assert {"executed", "unknown"} <= machine.outcomes.keys()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_steps_make_no_call_run_twice_and_no_end_a_lie(shared, commands):
    steps, outcomes = 0, set()
    while steps < 10_000:
        machine = run(shared, commands, runs=20, steps=200)
        steps += machine.steps
        outcomes |= machine.outcomes.keys()

    assert {"executed", "unknown"} <= outcomes
