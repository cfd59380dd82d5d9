"""What holds for every test: it leaves nothing behind, and holds up no loop."""

import asyncio
import gc
import logging
import os
import secrets
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

from tasak.testing import LeftBehind
from tasak.testing.leaks import Belongings, children, describe_process, descriptors, tasks, threads
from tests.family import Family
from tests.shell import Shell

SPARE_WORKERS = 2

# What is let go of is often gone a moment later: a thread that waits for a process, the far end of a socket.
SETTLING_TIME = 5.0
POLL_INTERVAL = 0.01

# More than what a busy machine does to us by itself.
LONGEST_STEP = 2.0

# What asyncio says of a step that took longer, and of exceptions that reach nobody.
COMPLAINTS = ("Executing ", "Exception in callback", "Task exception was never", "Future exception was never")

# The task of a library that test servers use: one for each loop, and for good.
FOREIGN = "_shutdown_watcher"

# One port cannot be that of all the daemons that tests run side by side.
os.environ["TASAK_DAEMON_PORT"] = "off"

# How long an example takes, and how long to find it, is the machine's affair.
settings.register_profile("tasak", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tasak")

# Where pytest says which test runs: a mark in the environment of all that is started meanwhile with ours.
RUNNING_TEST = "PYTEST_CURRENT_TEST"


@pytest.fixture
def shell() -> Iterator[Shell]:
    with Shell() as made:
        yield made


@pytest.fixture
def family() -> Iterator[Family]:
    made = Family(f"family-{secrets.token_hex(8)}")
    yield made
    for pid in made.living():
        os.kill(pid, signal.SIGKILL)


def pytest_xdist_auto_num_workers() -> int:
    """More than there are cores, since for half of their time tests wait for something."""
    cores = os.cpu_count() or 1
    return cores + min(cores, SPARE_WORKERS)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "keeps(reason): what the tests of a module share outlives each of them")
    config.addinivalue_line("markers", "unruly(reason): holding up a loop, or losing an exception in it, is the point")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of what this machine does not have are left out."""
    watch_loops(items)
    longest_first(items)
    leave_out(config, items, "node", "npx", "servers from npm")
    leave_out(config, items, "compiler", "cc", "the native launcher")


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what stays for ever: else it takes 0.2 s each time it looks at everything."""
    gc.collect()
    gc.freeze()


def leave_out(config: pytest.Config, items: list[pytest.Item], marker: str, program: str, what: str) -> None:
    """Without the program, the tests with that marker are left out, and one line says so."""
    if shutil.which(program):
        return
    left_out = [item for item in items if item.get_closest_marker(marker)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    config.get_terminal_writer().line(f"{program} is not there: {len(left_out)} tests of {what} are left out")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Why tests were skipped, a line for each reason."""
    reasons = Counter(report.longrepr[2] for report in terminalreporter.stats.get("skipped", []))
    for reason, number in reasons.items():
        terminalreporter.write_line(f"{number} skipped: {reason.removeprefix('Skipped: ')}")


def longest_first(items: list[pytest.Item]) -> None:
    """Files whose tests may take long begin first: the last worker at work is then not alone for minutes."""
    longest: dict[Path, float] = {}
    for item in items:
        bound = item.get_closest_marker("timeout")
        longest[item.path] = max(longest.get(item.path, 0.0), float(bound.args[0]) if bound and bound.args else 0.0)
    items.sort(key=lambda item: -longest[item.path])


# ── nothing is left behind ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Threads, descriptors and processes are as they were, once the test and its fixtures are over.

    Takes some 2 ms. A module whose tests share a daemon, say, is marked with `keeps` and the reason.
    """
    if request.node.get_closest_marker("keeps"):
        yield
        return
    before, others = belongings(), set(psutil.pids())
    yield
    deadline = time.monotonic() + SETTLING_TIME
    while is_left([*belongings().since(before), *marked(request.node.nodeid, others)], deadline):
        gc.collect()  # what nobody refers to any more may have let go of nothing yet
        time.sleep(POLL_INTERVAL)


def is_left(things: Sequence[Callable[[], str]], deadline: float) -> bool:
    if things and time.monotonic() > deadline:
        raise LeftBehind("left behind:\n" + "\n".join(f"  {describe()}" for describe in things))
    return bool(things)


def belongings() -> Belongings:
    return Belongings(dict([*threads(), *descriptors(), *children()]))


def marked(test: str, others: Collection[int]) -> Iterator[Callable[[], str]]:
    """What was started in the test, wherever it has gone since; the `others` were there before."""
    for pid in set(psutil.pids()).difference(others):
        try:
            process = psutil.Process(pid)
            is_marked = process.environ().get(RUNNING_TEST, "").startswith(f"{test} (")
        except psutil.Error:
            continue
        if is_marked:
            yield partial(describe_process, process)


# ── nothing holds up the loop ────────────────────────────────────────────────────────────────────────────────────


def watch_loops(items: Sequence[pytest.Item]) -> None:
    """Have each test that runs in a loop use `orderly_loop`, within `leaves_nothing`."""
    for item in items:
        names = getattr(item, "fixturenames", [])
        if item.get_closest_marker("asyncio") and "orderly_loop" not in names:
            names.insert(names.index("leaves_nothing") + 1, "orderly_loop")


@pytest.fixture
async def orderly_loop(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """No task outlives the test and its fixtures, no step of the loop is a long one, no exception is lost in it."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = LONGEST_STEP
    # The times alone: with a traceback of each callback and future the tests would take a third longer.
    loop.get_debug = lambda: False  # type: ignore[method-assign]
    before = own_tasks()
    with complaints_of_asyncio() as complaints:
        yield
        deadline = time.monotonic() + SETTLING_TIME
        while is_left(own_tasks().since(before), deadline):  # noqa: ASYNC110 - the end of a task of anybody's
            await asyncio.sleep(POLL_INTERVAL)
    assert [] == complaints or request.node.get_closest_marker("unruly")


def own_tasks() -> Belongings:
    return Belongings({task: describe for task, describe in tasks() if FOREIGN not in describe()})


@contextmanager
def complaints_of_asyncio() -> Iterator[list[str]]:
    """What it logs meanwhile."""
    heard: list[str] = []
    listener = logging.Handler(logging.WARNING)
    listener.addFilter(lambda record: record.getMessage().startswith(COMPLAINTS))
    listener.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("asyncio")
    log.addHandler(listener)
    try:
        yield heard
    finally:
        log.removeHandler(listener)
