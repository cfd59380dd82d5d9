"""The contract can fail: each promise has a transport that breaks it, and is caught."""

import inspect
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tasak.errors import BrokenTransport, OutcomeUnknown, ServerError
from tasak.failure import Misbehaved
from tasak.testing import ContractPeer, LeftBehind, StdioServer, TransportContract
from tests.testing import broken
from tests.testing.broken import with_option, with_schema, with_session

pytestmark = pytest.mark.slow

PATIENCE = 60.0

# How a test of pytest's fails that has no assert: `pytest.raises` without an exception, `pytest.fail`.
Failed = pytest.fail.Exception

# A promise that is broken by waiting is caught when patience is at its end, the others as soon as they are seen.
HURRY = 1.5
BY_WAITING = (TimeoutError, OutcomeUnknown, Failed)


class Hurried(TransportContract):
    """The contract over the server of the standard library, for those who will not keep it."""

    cycles = 3
    notice = 0.5
    settling = 0.3

    def __init__(self, transport: Any, folder: Path, patience: float = TransportContract.patience) -> None:
        self.transport = transport  # type: ignore[misc]
        self.folder = folder
        self.patience = patience  # type: ignore[misc]

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[ContractPeer]:
        with StdioServer() as server:
            options = {"command": server.command, "env": server.env}
            try:
                yield server.peer(options, unreachable={"command": ["false"]})
            finally:
                await server.cut()


async def clear_up(plugin: Any) -> None:
    if clearing := getattr(plugin, "clear_up", None):
        cleared = clearing()
        if inspect.isawaitable(cleared):
            await cleared


BROKEN = [
    # Options
    ("its_schema_is_a_json_schema_that_describes_every_option", with_schema(type=5), BrokenTransport),
    ("its_schema_is_a_json_schema_that_describes_every_option", with_option(type="string"), AssertionError),
    ("its_schema_is_a_json_schema_that_describes_every_option", with_schema(properties={"more": True}), AssertionError),
    ("its_options_have_names_that_are_not_taken", with_schema(properties={"description": {}}), AssertionError),
    ("its_schema_says_of_every_option_what_it_may_be", with_option(description="Whatever"), AssertionError),
    ("its_schema_refuses_an_option_that_it_does_not_know", with_schema(additionalProperties=True), Failed),
    # Opening
    ("it_connects_and_says_whom_it_talks_to", with_session(broken.EndsWithAnEventOfAThread), Misbehaved),
    ("it_connects_and_says_whom_it_talks_to", with_session(broken.KnowsItsPeerByNoJson), Misbehaved),
    ("a_peer_that_is_not_there_is_a_failed_connect_that_leaves_nothing", broken.FailsInItsOwnWords(), OSError),
    ("a_peer_that_is_not_there_is_a_failed_connect_that_leaves_nothing", broken.NeverGivesUp(), TimeoutError),
    ("a_peer_that_is_not_there_is_a_failed_connect_that_leaves_nothing", broken.LeavesATaskWhereItFails(), LeftBehind),
    ("a_connect_that_is_cancelled_leaves_nothing", broken.GoesOnWhenItIsCancelled(), LeftBehind),
    ("opening_and_closing_again_and_again_leaves_nothing", broken.LeavesATask(), LeftBehind),
    ("opening_and_closing_again_and_again_leaves_nothing", broken.LeavesADescriptor(), LeftBehind),
    ("opening_and_closing_again_and_again_leaves_nothing", broken.LeavesAThread(), LeftBehind),
    ("opening_and_closing_again_and_again_leaves_nothing", broken.LeavesAProcess(), LeftBehind),
    ("opening_and_closing_again_and_again_leaves_nothing", broken.ClosesNothing(), LeftBehind),
    # Calling
    ("the_tools_are_listed", with_session(broken.ForgetsTools), AssertionError),
    ("a_call_is_answered", with_session(broken.DropsWhatIsNotAscii), AssertionError),
    (
        "many_calls_share_one_session_and_each_gets_its_own_answer",
        with_session(broken.MixesAnswers),
        AssertionError,
    ),
    ("a_session_keeps_its_state_between_calls", with_session(broken.ForgetsBetweenCalls), AssertionError),
    ("a_slow_call_does_not_hold_up_another", with_session(broken.OneAtATime), TimeoutError),
    ("a_large_result_arrives_whole", with_session(broken.CutsLargeResults), AssertionError),
    ("a_tools_own_error_is_a_result", with_session(broken.RaisesToolErrors), ServerError),
    ("a_json_rpc_error_is_the_servers_and_the_session_goes_on", with_session(broken.AnswersErrors), Failed),
    (
        "a_json_rpc_error_is_the_servers_and_the_session_goes_on",
        with_session(broken.KnowsNothingOfErrors),
        OutcomeUnknown,
    ),
    ("an_unknown_method_is_the_servers_error_and_the_session_goes_on", with_session(broken.AnswersErrors), Failed),
    (
        "an_unknown_tool_is_the_servers_error_and_the_session_goes_on",
        with_session(broken.AnswersUnknownTools),
        AssertionError,
    ),
    # Progress and time
    ("progress_reaches_the_call_that_it_is_of", with_session(broken.DropsProgress), AssertionError),
    ("progress_reaches_the_call_that_it_is_of", with_session(broken.MixesProgress), AssertionError),
    ("each_progress_starts_the_time_anew", with_session(broken.CountsTimeFromTheBeginning), OutcomeUnknown),
    (
        "no_answer_in_time_is_an_unknown_outcome_and_the_session_goes_on",
        with_session(broken.KnowsNoTime),
        TimeoutError,
    ),
    ("no_answer_in_time_cancels_the_call_at_the_peer", with_session(broken.KnowsNoTime), TimeoutError),
    # Cancelling
    (
        "cancelling_a_call_reaches_the_peer_and_the_session_goes_on",
        with_session(broken.KeepsCancellingToItself),
        TimeoutError,
    ),
    (
        "cancelling_a_call_reaches_the_peer_and_the_session_goes_on",
        with_session(broken.EndsWithACancelledCall),
        AssertionError,
    ),
    # Ping
    ("a_ping_waits_for_the_peer", broken.PingsFromMemory(), AssertionError),
    ("a_ping_of_a_dead_peer_fails", broken.PingsNobody(), AssertionError),
    # The peer's death
    ("the_death_of_an_idle_peer_is_noticed", with_session(broken.NoticesNoDeath), TimeoutError),
    ("a_call_after_the_peers_death_is_never_executed", with_session(broken.WaitsForTheDead), Failed),
    ("a_call_after_the_peers_death_is_never_executed", with_session(broken.RaisesItsOwnError), AssertionError),
    ("a_call_after_the_peers_death_is_never_executed", with_session(broken.SendsAgain), AssertionError),
    ("a_call_that_the_peer_dies_in_is_at_once_of_unknown_outcome", with_session(broken.Lies), AssertionError),
    ("a_call_that_the_peer_dies_in_is_at_once_of_unknown_outcome", with_session(broken.WaitsForTheDead), Failed),
    ("a_call_that_the_peer_dies_of_is_executed_once_at_the_most", with_session(broken.SendsAgain), AssertionError),
    ("a_call_that_the_peer_dies_of_is_executed_once_at_the_most", with_session(broken.Lies), AssertionError),
    ("not_executed_is_said_only_of_what_was_not", with_session(broken.Lies), AssertionError),
    # Closing
    ("closing_twice_is_closing_once", broken.ClosesOnce(), RuntimeError),
    ("closing_after_the_peers_death_raises_nothing", broken.ClosesOnlyTheAnswering(), OSError),
    ("closing_after_the_peers_death_was_noticed_raises_nothing", broken.ClosesOnlyTheLiving(), ConnectionError),
    (
        "closing_makes_what_is_under_way_of_unknown_outcome",
        with_session(broken.WaitsForTheDead),
        Failed,
    ),
    ("a_call_after_closing_is_not_executed", with_session(broken.RaisesItsOwnError), AssertionError),
    ("a_call_after_closing_is_not_executed", with_session(broken.SendsAgain), AssertionError),
]


def label(value: Any) -> str:
    if isinstance(value, broken.Sound):
        return (value.session if value.session is not broken.Wrapped else type(value)).__name__
    return value if isinstance(value, str) else value.__name__


@pytest.mark.unruly("a test that fails in the middle leaves its calls to themselves")
@pytest.mark.parametrize(("promise", "plugin", "kind"), BROKEN, ids=label)
async def test_a_promise_that_is_broken_is_caught(tmp_path, promise, plugin, kind):
    contract = Hurried(plugin, tmp_path, HURRY if kind in BY_WAITING else TransportContract.patience)

    try:
        with pytest.raises(kind):
            await getattr(contract, f"test_{promise}")()
    finally:
        await clear_up(plugin)


PROMISES = [name for name in dir(TransportContract) if name.startswith("test_")]


class Patient(Hurried):
    notice = 5.0
    settling = 5.0


class Lacking(Patient):
    lacks: ClassVar = {"unknown_tool": "it answers whatever it is called"}


@pytest.mark.parametrize("promise", [promise for promise in PROMISES if "schema" in promise or "options" in promise])
async def test_one_without_options_keeps_what_is_promised_of_them(tmp_path, promise):
    plugin = broken.Sound()
    plugin.schema = {"type": "object", "additionalProperties": False}

    await getattr(Patient(plugin, tmp_path), promise)()


@pytest.mark.parametrize("promise", PROMISES)
async def test_one_that_breaks_nothing_keeps_it(tmp_path, promise):
    await getattr(Patient(broken.Sound(), tmp_path), promise)()


def test_every_promise_has_one_who_breaks_it():
    tried = {f"test_{promise}" for promise, _, _ in BROKEN}
    # What these promise is that nothing at all is wrong.
    plain = {"test_it_connects_and_says_whom_it_talks_to", "test_a_ping_is_answered"}

    assert set(PROMISES) == tried | plain


async def test_what_is_lacking_is_skipped_with_its_reason(tmp_path):
    contract = Lacking(broken.Sound(), tmp_path)

    with pytest.raises(pytest.skip.Exception, match=r"^no unknown_tool: it answers whatever it is called$"):
        await contract.test_an_unknown_tool_is_the_servers_error_and_the_session_goes_on()


def test_nobody_can_lack_what_there_is_not():
    with pytest.raises(TypeError, match=r"^Misspelt: nobody can lack progres$"):
        type("Misspelt", (TransportContract,), {"lacks": {"progres": "a mistake"}})


# As its author has it


def example() -> str:
    """The test module of the contract's docstring, with something that it lacks."""
    described = inspect.getmodule(TransportContract).__doc__
    module = described.partition("\n\n    ")[2].partition("\n\n`transport`")[0]
    return textwrap.dedent("    " + module) + '\n    lacks = {"unknown_tool": "it answers whatever it is called"}\n'


def test_the_example_is_a_whole_test_module_and_shows_what_it_skips(tmp_path):
    (tmp_path / "test_mine.py").write_text(example())

    run = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-k", "is_answered or unknown_tool"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert "2 passed, 1 skipped" in done.stdout
    assert "no unknown_tool: it answers whatever it is called" in done.stdout


def test_a_failing_assert_says_what_was_compared(tmp_path):
    wrong = example() + '    echo = ("complain", "text")\n'
    (tmp_path / "test_mine.py").write_text(wrong)

    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "a_call_is_answered"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)

    assert "assert 'complained' == " in done.stdout
