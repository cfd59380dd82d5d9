"""Ending the daemon, whatever state it is in, and nobody else."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tasak.client import launcher, stopper
from tasak.errors import DaemonAway
from tasak.paths import StateDir
from tests.shell import FAST_APP, LOCK_HOLDER

pytestmark = pytest.mark.slow

# Longer than anything here takes on a busy machine.
PATIENCE = 30.0


@pytest.fixture
def bystander() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has nothing to do with anything."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()"], stdin=-1) as process:
        yield process
        process.kill()


def start(state: StateDir) -> psutil.Process:
    with launcher.start(state) as connection:
        return psutil.Process(stopper.listener_pid(connection))


def is_over(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_daemon_is_ended_with_its_servers(state, shell):
    shell.configure({"fast": FAST_APP})
    daemon = start(state)
    assert "1\n" == shell("fast", "counter").stdout
    (server,) = daemon.children()

    survivors = stopper.stop(state)

    assert [] == survivors
    assert (True, True) == (is_over(daemon), is_over(server))
    assert None is launcher.connect(state)
    assert not state.socket.exists()


def test_where_no_daemon_ever_was_there_is_none_to_stop(state):
    assert None is stopper.stop(state)


def test_what_a_dead_daemon_left_is_no_daemon_and_what_it_names_is_left_alone(state, bystander):
    state.create()
    state.lock.touch(0o600)
    state.pid_file.write_text(f"{bystander.pid}\n")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(state.socket))

    assert None is stopper.stop(state)
    assert None is bystander.poll()


def test_a_hung_daemon_is_killed_and_nobody_else_whatever_its_pid_file_says(state, bystander):
    daemon = start(state)
    state.pid_file.write_text(f"{bystander.pid}\n")
    daemon.send_signal(signal.SIGSTOP)

    survivors = stopper.stop(state)

    assert [] == list(survivors)
    assert is_over(daemon)
    assert None is bystander.poll()
    assert None is stopper.stop(state)


@pytest.mark.skipif(sys.platform != "linux", reason="there are no handles elsewhere")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_a_daemon_is_ended_where_the_kernel_gives_no_handle(state, monkeypatch, number):
    def refused(pid, flags=0):
        raise OSError(number, os.strerror(number))

    daemon = start(state)
    daemon.suspend()
    monkeypatch.setattr(os, "pidfd_open", refused)

    assert () == stopper.stop(state)
    assert is_over(daemon)


def test_a_daemon_that_another_one_follows_at_once_is_gone_nevertheless(state):
    first = start(state)
    next_one = [sys.executable, "-P", "-m", "tasak.daemon"]
    with subprocess.Popen(next_one, stderr=subprocess.PIPE, cwd="/") as following:
        began = time.monotonic()
        assert [] == stopper.stop(state)
        took = time.monotonic() - began

        assert launcher.READY == following.stderr.readline()
        assert is_over(first)
        assert took < stopper.SIGNAL_GRACE
        assert None is following.poll()
        assert [] == stopper.stop(state)


def test_a_daemon_that_is_leaving_is_waited_for(state):
    state.create()
    with (
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LOCK_HOLDER, state.lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as leaving,
        ThreadPoolExecutor() as pool,
    ):
        leaving.stdout.readline()
        stopped = pool.submit(stopper.stop, state)
        with pytest.raises(TimeoutError):
            stopped.result(0.2)

        leaving.stdin.close()

        assert None is stopped.result(PATIENCE)


def test_a_lock_that_is_never_given_back_is_said(state):
    state.create()
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", LOCK_HOLDER, state.lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()

        with pytest.raises(DaemonAway, match="holds its lock, but does not listen"):
            stopper.stop(state)

        assert None is holder.poll()
        holder.stdin.close()
