"""What is left behind is found, and named."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tasak.testing import LeftBehind, no_leaks

# Long enough that nothing which is let go of in time is taken for a leak.
PATIENCE = 20.0
# Short, where something is left on purpose.
AT_ONCE = 0.05

# Two processes: the second is a child of the first.
FAMILY = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"])
print(child.pid, flush=True)
child.wait()
"""


@contextmanager
def left(pattern: str, *, within: float = AT_ONCE) -> Iterator[None]:
    """The block leaves something behind that is described so, and nothing else."""
    with pytest.raises(LeftBehind, match=rf"^left behind:\n  {pattern}$"), no_leaks(within=within):
        yield


async def test_a_block_that_leaves_nothing_passes():
    async with no_leaks(within=PATIENCE):
        await asyncio.gather(asyncio.sleep(0), asyncio.to_thread(os.getpid))
        for descriptor in os.pipe():
            os.close(descriptor)


async def test_a_task_is_named_with_where_it_is():
    with left(r"task 'forgotten': sleep at .*tasks\.py:\d+"):
        task = asyncio.create_task(asyncio.sleep(1000), name="forgotten")
        await asyncio.sleep(0)

    task.cancel()


def test_a_thread_is_named():
    over = threading.Event()

    with left("thread 'forgotten'"):
        thread = threading.Thread(target=over.wait, name="forgotten")
        thread.start()

    over.set()
    thread.join()


def test_a_descriptor_is_named_with_what_it_is_of(tmp_path):
    path = tmp_path / "forgotten"

    with left(rf"fd \d+: .*{path.name if sys.platform == 'linux' else 'inode'}.*"):
        descriptor = os.open(path, os.O_CREAT)

    os.close(descriptor)


def test_a_socket_is_named_by_its_two_ends():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        with left(rf"fd \d+: socket from \('127.0.0.1', \d+\) to \('127.0.0.1', {port}\)"):
            connected = socket.create_connection(("127.0.0.1", port))

        connected.close()


def test_a_descriptor_that_took_the_number_of_another_is_one_that_was_left(tmp_path):
    before = os.open(tmp_path / "before", os.O_CREAT)

    with left(f"fd {before}: .*"):
        os.close(before)
        after = os.open(tmp_path / "after", os.O_CREAT)

    assert before == after
    os.close(after)


def test_processes_are_named_down_to_the_last_grandchild():
    with left(r"fd .*\n  fd .*\n  process \d+ .* child\.wait\(\)\n  process \d+ .* -c input\(\)"):
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        child.stdout.readline()

    child.communicate()


def test_a_process_that_nobody_buried_is_left_behind():
    with left(r"process \d+ \(zombie\)"):
        child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "pass"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    child.wait()


async def test_what_goes_a_little_later_is_waited_for():
    async with no_leaks(within=PATIENCE):
        task = asyncio.create_task(asyncio.sleep(0.05))
        timer = threading.Timer(0.05, lambda: None)
        timer.start()

    assert task.done()
    assert not timer.is_alive()


async def test_what_was_there_before_is_nobodys_leak():
    task = asyncio.create_task(asyncio.sleep(1000))
    reading, writing = os.pipe()

    async with no_leaks(within=AT_ONCE):
        pass

    task.cancel()
    os.close(reading)
    os.close(writing)


async def test_a_block_that_raises_is_not_held_to_it():
    tasks = []

    async def leave_and_fail():
        async with no_leaks(within=AT_ONCE):
            tasks.append(asyncio.create_task(asyncio.sleep(1000)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await leave_and_fail()
    tasks[0].cancel()
