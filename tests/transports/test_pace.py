"""How fast a peer may talk: what it was asked for as it comes, and of the rest a share."""

import asyncio

import pytest

from tasak.transports.pace import BURST, HANDLING, LONGEST_WAIT, SHARE, TURN, Allowance, Pace

# More than a turn of the loop, and less than what is owed.
SOON = 0.03


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_burst_is_free_and_the_rest_waits_for_its_time(clock):
    allowance = Allowance(10, 50, clock)

    assert [0.0, 0.0, 2.0, 4.0] == [allowance.take(amount) for amount in (30, 20, 20, 20)]


def test_there_is_a_longest_wait(clock):
    allowance = Allowance(10, 50, clock, longest_wait=3)

    assert [3.0, 3.0] == [allowance.take(1000), allowance.take(1000)]


def test_what_is_owed_is_paid_by_time_and_no_more_is_saved_than_the_burst(clock):
    allowance = Allowance(10, 50, clock)
    allowance.take(70)
    assert not allowance.allows()

    clock.now += 2
    assert allowance.allows()

    clock.now += 1000
    assert [0.0, 1.0] == [allowance.take(50), allowance.take(10)]


def spend(pace, clock, seconds):
    with pace:
        clock.now += seconds


async def keep(pace):
    """The seconds that it waited."""
    begun = asyncio.get_running_loop().time()
    await pace.keep()
    return asyncio.get_running_loop().time() - begun


async def test_messages_that_come_together_are_read_at_once(clock):
    pace = Pace(clock)

    for _ in range(int(BURST / HANDLING) - 1):
        spend(pace, clock, 0.0)

    assert await keep(pace) < SOON


async def test_a_flood_gets_its_share_and_waits_for_the_rest(clock):
    pace = Pace(clock)
    spend(pace, clock, BURST)

    spend(pace, clock, 0.006)
    waited = await keep(pace)

    # A share of it came back while it was spent.
    owed = (0.006 * (1 - SHARE) + 2 * HANDLING) / SHARE
    assert owed * 0.9 <= waited < owed + 1


async def test_after_one_large_message_nobody_waits_for_long(clock):
    pace = Pace(clock)

    spend(pace, clock, 10.0)
    waited = await keep(pace)
    clock.now += LONGEST_WAIT
    spend(pace, clock, 0.0)

    assert LONGEST_WAIT * 0.9 <= waited < 1
    assert await keep(pace) < SOON


async def test_what_was_asked_for_costs_nothing_however_much_it_is(clock):
    pace = Pace(clock)

    for _ in range(1000):
        spend(pace, clock, 0.1)
        pace.forgive()
    spend(pace, clock, BURST / 2)

    assert await keep(pace) < SOON


async def test_of_what_is_there_already_others_get_their_turn(clock):
    pace, turns = Pace(clock), 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(10):
        spend(pace, clock, TURN)
        pace.forgive()
        await pace.keep()
    task.cancel()
    await asyncio.wait([task])

    assert 10 <= turns
