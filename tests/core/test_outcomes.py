"""Calls that have an id: made once, whoever asks, also after the process that made them is gone."""

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import resource
import stat
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tasak.core.call_journal import Journal, is_running
from tasak.core.call_record import KEPT_OUTCOMES, KEPT_SECONDS, Claim, Ending, Record, lines_of
from tasak.core.outcomes import Answered, OutcomeBook
from tasak.core.running_call import LONGEST_RESULT
from tasak.errors import (
    AnswerGone,
    BadArguments,
    Busy,
    CallTimedOut,
    ConnectFailed,
    Denied,
    InputNeeded,
    InternalError,
    NeedsInput,
    NotExecuted,
    NotRecorded,
    OutcomeUnknown,
    ServerError,
    SessionLost,
    SignInNeeded,
    TasakError,
    UnknownOutcome,
    UnknownTool,
)
from tasak.paths import StateDir
from tasak.plugin import OnProgress, Progress
from tasak.request import Reply
from tasak.transports.census import of_this_machine
from tasak.transports.mark import Instance
from tests.core.pool import soon, until

# How long a call may take, as its claim says.
LASTS = 60.0


def claim(call_id: str = "once", what: str = "it", *, names_input: bool = False) -> Claim:
    return Claim(call_id=call_id, app="shop", tool="pay", what=what, lasts=LASTS, names_input=names_input)


def reply(body: bytes = b"paid\n", status: int = 0) -> Reply:
    return Reply(body=body, exit_status=status, mark="warm", notices=("a notice",))


class Tool:
    """What a call does, and how often it was done."""

    def __init__(self, *, says: Reply | None = None, fails: BaseException | None = None, has_run: bool = True) -> None:
        self.says = says or reply()
        self.fails = fails
        self.has_run = has_run
        self.runs = 0
        self.cancels = 0
        self.on_progress: OnProgress | None = None
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self, on_progress: OnProgress | None) -> Answered:
        self.runs += 1
        self.on_progress = on_progress
        self.begun.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancels += 1
            raise
        if self.fails:
            raise self.fails
        return Answered(self.says, has_run=self.has_run)


class World:
    """A state folder, its clocks, and the processes that use it: each has a book."""

    def __init__(self, folder: Path) -> None:
        self.state = StateDir(folder / ".tasak")
        self.wall = 1_800_000_000.0
        self.monotonic = 1000.0
        self.alive: set[str] = set()
        self._books: list[OutcomeBook] = []
        self._callers: list[asyncio.Task[Reply]] = []

    def process(self, name: str = "daemon") -> OutcomeBook:
        self.alive.add(name)
        book = OutcomeBook(self.journal(name), clock=lambda: self.monotonic)
        self._books.append(book)
        return book

    def journal(self, name: str) -> Journal:
        return Journal(self.state, name, now=lambda: self.wall, is_alive=self.alive.__contains__)

    async def under_way(self, book: OutcomeBook, tool: Tool) -> "asyncio.Task[Reply]":
        """The caller of a call that has begun, and will not end before the tool may."""
        tool.may_end.clear()
        caller = asyncio.create_task(book.once(claim(), tool))
        self._callers.append(caller)
        await soon(tool.begun.wait())
        return caller

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def remember(self, *call_ids: str, **ending: Any) -> None:
        """Write into the journal what another process would have: that these calls ended just now."""
        end = Ending(**{"outcome": "executed", "exit_status": 0, **ending})
        records = [Record(claim=claim(call_id), owner="other", at=self.wall, ending=end) for call_id in call_ids]
        self.state.create()
        with self.state.outcomes.open("ab") as file:
            file.writelines(lines_of(records))

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.state.outcomes.read_text().splitlines()]

    async def close(self) -> None:
        for book in self._books:
            await book.close()
        await asyncio.gather(*self._callers, return_exceptions=True)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await soon(made.close())


@pytest.fixture
def book(world: World) -> OutcomeBook:
    return world.process()


async def problem_of(work: Awaitable[Any]) -> TasakError:
    with pytest.raises(TasakError) as raised:
        await soon(work)
    return raised.value


async def let_run() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


# ── one who asks again ───────────────────────────────────────────────────────────────────────────────────────────


async def test_the_answer_is_given_again_and_nothing_runs(world, book):
    tool = Tool()

    first = await soon(book.once(claim(), tool))
    world.wait(3)
    second = await soon(book.once(claim(), tool))

    assert reply() == first
    assert (first.body, first.exit_status, first.mark) == (second.body, second.exit_status, second.mark)
    assert ("a notice", "call once was made 3.0 s ago and is not made again: this was its answer") == second.notices
    assert 1 == tool.runs


async def test_each_id_is_a_call_of_its_own(book):
    tool = Tool()

    for call_id in ("a", "b", "c"):
        await soon(book.once(claim(call_id), tool))

    assert 3 == tool.runs


async def test_a_tools_own_error_is_an_answer(book):
    tool = Tool(says=reply(b"no luck\n", status=5))

    first, second = [await soon(book.once(claim(), tool)) for _ in range(2)]

    assert [(b"no luck\n", 5)] * 2 == [(each.body, each.exit_status) for each in (first, second)]
    assert 1 == tool.runs


@pytest.mark.parametrize(
    "problem",
    [
        ServerError("refused"),
        InputNeeded("a question"),
        OutcomeUnknown("who knows", fix="look"),
        CallTimedOut("too slow", fix="look"),
        SessionLost("it died"),
    ],
    ids=lambda problem: problem.code,
)
async def test_an_error_is_given_again_and_nothing_runs(book, problem):
    tool = Tool(fails=problem)

    first, second = [await problem_of(book.once(claim(), tool)) for _ in range(2)]

    assert type(problem) is type(first) is type(second)
    assert problem.message == first.message == second.message
    assert first.fix == second.fix
    assert 1 == tool.runs


@pytest.mark.parametrize("fix", [None, "look"])
async def test_who_is_told_that_it_may_have_run_is_told_how_to_ask(book, fix):
    problem = await problem_of(book.once(claim(), Tool(fails=CallTimedOut("too slow", fix=fix))))

    how = "`tasak outcome once` tells what is known of it"
    assert (f"{fix}\n{how}" if fix else how) == problem.fix


@pytest.mark.parametrize(
    "problem",
    [NotExecuted("no"), ConnectFailed("no"), UnknownTool("no"), BadArguments("no"), Denied("no"), SignInNeeded("no")],
    ids=lambda problem: problem.code,
)
async def test_the_id_of_a_call_that_did_not_run_may_be_used_again_and_for_another(book, problem):
    assert type(problem) is type(await problem_of(book.once(claim(), Tool(fails=problem))))

    tool = Tool()
    await soon(book.once(claim(what="another"), tool))

    assert 1 == tool.runs


async def test_help_is_no_call(book):
    helped = await soon(book.once(claim(what="--help"), Tool(says=reply(b"usage"), has_run=False)))

    tool = Tool()
    called = await soon(book.once(claim(), tool))

    assert (b"usage", b"paid\n", 1) == (helped.body, called.body, tool.runs)


async def test_a_bug_of_ours_is_one_that_may_have_run(book):
    tool = Tool(fails=ZeroDivisionError("oh"))

    first, second = [await problem_of(book.once(claim(), tool)) for _ in range(2)]

    assert InternalError is type(first) is type(second)
    assert "ZeroDivisionError" in first.message
    assert 1 == tool.runs


@pytest.mark.parametrize("call_id", ["", " ", "a b", "ü", "a/b", "a\n", "\udcff", "x" * 129, "٣"])
async def test_what_is_no_id_is_refused_and_nothing_runs(book, call_id):
    tool = Tool()

    assert BadArguments is type(await problem_of(book.once(claim(call_id), tool)))
    assert BadArguments is type(await problem_of(book.known(call_id)))
    assert 0 == tool.runs


@pytest.mark.parametrize("call_id", ["x", "-", "..", "A.b_c:d-9", "x" * 128])
async def test_what_is_an_id_is_taken(book, call_id):
    await soon(book.once(claim(call_id), Tool()))

    assert call_id == (await soon(book.known(call_id)))["call_id"]


# ── many who ask at once ─────────────────────────────────────────────────────────────────────────────────────────


async def test_all_who_ask_while_it_is_under_way_get_its_one_answer(book):
    tool = Tool()
    tool.may_end.clear()
    callers = [asyncio.create_task(book.once(claim(), tool)) for _ in range(20)]
    await soon(tool.begun.wait())
    callers += [asyncio.create_task(book.once(claim(), tool)) for _ in range(20)]
    await let_run()

    tool.may_end.set()

    assert [reply()] * 40 == await soon(asyncio.gather(*callers))
    assert 1 == tool.runs


async def test_all_who_ask_get_its_one_failure(book):
    tool = Tool(fails=SessionLost("it died"))
    tool.may_end.clear()
    callers = [asyncio.create_task(book.once(claim(), tool)) for _ in range(5)]
    await soon(tool.begun.wait())

    tool.may_end.set()
    problems = await soon(asyncio.gather(*callers, return_exceptions=True))

    assert [SessionLost] * 5 == [type(each) for each in problems]
    assert 5 == len(set(map(id, problems)))
    assert 1 == tool.runs


async def test_an_answer_that_is_too_long_to_keep_reaches_all_who_waited_for_it(book):
    long = reply(b"x" * (LONGEST_RESULT + 1))
    tool = Tool(says=long)
    tool.may_end.clear()
    callers = [asyncio.create_task(book.once(claim(), tool)) for _ in range(3)]
    await soon(tool.begun.wait())

    tool.may_end.set()

    assert [long] * 3 == await soon(asyncio.gather(*callers))


async def test_one_who_goes_does_not_end_it_for_the_rest(world, book):
    tool = Tool()
    first = await world.under_way(book, tool)
    second = asyncio.create_task(book.once(claim(), tool))
    await let_run()

    first.cancel()
    await soon(asyncio.wait([first]))
    tool.may_end.set()

    assert first.cancelled()
    assert reply() == await soon(second)
    assert (1, 0) == (tool.runs, tool.cancels)


async def test_the_last_who_goes_ends_it_and_it_does_not_run_again(world, book):
    tool = Tool()
    first = await world.under_way(book, tool)
    second = asyncio.create_task(book.once(claim(), tool))
    await let_run()

    for caller in (first, second):
        caller.cancel()
        await soon(asyncio.wait([caller]))
    problem = await problem_of(book.once(claim(), tool))

    assert (1, 1) == (tool.runs, tool.cancels)
    assert OutcomeUnknown is type(problem)
    assert "shop pay: call once was cancelled before its answer came" == problem.message


async def test_both_who_go_at_once_end_it(world, book):
    tool = Tool()
    first = await world.under_way(book, tool)
    second = asyncio.create_task(book.once(claim(), tool))
    await let_run()

    first.cancel()
    second.cancel()
    await soon(asyncio.wait([first, second]))

    assert (1, 1) == (tool.runs, tool.cancels)


async def test_one_who_goes_before_it_begins_leaves_the_id_free(world, book):
    tool = Tool()
    world.state.create()
    with held(world.state.outcomes):
        caller = asyncio.create_task(book.once(claim(), tool))
        await let_run()
        caller.cancel()
        await let_run()
    await soon(asyncio.wait([caller]))
    await until(lambda: 2 == len(world.lines))

    assert (True, 0) == (caller.cancelled(), tool.runs)
    await soon(book.once(claim(), tool))
    assert 1 == tool.runs


async def test_progress_reaches_all_who_listen(book):
    tool = Tool()
    tool.may_end.clear()
    heard: dict[str, list[Progress]] = {"first": [], "second": []}
    first = asyncio.create_task(book.once(claim(), tool, heard["first"].append))
    await soon(tool.begun.wait())
    second = asyncio.create_task(book.once(claim(), tool, heard["second"].append))
    await let_run()

    one, two = Progress(progress=1, total=2, message=None), Progress(progress=2, total=2, message=None)
    tool.on_progress(one)
    first.cancel()
    await soon(asyncio.wait([first]))
    tool.on_progress(two)
    tool.may_end.set()
    await soon(second)

    assert {"first": [one], "second": [one, two]} == heard


async def test_a_call_whose_caller_wants_no_progress_asks_for_none(book):
    tool = Tool()

    await soon(book.once(claim(), tool))

    assert tool.on_progress is None


# ── one id, two calls ────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_id_stands_for_one_call_while_that_runs_and_afterwards(world, book):
    tool = Tool()
    caller = await world.under_way(book, tool)
    other = claim(what="another")

    problems = [await problem_of(book.once(other, tool))]
    tool.may_end.set()
    await soon(caller)
    problems.append(await problem_of(book.once(other, tool)))
    problems.append(await problem_of(world.process("direct").once(other, tool)))

    assert [BadArguments] * 3 == [type(each) for each in problems]
    assert {"shop pay: the id once stands for another call, of shop pay"} == {each.message for each in problems}
    assert 1 == tool.runs


async def test_words_that_only_the_caller_can_read_are_asked_for_before_they_are_taken_for_others(world, book):
    await soon(book.once(claim(what="--args {}"), Tool()))
    unread = claim(what="--args @file", names_input=True)

    problems = [await problem_of(each.once(unread, Tool())) for each in (book, world.process("direct"))]

    assert [NeedsInput] * 2 == [type(each) for each in problems]


# ── how much is kept, and for how long ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("length", "is_kept"), [(LONGEST_RESULT, True), (LONGEST_RESULT + 1, False)])
async def test_a_result_is_kept_up_to_64_kib(book, length, is_kept):
    tool = Tool(says=reply(b"x" * length, status=5))
    await soon(book.once(claim(), tool))

    if is_kept:
        assert length == len((await soon(book.once(claim(), tool))).body)
        assert length == len((await soon(book.known("once")))["result"])
    else:
        problem = await problem_of(book.once(claim(), tool))
        assert (AnswerGone, "executed", 5) == (type(problem), problem.outcome, problem.exit_status)
        assert "with exit status 5" in problem.message
        assert None is (await soon(book.known("once")))["result"]
    assert 1 == tool.runs


async def test_a_long_error_is_kept_without_its_end(book):
    tool = Tool(fails=ServerError("x" * (1 << 20)))

    first, second = [await problem_of(book.once(claim(), tool)) for _ in range(2)]

    assert (1 << 20, LONGEST_RESULT) == (len(first.message), len(second.message))
    assert len((await soon(book.known("once")))["error"]["message"]) < LONGEST_RESULT


@pytest.mark.slow
async def test_the_last_256_are_kept(world, book):
    tool = Tool()
    for number in range(KEPT_OUTCOMES + 1):
        await soon(book.once(claim(f"{number}"), tool))
    direct = world.process("direct")

    assert b"paid\n" == (await soon(book.once(claim("1"), tool))).body
    assert AnswerGone is type(await problem_of(direct.once(claim("1"), tool)))
    assert UnknownOutcome is type(await problem_of(book.known("0")))
    assert KEPT_OUTCOMES + 1 == tool.runs
    await soon(direct.once(claim("0"), tool))
    assert KEPT_OUTCOMES + 2 == tool.runs


async def test_those_that_did_not_run_make_room_first(world, book):
    await soon(book.once(claim("paid"), Tool()))
    world.remember(*map(str, range(KEPT_OUTCOMES)), outcome="not_executed", exit_status=4)

    known = await soon(world.process("direct").known("paid"))

    assert "executed" == known["outcome"]


@pytest.mark.parametrize("owner", ["daemon", "direct"])
async def test_an_outcome_is_kept_for_ten_minutes_from_its_end(world, book, owner):
    tool = Tool()
    caller = await world.under_way(book, tool)
    world.wait(LASTS)
    tool.may_end.set()
    await soon(caller)
    asked = book if owner == "daemon" else world.process("direct")

    world.wait(KEPT_SECONDS - 1)
    with contextlib.suppress(AnswerGone):
        await soon(asked.once(claim(), tool))
    assert 1 == tool.runs

    world.wait(2)
    await soon(asked.once(claim(what="another"), tool))
    assert 2 == tool.runs


async def test_a_call_that_is_under_way_is_not_forgotten(world, book):
    tool = Tool()
    caller = await world.under_way(book, tool)

    world.wait(LASTS + 2 * KEPT_SECONDS)
    problem = await problem_of(world.process("direct").once(claim(), tool))
    world.remember(*map(str, range(KEPT_OUTCOMES + 1)))
    known = await soon(world.process("another").known("once"))
    tool.may_end.set()

    assert Busy is type(problem)
    assert "running" == known["state"]
    assert reply() == await soon(caller)
    assert AnswerGone is type(await problem_of(world.process("a third").once(claim(), tool)))
    assert 1 == tool.runs


async def test_a_clock_that_is_set_back_forgets_nothing_and_one_that_was_wrong_is_forgiven(world, book):
    tool = Tool()
    world.wall += 400 * 86_400
    await soon(book.once(claim(), tool))
    world.wall -= 800 * 86_400

    known = await soon(world.process("direct").known("once"))
    assert ("executed", 0.0) == (known["outcome"], known["age"])
    assert AnswerGone is type(await problem_of(world.process("another").once(claim(), tool)))


async def test_a_clock_that_is_set_forward_does_not_make_the_process_forget(world, book):
    tool = Tool()
    await soon(book.once(claim(), tool))

    world.wall += 400 * 86_400

    assert b"paid\n" == (await soon(book.once(claim(), tool))).body
    assert 1 == tool.runs


# ── other processes ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_another_process_is_at_is_not_made_here(world, book):
    tool = Tool()
    await world.under_way(book, tool)
    direct = world.process("direct")

    problem = await problem_of(direct.once(claim(), tool))

    assert (Busy, "not_executed") == (type(problem), problem.outcome)
    assert "shop pay: call once is under way in another process" == problem.message
    assert "`tasak outcome once` tells when it has ended" == problem.fix
    assert "running" == (await soon(direct.known("once")))["state"]
    assert 1 == tool.runs


async def test_what_a_process_was_at_when_it_died_is_unknown_and_never_made_again(world, book):
    tool = Tool()
    await world.under_way(book, tool)
    world.alive.remove("daemon")
    next_one = world.process("next daemon")

    problems = [await problem_of(next_one.once(claim(), tool)) for _ in range(2)]
    world.wait(LASTS + KEPT_SECONDS - 1)
    problems.append(await problem_of(next_one.once(claim(), tool)))

    assert [OutcomeUnknown] * 3 == [type(each) for each in problems]
    assert "shop pay: how call once ended is not known: it was begun by a process that is gone" == problems[0].message
    assert "`tasak outcome once`" in problems[0].fix
    assert 1 == tool.runs

    world.wait(2)
    later = Tool()
    await soon(next_one.once(claim(), later))
    assert 1 == later.runs


async def test_the_end_of_a_call_that_was_given_up_is_not_taken_for_that_of_the_next(world, book):
    lost, tool = Tool(), Tool()
    await world.under_way(book, lost)
    world.alive.remove("daemon")
    world.wait(LASTS + KEPT_SECONDS + 1)
    await world.under_way(world.process("next daemon"), tool)

    lost.may_end.set()
    await until(lambda: "ended" in world.lines[-1])

    assert "running" == (await soon(world.process("direct").known("once")))["state"]


@pytest.mark.parametrize("status", [0, 5])
async def test_what_ended_in_a_process_that_is_gone_has_no_answer_any_more(world, book, status):
    tool = Tool(says=reply(status=status))
    await soon(book.once(claim(), tool))
    world.alive.remove("daemon")

    problem = await problem_of(world.process("next daemon").once(claim(), tool))

    message = f"shop pay: call once has run, with exit status {status}, and what it answered is not kept"
    assert (AnswerGone, 5, message) == (type(problem), problem.exit_status, problem.message)
    assert 1 == tool.runs


async def test_an_error_outlives_its_process(world, book):
    tool = Tool(fails=CallTimedOut("too slow", fix="look"))
    first = await problem_of(book.once(claim(), tool))
    world.alive.remove("daemon")

    second = await problem_of(world.process("next daemon").once(claim(), tool))

    assert (CallTimedOut, first.message, first.fix) == (type(second), second.message, second.fix)
    assert 1 == tool.runs


async def test_processes_that_begin_it_at_once_make_it_once(world):
    tool = Tool()
    books = [world.process(f"{number}") for number in range(10)]

    ends = await soon(asyncio.gather(*(each.once(claim(), tool) for each in books), return_exceptions=True))

    assert 1 == tool.runs
    assert [Reply] == [type(end) for end in ends if type(end) not in (Busy, AnswerGone)]


def test_a_process_is_known_by_more_than_its_pid():
    own = Instance.of_this_process()
    child = subprocess.Popen(["sleep", "60"])
    born = of_this_machine().look(child.pid).born
    other = replace(own, pid=child.pid, born=born)

    assert [True, True] == [is_running(str(each)) for each in (own, other)]
    strangers = [replace(own, born=own.born + 1), replace(own, space=own.space + 1)]
    assert [False] * 2 == [is_running(str(each)) for each in strangers]
    assert [False] * 3 == [is_running(text) for text in ("", "daemon", f"{own}x")]
    child.kill()
    until_dead(child.pid)
    assert not is_running(str(other)), "it is dead, though nobody has waited for it"
    child.wait()
    assert not is_running(str(other))


def until_dead(pid: int) -> None:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


async def test_a_process_that_ends_writes_down_what_it_cancels(world, book):
    tool = Tool()
    caller = await world.under_way(book, tool)

    await soon(book.close())

    assert OutcomeUnknown is type(await problem_of(caller))
    assert 1 == tool.cancels
    known = await soon(world.process("next").known("once"))
    assert ("ended", "unknown") == (known["state"], known["outcome"])


# ── what is known ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_known_of_a_call_under_way(world, book):
    await world.under_way(book, Tool())
    world.wait(1.5)

    expected = {
        "call_id": "once",
        "app": "shop",
        "tool": "pay",
        "state": "running",
        "outcome": None,
        "exit": None,
        "error": None,
        "age": 1.5,
        "result": None,
    }
    assert expected == await soon(book.known("once"))
    assert expected == await soon(world.process("direct").known("once"))


async def test_what_is_known_of_a_call_that_has_ended(world, book):
    await soon(book.once(claim(), Tool()))
    world.wait(1.5)

    expected = {
        "call_id": "once",
        "app": "shop",
        "tool": "pay",
        "state": "ended",
        "outcome": "executed",
        "exit": 0,
        "error": None,
        "age": 1.5,
        "result": "paid\n",
    }
    assert expected == await soon(book.known("once"))
    assert {**expected, "result": None} == await soon(world.process("direct").known("once"))


@pytest.mark.parametrize("problem", [SessionLost("it died"), ConnectFailed("no", fix="start it")])
async def test_what_is_known_of_a_call_that_failed(world, book, problem):
    await problem_of(book.once(claim(), Tool(fails=problem)))

    for each in (book, world.process("direct")):
        known = await soon(each.known("once"))
        assert ("ended", problem.outcome, problem.exit_status) == (known["state"], known["outcome"], known["exit"])
        assert problem.as_json()["error"] == known["error"]


async def test_nothing_is_known_of_other_ids(world, book):
    for each in (book, world.process("direct")):
        assert UnknownOutcome is type(await problem_of(each.known("once")))
    assert not world.state.root.exists()


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the journal's lock, as another process does."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(file)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_journal_has_a_line_for_each_beginning_and_each_end(world, book):
    await soon(book.once(claim(), Tool(says=reply(b"a secret"))))

    begun, ended = world.lines
    assert {"begun", "at", "owner", "app", "tool", "what", "lasts"} == set(begun)
    assert {"ended", "at", "owner", "outcome", "exit", "error"} == set(ended)
    assert "secret" not in world.state.outcomes.read_text()


async def test_the_line_is_there_before_the_call_is_made(world, book):
    await world.under_way(book, Tool())

    assert ["once"] == [line.get("begun") for line in world.lines]


async def test_the_folder_and_the_file_are_private_whatever_the_umask_is(world, book):
    before = os.umask(0)
    try:
        await soon(book.once(claim(), Tool()))
    finally:
        os.umask(before)

    assert (0o700, 0o600) == (mode(world.state.root), mode(world.state.outcomes))


async def test_a_file_that_others_could_read_is_made_private(world, book):
    world.state.create()
    world.state.outcomes.touch()
    world.state.outcomes.chmod(0o666)

    await soon(book.once(claim(), Tool()))

    assert 0o600 == mode(world.state.outcomes)


@pytest.mark.parametrize("kind", ["symlink", "hardlink", "directory", "fifo"])
async def test_what_is_no_file_of_ours_alone_is_left_alone_and_the_call_not_made(world, book, kind):
    world.state.create()
    victim = world.state.root / "victim"
    victim.write_text("precious")
    match kind:
        case "symlink":
            world.state.outcomes.symlink_to(victim)
        case "hardlink":
            os.link(victim, world.state.outcomes)
        case "directory":
            world.state.outcomes.mkdir()
        case "fifo":
            os.mkfifo(world.state.outcomes)
    tool = Tool()

    problem = await problem_of(book.once(claim(), tool))

    assert (NotRecorded, "not_executed", 4) == (type(problem), problem.outcome, problem.exit_status)
    assert problem.fix.endswith("\nwithout an id it can be made")
    assert ("precious", 0) == (victim.read_text(), tool.runs)
    assert kind == "hardlink" or UnknownOutcome is type(await problem_of(book.known("once")))


async def test_a_folder_that_others_can_write_to_is_told_with_what_mends_it(world, book):
    world.state.root.mkdir()
    world.state.root.chmod(0o777)

    problem = await problem_of(book.once(claim(), Tool()))

    assert (NotRecorded, f"chmod 700 {world.state.root}") == (type(problem), problem.fix.splitlines()[0])


async def test_a_folder_that_cannot_be_used_refuses_the_call(world, book):
    world.state.root.write_text("not a folder")
    tool = Tool()

    assert NotRecorded is type(await problem_of(book.once(claim(), tool)))
    assert 0 == tool.runs

    world.state.root.unlink()
    await soon(book.once(claim(), tool))
    assert 1 == tool.runs


@contextlib.contextmanager
def full_disk_after(size: int) -> Iterator[None]:
    """Files of this process cannot grow beyond `size`: writing stops in the middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_refuses_the_call_and_leaves_no_half_of_a_line(world, book):
    tool = Tool()
    await soon(book.once(claim("before"), tool))
    before = world.state.outcomes.read_bytes()

    with full_disk_after(len(before) + 10):
        problem = await problem_of(book.once(claim(), tool))

    assert NotRecorded is type(problem)
    assert "cannot be written down" in problem.message
    assert (before, 1) == (world.state.outcomes.read_bytes(), tool.runs)
    await soon(book.once(claim(), tool))
    assert 2 == tool.runs


async def test_a_disk_that_fills_up_during_the_call_does_not_lose_its_answer(world, book):
    tool = Tool()
    caller = await world.under_way(book, tool)

    with full_disk_after(world.state.outcomes.stat().st_size + 10):
        tool.may_end.set()
        assert reply() == await soon(caller)

    assert b"paid\n" == (await soon(book.once(claim(), tool))).body
    world.monotonic += KEPT_SECONDS + 1
    assert OutcomeUnknown is type(await problem_of(book.once(claim(), tool)))
    world.alive.remove("daemon")
    assert OutcomeUnknown is type(await problem_of(world.process("next").once(claim(), tool)))
    assert 1 == tool.runs


@pytest.mark.parametrize(
    "garbage",
    [
        b'{"begun": "once", "at": 1800',
        b"\xff\xfe\n",
        b"[" * 200_000 + b"\n",
        b"null\n",
        b'{"ended": "once", "at": 1.0, "owner": "daemon", "outcome": "executed", "exit": 0, "error": null}\n',
        b'{"begun": "once", "at": "now", "owner": 3}\n',
    ],
    ids=["torn", "binary", "deep", "null", "end", "types"],
)
async def test_lines_that_are_none_say_nothing_and_spoil_no_other(world, book, garbage):
    tool = Tool()
    await soon(book.once(claim("before"), tool))
    with world.state.outcomes.open("ab") as file:
        file.write(garbage)

    await soon(book.once(claim(), tool))

    direct = world.process("direct")
    for call_id in ("before", "once"):
        assert "executed" == (await soon(direct.known(call_id)))["outcome"]
        assert AnswerGone is type(await problem_of(direct.once(claim(call_id), tool)))
    assert 2 == tool.runs


async def test_a_journal_that_is_taken_away_is_begun_anew(world, book):
    tool = Tool()
    await soon(book.once(claim("before"), tool))
    world.state.outcomes.unlink()
    world.state.root.rmdir()

    await soon(book.once(claim(), tool))

    assert ["once"] == [line["begun"] for line in world.lines if "begun" in line]


async def test_what_is_forgotten_leaves_the_file(world, book):
    world.remember(*(f"old-{number}" for number in range(100)))
    world.wait(KEPT_SECONDS + 1)
    world.remember("before")

    await soon(book.once(claim(), Tool()))

    assert ["before", "before", "once", "once"] == [line.get("begun") or line["ended"] for line in world.lines]
    assert 0o600 == mode(world.state.outcomes)
    assert [world.state.outcomes] == list(world.state.root.iterdir())


async def test_what_a_clock_that_was_wrong_has_left_is_forgotten_too(world, book):
    world.wall += 400 * 86_400
    world.remember("wrong")
    world.wall -= 400 * 86_400
    world.remember(*(f"old-{number}" for number in range(100)))
    world.wait(KEPT_SECONDS + 1)

    await soon(book.once(claim(), Tool()))
    assert "executed" == (await soon(book.known("wrong")))["outcome"]

    world.wait(KEPT_SECONDS + 1)
    assert UnknownOutcome is type(await problem_of(book.known("wrong")))


async def test_nothing_is_lost_when_the_file_is_written_anew_under_many_hands(world):
    books = [world.process(f"{number}") for number in range(4)]
    world.remember(*(f"old-{number}" for number in range(100)))
    world.wait(KEPT_SECONDS + 1)

    await soon(
        asyncio.gather(
            *(each.once(claim(f"{number}-{place}"), Tool()) for place, each in enumerate(books) for number in range(20))
        )
    )

    assert "old-0" not in world.state.outcomes.read_text()
    expected = {f"{number}-{place}" for place in range(4) for number in range(20)}
    assert expected == {line["begun"] for line in world.lines if "begun" in line}
    assert expected == {line["ended"] for line in world.lines if "ended" in line}


async def test_who_does_not_get_the_lock_in_time_writes_nothing(world):
    world.state.create()

    with held(world.state.outcomes), pytest.raises(NotRecorded, match="other processes hold its lock"):
        world.journal("direct").begin(claim(), time.monotonic() + 0.1)

    assert [] == world.lines


async def test_who_waits_for_the_lock_gets_it_in_the_end(world, book):
    world.state.create()
    with held(world.state.outcomes):
        caller = asyncio.create_task(book.once(claim(), Tool()))
        await let_run()

    assert reply() == await soon(caller)


@pytest.mark.slow
async def test_all_who_wait_for_a_lock_that_is_not_let_go_are_refused_in_time(world, book):
    world.state.create()
    tool = Tool()

    with held(world.state.outcomes):
        ends = asyncio.gather(*(book.once(claim(f"{n}"), tool) for n in range(20)), return_exceptions=True)
        problems = await asyncio.wait_for(ends, 8)

    assert [NotRecorded] * 20 == [type(each) for each in problems]
    assert "other processes hold its lock" in str(problems[0])
    assert 0 == tool.runs


# ── whatever happens in whatever order ───────────────────────────────────────────────────────────────────────────


class Life:
    """One process from its start to its end, with a loop of its own."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self._world = world
        self._runner = asyncio.Runner()
        self._book = world.process(name)
        self._callers: dict[str, list[asyncio.Task[Reply]]] = {}
        self._tools: dict[str, Tool] = {}

    def ask(self, call_id: str, tool: Tool) -> "asyncio.Task[Reply]":
        """A caller who waits, if `tool` was made to begin or had begun, or else has an answer."""

        async def asked() -> asyncio.Task[Reply]:
            caller = asyncio.create_task(self._book.once(claim(call_id), tool))
            begun = asyncio.create_task(self._tools.get(call_id, tool).begun.wait())
            await soon(asyncio.wait([caller, begun], return_when=asyncio.FIRST_COMPLETED))
            begun.cancel()
            return caller

        caller = self._runner.run(asked())
        if tool.runs:
            self._tools[call_id] = tool
        if not caller.done():
            self._callers.setdefault(call_id, []).append(caller)
        return caller

    def end(self, call_id: str, **how: Any) -> list[Reply | BaseException]:
        """Let the call end so; what its callers get."""
        tool = self._tools.pop(call_id)
        for name, value in how.items():
            setattr(tool, name, value)
        tool.may_end.set()
        return self._runner.run(self._ends(call_id))

    def leave(self, call_id: str) -> bool:
        """Cancel one caller; whether it was the last."""
        caller = self._callers[call_id].pop()

        async def left() -> None:
            caller.cancel()
            await soon(asyncio.wait([caller]))

        self._runner.run(left())
        if self._callers[call_id]:
            return False
        self._tools.pop(call_id)
        return True

    def stop(self) -> None:
        """End as a process does that is asked to."""
        self._runner.run(self._book.close())
        for call_id in self._callers:
            self._runner.run(self._ends(call_id))
        self.die()

    def die(self) -> None:
        """End as a process does that is killed: it writes nothing any more."""
        self._world.alive.discard(self.name)
        self._runner.close()
        # Its threads go with a process, whoever still refers to them.
        self._book._writer.shutdown(wait=False)

    async def _ends(self, call_id: str) -> list[Reply | BaseException]:
        callers, self._callers[call_id] = self._callers[call_id], []
        return await soon(asyncio.gather(*callers, return_exceptions=True))


# How a call may end: what the tool does, and what a later caller gets in the same process and in another.
ENDS: dict[str, tuple[dict[str, Any], Any, Any]] = {
    "answer": ({}, Reply, AnswerGone),
    "tool error": ({"says": reply(status=5)}, Reply, AnswerGone),
    "long answer": ({"says": reply(b"x" * (LONGEST_RESULT + 1))}, AnswerGone, AnswerGone),
    "server error": ({"fails": ServerError("no")}, ServerError, ServerError),
    "lost": ({"fails": SessionLost("gone")}, SessionLost, SessionLost),
    "not executed": ({"fails": NotExecuted("no")}, None, None),
    "help": ({"has_run": False}, None, None),
}

CALL_IDS = st.sampled_from(["a", "b", "c"])
PLACES = st.sampled_from([0, 1])


class CallsWithIds(RuleBasedStateMachine):
    """Two processes over one journal, in which calls begin, end, are left and asked for again; and which die.

    An id is free, or it is under way somewhere, or it has ended; what its callers get follows from that, and nothing
    is made but the call that takes a free id.
    """

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._world = World(Path(self._folder.name))
        self._names = map(str, itertools.count())
        self._lives = [Life(self._world, next(self._names)) for _ in range(2)]
        self._running: dict[str, Life] = {}
        self._overdue: set[str] = set()
        self._ended: dict[str, tuple[Life | None, Any, Any]] = {}

    def teardown(self) -> None:
        for life in self._lives:
            life.stop()
        self._folder.cleanup()

    @rule(place=PLACES, call_id=CALL_IDS)
    def ask(self, place: int, call_id: str) -> None:
        life, tool = self._lives[place], Tool()
        tool.may_end.clear()

        caller = life.ask(call_id, tool)

        is_free = call_id not in self._running and call_id not in self._ended
        assert (1 if is_free else 0) == tool.runs
        if is_free:
            self._running[call_id] = life
            self._overdue.discard(call_id)
        if self._running.get(call_id) is life:
            assert not caller.done()
        elif call_id in self._running:
            assert Busy is type(caller.exception())
        else:
            maker, here, elsewhere = self._ended[call_id]
            assert (here if maker is life else elsewhere) is type(caller.exception() or caller.result())

    @precondition(lambda self: self._running)
    @rule(chance=st.data(), how=st.sampled_from(sorted(ENDS)))
    def end(self, chance: st.DataObject, how: str) -> None:
        call_id = chance.draw(st.sampled_from(sorted(self._running)))
        life = self._running.pop(call_id)
        changes, here, elsewhere = ENDS[how]

        ends = life.end(call_id, **changes)

        assert 1 == len({str(end) for end in ends})
        if here:
            self._ended[call_id] = (life, here, elsewhere)

    @precondition(lambda self: self._running)
    @rule(chance=st.data())
    def leave(self, chance: st.DataObject) -> None:
        call_id = chance.draw(st.sampled_from(sorted(self._running)))
        life = self._running[call_id]

        if life.leave(call_id):
            del self._running[call_id]
            self._ended[call_id] = (life, OutcomeUnknown, OutcomeUnknown)

    @rule(place=PLACES, is_asked_to=st.booleans())
    def crash(self, place: int, is_asked_to: bool) -> None:
        gone, self._lives[place] = self._lives[place], Life(self._world, next(self._names))

        if is_asked_to:
            gone.stop()
        else:
            gone.die()

        for call_id in [call_id for call_id, life in self._running.items() if life is gone]:
            del self._running[call_id]
            # One that took longer than it was allowed to is known as long as its process lives.
            if is_asked_to or call_id not in self._overdue:
                self._ended[call_id] = (None, OutcomeUnknown, OutcomeUnknown)

    @rule()
    def expire(self) -> None:
        self._world.wait(LASTS + KEPT_SECONDS + 1)
        self._ended.clear()
        self._overdue |= set(self._running)

    @rule(place=PLACES, call_id=CALL_IDS)
    def look(self, place: int, call_id: str) -> None:
        journal = self._world.journal(self._lives[place].name)

        record = journal.find(call_id)

        if call_id in self._running and self._running[call_id] is not self._lives[place]:
            assert record is not None
            assert record.ending is None
        elif call_id in self._ended:
            assert record is not None
            assert record.ending is not None


def test_no_order_of_events_makes_a_call_twice():
    run_state_machine_as_test(CallsWithIds, settings=settings(max_examples=20, stateful_step_count=25))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_events_make_no_call_twice():
    run_state_machine_as_test(CallsWithIds, settings=settings(max_examples=200, stateful_step_count=50))
