"""Signals for processes that are held by nothing but their pid."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tasak.transports.census import of_this_machine, send

PATIENCE = 20.0


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()"], stdin=-1) as process:
        yield process
        process.kill()


@pytest.fixture(params=[errno.ENOSYS, errno.EPERM])
def no_handles(request, monkeypatch):
    """A kernel of before 5.3, or a container whose rules are of before."""

    def refused(pid, flags=0):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(os, "pidfd_open", refused)


@pytest.mark.skipif(sys.platform != "linux", reason="there are no handles elsewhere")
def test_where_the_kernel_gives_no_handle_a_process_is_ended_by_its_pid(child, no_handles):
    census = of_this_machine()
    found = census.look(child.pid)
    assert found is not None

    send(found, signal.SIGKILL, census)

    assert -signal.SIGKILL == child.wait(PATIENCE)


def test_another_process_of_the_same_pid_is_left_alone(child):
    census = of_this_machine()
    found = census.look(child.pid)
    assert found is not None

    send(replace(found, born=found.born - 1), signal.SIGKILL, census)

    assert None is child.poll()
