"""Starting the daemon: how many there are afterwards, what a failure says, and what the daemon takes along."""

import fcntl
import os
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil
import pytest

from tasak.client import client, launcher, stopper
from tasak.errors import DaemonAway
from tasak.paths import StateDir
from tests.shell import FAST_APP, LOCK_HOLDER, Shell, reap

# Longer than anything here takes on a busy machine.
PATIENCE = 30.0
NOBODY = 65534


@pytest.fixture
def shell() -> Iterator[Shell]:
    """Its daemon is ended without the command, which takes its time."""
    made = Shell()
    yield made
    stopper.stop(StateDir(made.home / ".tasak"), drain=0)
    reap()
    left = made.processes()
    shutil.rmtree(made.home)
    assert [] == left


def start(state: StateDir) -> int:
    """The pid of the daemon that answers."""
    connection = launcher.start(state)
    pid = stopper.listener_pid(connection)
    status, _ = client.ask(connection, "GET", "/health", timeout=PATIENCE)
    assert 200 == status
    return pid


# One daemon


def test_twenty_callers_at_once_get_the_same_daemon(state, shell):
    with ThreadPoolExecutor(20) as pool:
        pids = set(pool.map(lambda _: start(state), range(20)))

    assert {shell.daemon_pid} == pids
    assert 1 == len(shell.processes())
    assert pids == {start(state)}


def test_when_a_starter_dies_who_waits_for_it_starts_the_daemon(state, shell):
    state.create()
    with (
        subprocess.Popen(
            [sys.executable, "-c", LOCK_HOLDER, state.start_lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as starter,
        ThreadPoolExecutor() as pool,
    ):
        starter.stdout.readline()
        waiting = pool.submit(start, state)
        starter.kill()

        pid = waiting.result(PATIENCE)

    assert shell.daemon_pid == pid


def test_who_waits_to_start_it_while_it_is_stopped_does_not_start_it(state):
    state.create()
    with ThreadPoolExecutor() as pool, launcher.in_turn(state):
        waiting = pool.submit(launcher.start, state)
        state.disabled.touch(0o600)

    with pytest.raises(DaemonAway, match="the daemon is stopped"):
        waiting.result(PATIENCE)


@pytest.mark.slow
def test_nobody_waits_for_ever(state):
    state.create()
    mute, writing = os.pipe()
    with open(mute, "rb"), open(writing, "wb"), open(state.start_lock, "w") as lock, ThreadPoolExecutor() as pool:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = pool.submit(launcher.start, state)
        listening = pool.submit(launcher.until_ready, mute)

        with pytest.raises(DaemonAway, match="another process has been starting the daemon for 15 s"):
            waiting.result(2 * launcher.START_TIMEOUT)
        assert b"(not ready after 15 s)" == listening.result(2 * launcher.START_TIMEOUT)


# A start that fails


def test_a_daemon_that_refuses_to_start_is_quoted_and_leaves_nothing(state, shell, monkeypatch):
    monkeypatch.setenv("TASAK_DAEMON_LOG_LEVEL", "nonsense")

    with pytest.raises(DaemonAway) as raised:
        launcher.start(state)

    first, second, third = raised.value.message.splitlines()
    assert "the daemon did not start" == first
    assert "  | the environment variable TASAK_DAEMON_LOG_LEVEL is 'nonsense'" == second
    assert third.startswith("  | it takes one of DEBUG")
    assert str(state.log) in raised.value.fix
    assert [] == shell.processes()


def test_a_daemon_that_cannot_open_its_socket_is_quoted_without_a_traceback(state, shell):
    state.create()
    state.socket.mkdir()

    with pytest.raises(DaemonAway) as raised:
        launcher.start(state)

    assert str(state.socket) in raised.value.message
    assert "Traceback" not in raised.value.message
    assert 'File "' not in raised.value.message
    assert [] == shell.processes()


def test_a_daemon_that_says_nothing_is_quoted_from_its_log(state, monkeypatch, tmp_path):
    state.create()
    state.log.write_text("".join(f"line {number}\n" for number in range(1, 13)))
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\nexit 1\n")
    silent.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(silent))

    with pytest.raises(DaemonAway) as raised:
        launcher.start(state)

    expected = ["the daemon did not start", *(f"  | line {number}" for number in range(3, 13))]
    assert expected == raised.value.message.splitlines()


def test_an_interpreter_that_is_gone_is_named(state, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))

    with pytest.raises(DaemonAway, match=f"the daemon cannot be started: .*{tmp_path}/gone"):
        launcher.start(state)


def test_a_state_folder_that_others_can_write_to_is_refused_with_the_command_that_mends_it(state, shell):
    state.root.mkdir()
    state.root.chmod(0o770)

    with pytest.raises(DaemonAway, match="others can write to") as raised:
        launcher.start(state)
    state.root.chmod(0o700)

    assert f"chmod 700 {state.root}" == raised.value.fix
    assert [] == shell.processes()


def test_a_state_folder_that_cannot_be_used_is_named(state):
    state.root.write_text("")

    with pytest.raises(DaemonAway, match=f"{state.root} is not a folder of yours"):
        launcher.start(state)

    state.root.unlink()


def test_no_link_is_followed_to_the_start_lock(state, tmp_path):
    state.create()
    state.start_lock.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(DaemonAway, match=f"{state.start_lock} is not a file of yours alone"):
        launcher.start(state)

    assert not (tmp_path / "elsewhere").exists()


# What it takes along


@dataclass
class Started:
    """A daemon that a call started: our ends of the caller's pipes, and the daemon."""

    said: dict[str, int]
    daemon: psutil.Process


@pytest.fixture(scope="module")
def started() -> Iterator[Started]:
    with Shell() as shell:
        shell.configure({"fast": FAST_APP})
        (out, out_end), (err, err_end), (other, other_end) = os.pipe(), os.pipe(), os.pipe()
        env = {**shell.env, "TASAK_TREE": "of another daemon", "MARK": "kept"}
        caller = shell.start(
            "fast", "echo", "--text", "hi", stdout=out_end, stderr=err_end, pass_fds=[other_end], env=env
        )
        for end in (out_end, err_end, other_end):
            os.close(end)
        assert 0 == caller.wait(PATIENCE)
        yield Started({"out": out, "err": err, "other": other}, psutil.Process(shell.daemon_pid))
        for end in (out, err, other):
            os.close(end)


@pytest.mark.parametrize(("pipe", "expected"), [("out", b"hi\n"), ("err", b""), ("other", b"")])
def test_who_reads_what_a_caller_says_is_not_held_by_the_daemon_it_started(started, pipe, expected):
    came = b""
    while select.select([started.said[pipe]], [], [], PATIENCE)[0] and (piece := os.read(started.said[pipe], 100)):
        came += piece

    assert ([], [], []) != select.select([started.said[pipe]], [], [], 0), "it is still open"
    assert expected == came
    assert started.daemon.is_running()


def test_it_has_the_environment_of_who_started_it_but_for_the_mark_of_another_daemons_tree(started):
    env = started.daemon.environ()

    assert "kept" == env["MARK"]
    assert "TASAK_TREE" not in env


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its limit of addresses")
@pytest.mark.parametrize("kib", [1_000_000, pytest.param(500_000, marks=pytest.mark.slow)])
def test_it_starts_and_serves_where_the_addresses_of_a_process_are_few(shell, kib):
    shell.configure({"fast": FAST_APP})

    counted = [shell.script(f"ulimit -v {kib} && tasak fast counter") for _ in range(2)]

    assert [("1\n", ""), ("2\n", "")] == [(done.stdout, done.stderr) for done in counted]


def test_it_stands_apart_from_who_started_it(started):
    pid = started.daemon.pid

    assert (pid, pid) == (os.getsid(pid), os.getpgid(pid))
    assert "/" == started.daemon.cwd()
    assert None is started.daemon.terminal()


# Connecting


def test_without_a_socket_nobody_listens(state):
    assert None is launcher.connect(state)


def test_on_a_socket_that_a_dead_daemon_left_nobody_listens(state):
    state.create()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(state.socket))

    assert None is launcher.connect(state)


@pytest.mark.parametrize("depth", [0, 150])
def test_a_path_of_any_length_is_reached_and_the_working_directory_stays(shell, depth):
    before = os.getcwd()
    state = StateDir(shell.home / ("x" * depth) / ".tasak")
    state.create()
    with socket.socket(socket.AF_UNIX) as listener:
        launcher.in_folder_of_long_path(state, listener.bind)
        listener.listen()

        with launcher.connect(state) as connection:
            assert os.getpid() == stopper.listener_pid(connection)

    assert before == os.getcwd()


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels refuse where Linux waits")
def test_a_daemon_that_accepts_nobody_is_no_absent_one(state):
    state.create()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(state.socket))
        listener.listen(0)
        first.connect(str(state.socket))

        with pytest.raises(DaemonAway, match="has not accepted a connection for long"):
            launcher.connect(state)


def test_a_socket_that_may_not_be_connected_to_is_told_from_an_absent_daemon(state, shell):
    state.create()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(state.socket))
        listener.listen()
        shell.home.chmod(0o755)
        state.root.chmod(0)
        if not os.geteuid():
            os.seteuid(NOBODY)
        try:
            with pytest.raises(DaemonAway, match=r"is forbidden here: Permission denied \(a sandbox\?\)"):
                launcher.connect(state)
        finally:
            os.seteuid(os.getuid())
            state.root.chmod(0o700)
