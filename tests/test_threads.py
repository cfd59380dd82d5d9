"""Worker threads: whoever waits for one hears of its end, and they can be there before there is work."""

import asyncio
import contextvars
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from tasak.threads import Threads, aside, keep_ours

PATIENCE = 20.0


@pytest.fixture
def threads() -> Iterator[Threads]:
    with Threads(2) as made:
        yield made


class Forgetful:
    """Hears of an end, for which there is no memory at first."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.heard: list[object] = []
        self.has_heard = threading.Event()

    def __call__(self, done: Future[str]) -> None:
        if self.left:
            self.left -= 1
            raise MemoryError
        self.heard.append(done.result())
        self.has_heard.set()


async def test_work_of_the_loop_is_done_and_its_errors_are_raised(threads):
    loop = asyncio.get_running_loop()

    assert 3 == await loop.run_in_executor(threads, lambda: 3)
    with pytest.raises(FileNotFoundError):
        await loop.run_in_executor(threads, open, "/nowhere")


async def test_what_is_done_aside_does_not_wait_for_the_threads_of_the_loop(threads):
    loop = asyncio.get_running_loop()
    go_on = threading.Event()
    theirs = Threads(1)
    loop.set_default_executor(theirs)
    held_up = loop.run_in_executor(None, go_on.wait, PATIENCE)
    keep_ours(loop, threads)
    try:
        async with asyncio.timeout(PATIENCE / 2):
            assert "seen" == await aside(str.lower, "SEEN")
        assert not held_up.done()
    finally:
        go_on.set()
        await held_up


async def test_where_none_are_kept_it_is_done_in_the_threads_of_the_loop_and_knows_the_context():
    level = contextvars.ContextVar("level", default=0)
    level.set(3)

    assert 3 == await aside(level.get)


def test_who_waits_is_told_again_where_there_was_no_memory_to(threads):
    forgetful = Forgetful(3)
    go_on = threading.Event()

    def work() -> str:
        go_on.wait(PATIENCE)
        return "done"

    threads.submit(work).add_done_callback(forgetful)
    go_on.set()

    assert forgetful.has_heard.wait(PATIENCE)
    assert ["done"] == forgetful.heard


def test_work_that_is_given_up_before_its_turn_is_not_done(threads):
    go_on = threading.Event()
    done: list[str] = []
    for _ in range(2):
        threads.submit(go_on.wait, PATIENCE)
    given_up = threads.submit(done.append, "given up")

    assert given_up.cancel()
    go_on.set()
    threads.submit(done.append, "next").result(PATIENCE)
    assert ["next"] == done


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its limit of addresses")
def test_where_there_is_room_for_a_few_of_them_those_do_the_work():
    script = """
from threading import active_count
from tasak.threads import Threads
threads = Threads(500)
threads.start()
print(1 < active_count() < 500, threads.submit(str.lower, "DONE").result(20))
"""
    with_few_addresses = ["sh", "-c", 'ulimit -v 500000 && exec "$@"', "sh", sys.executable, "-c", script]

    done = subprocess.run(with_few_addresses, timeout=PATIENCE, capture_output=True, text=True, check=False)

    assert ("True done\n", "") == (done.stdout, done.stderr)


def test_once_they_are_started_no_work_starts_another(threads):
    threads.start()
    before = threading.active_count()
    go_on = threading.Event()
    working = [threads.submit(go_on.wait, PATIENCE) for _ in range(5)]

    assert before == threading.active_count()
    go_on.set()
    assert [True] * 5 == [each.result(PATIENCE) for each in working]


def test_at_the_end_what_waits_is_given_up_and_what_has_begun_is_waited_for_in_vain_no_longer_than_said(threads):
    go_on = threading.Event()
    done: list[str] = []
    held_up = [threads.submit(go_on.wait, PATIENCE) for _ in range(2)]
    waiting = threads.submit(done.append, "waiting")

    assert not threads.have_ended(0.01)
    assert waiting.cancelled()
    go_on.set()
    assert threads.have_ended(PATIENCE)
    assert [True, True] == [each.result() for each in held_up]
    assert [] == done
    with pytest.raises(RuntimeError, match="shutdown"):
        threads.submit(done.append, "late")
