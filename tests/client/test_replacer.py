"""A daemon of another version: replaced by one of ours, unless it is young."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.shell import FAST_APP, PATIENCE, Shell

# An installation of another version, whose daemon has run for so many seconds.
OTHER = """
import sys, tasak
tasak.__version__ = "9.9.9"
import tasak.daemon
tasak.daemon.BORN -= float(sys.argv[1])
sys.exit(tasak.daemon.main())
"""


@pytest.fixture
def shell() -> Iterator[Shell]:
    with Shell() as made:
        made.configure({"fast": FAST_APP})
        yield made


def start_other(shell: Shell, age: float) -> "subprocess.Popen[bytes]":
    other = subprocess.Popen(
        [sys.executable, "-P", "-c", OTHER, str(age)],
        env=shell.env,
        cwd="/",
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert other.stderr is not None
    assert b"tasak: ready\n" == other.stderr.readline()
    other.stderr.close()
    return other


@pytest.fixture
def old(shell: Shell) -> Iterator["subprocess.Popen[bytes]"]:
    other = start_other(shell, 3600)
    yield other
    other.kill()
    other.wait()


@pytest.mark.slow
def test_a_call_replaces_it_and_is_served_by_ours(shell, old):
    done = shell("fast", "counter")

    assert (0, "1\n") == (done.returncode, done.stdout)
    assert "the daemon was replaced" in done.stderr
    old.wait(PATIENCE)
    assert "2\n" == shell("fast", "counter").stdout
    assert old.pid != shell.daemon_pid


@pytest.mark.slow
def test_a_list_replaces_it_too(shell, old):
    done = shell("fast")

    assert "counter()" in done.stdout
    old.wait(PATIENCE)


@pytest.mark.slow
def test_ten_callers_at_once_replace_it_and_each_is_served(shell, old):
    with ThreadPoolExecutor(10) as threads:
        done = list(threads.map(lambda _: shell("fast", "counter"), range(10)))

    assert {0} == {each.returncode for each in done}
    assert [str(number) for number in range(1, 11)] == sorted((each.stdout.strip() for each in done), key=int)
    old.wait(PATIENCE)


@pytest.mark.slow
def test_a_young_one_is_left_alone_and_the_call_goes_direct(shell):
    other = start_other(shell, 0)
    try:
        done = shell("fast", "counter")

        assert (0, "1\n") == (done.returncode, done.stdout)
        assert "the daemon is tasak 9.9.9" in done.stderr
        assert "called directly" in done.stderr
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.slow
def test_who_wants_no_daemon_started_replaces_none(shell, old):
    done = shell("fast", "counter", TASAK_NO_DAEMON="1")

    assert (0, "1\n") == (done.returncode, done.stdout)
    assert "called directly" in done.stderr
    assert old.poll() is None
