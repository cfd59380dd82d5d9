"""The thread that notices a loop that is held up."""

import asyncio
import logging
import time

import pytest

from tasak.watchdog import INTERVAL, PATIENCE, Watchdog

pytestmark = pytest.mark.unruly("a loop is held up, and that is what is noticed")

# Longer than anything here takes on a busy machine.
DEADLINE = 20.0

LONG = PATIENCE + 2 * INTERVAL


def hold_up(seconds: float) -> None:
    time.sleep(seconds)


class Blame:
    def __init__(self) -> None:
        self.heard: list[tuple[list[str], str]] = []

    def __call__(self, modules, deed) -> None:
        self.heard.append((list(modules), deed))


@pytest.mark.slow
async def test_who_holds_up_the_loop_is_named_with_the_stack(caplog):
    blame = Blame()

    with caplog.at_level(logging.ERROR), Watchdog(blame):
        hold_up(LONG)

    modules, deed = blame.heard[0]
    assert __name__ == modules[0]
    assert "held up the daemon for" in deed
    assert "in hold_up" in caplog.text


async def test_it_is_noticed_before_a_caller_gives_up_and_told_once():
    assert PATIENCE + INTERVAL < 2.0


@pytest.mark.slow
async def test_one_stretch_is_logged_once_however_long_it_is(caplog):
    with caplog.at_level(logging.ERROR), Watchdog(Blame()):
        hold_up(LONG + 3 * INTERVAL)

    assert 1 == caplog.text.count("the loop is held up")


@pytest.mark.slow
async def test_a_loop_that_turns_is_nobodys_fault():
    blame = Blame()
    turns = asyncio.Event()

    with Watchdog(blame):
        asyncio.get_running_loop().call_later(LONG, turns.set)
        await asyncio.wait_for(turns.wait(), DEADLINE)

    assert [] == blame.heard


async def test_its_thread_ends_with_it():
    watchdog = Watchdog(Blame())

    with watchdog:
        pass

    watchdog._thread.join(DEADLINE)
    assert not watchdog._thread.is_alive()


@pytest.mark.slow
@pytest.mark.parametrize("times", [2])
async def test_each_stretch_is_a_new_one(caplog, times):
    with caplog.at_level(logging.ERROR), Watchdog(Blame()):
        for _ in range(times):
            hold_up(LONG)
            await asyncio.sleep(2 * INTERVAL)

    assert times == caplog.text.count("the loop is held up")
