"""What is kept of a daemon that does not start."""

import os

import pytest

from tasak.client import start_failures
from tasak.errors import DaemonAway
from tasak.paths import StateDir
from tests.shell import FAST_APP, Shell


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fail(state, clock, times: int) -> None:
    state.create()
    for _ in range(times):
        start_failures.note(state, "the daemon did not start\n  | no room", clock)


def pause(state, clock) -> float:
    """How long until it may be tried again."""
    began = clock.now
    try:
        while True:
            try:
                start_failures.require_time(state, clock)
                return clock.now - began
            except DaemonAway:
                clock.now += 0.5
    finally:
        clock.now = began


@pytest.mark.parametrize(("times", "seconds"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (7, 32), (8, 60), (20, 60)])
def test_the_first_repeat_is_free_then_the_pause_doubles_up_to_a_minute(state, clock, times, seconds):
    fail(state, clock, times)

    assert seconds == pause(state, clock)


def test_whoever_has_to_wait_is_told_why_and_for_how_long(state, clock):
    fail(state, clock, 3)

    with pytest.raises(DaemonAway, match=r"no room\n.failed 3 times in a row; tried again in 2 s") as caught:
        start_failures.require_time(state, clock)

    assert "tasak daemon start" in str(caught.value.fix)


def test_a_start_ends_it(state, clock):
    fail(state, clock, 5)

    start_failures.forget(state)

    assert 0 == pause(state, clock)


def test_a_clock_that_is_set_back_does_not_lengthen_the_pause(state, clock):
    fail(state, clock, 3)

    clock.now -= 100_000

    assert 0 == pause(state, clock)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"count": "x"}', '{"count": 99999, "at": 1, "said": ""}'])
def test_a_file_that_is_none_of_ours_is_no_failure(state, clock, text):
    state.create()
    state.start_failed.write_text(text)

    assert 0 == pause(state, clock)


@pytest.mark.slow
def test_calls_go_direct_meanwhile_and_start_no_process():
    with Shell() as shell:
        shell.configure({"fast": FAST_APP})
        shell.env["TASAK_DAEMON_PORT"] = "nonsense"
        assert "the daemon did not start" in shell("fast", "counter").stderr
        for _ in range(4):
            start_failures.note(StateDir(shell.home / ".tasak"), "the daemon did not start")
        del shell.env["TASAK_DAEMON_PORT"]

        meanwhile = shell("fast", "counter")
        asked_for = shell("daemon", "start")

        assert (0, "1\n") == (meanwhile.returncode, meanwhile.stdout)
        assert "failed 5 times in a row" in meanwhile.stderr
        assert 0 == asked_for.returncode
        assert "1\n" == shell("fast", "counter").stdout
        assert not os.path.exists(shell.home / ".tasak" / "start.failed")
