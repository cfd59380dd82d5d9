"""The daemon's process: what it leaves in the state folder, who hears from it, and how it ends."""

import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import pytest
import yaml

from tasak.client import client, launcher
from tasak.client.patience import Watch
from tasak.logs import FILE_SIZE
from tasak.paths import StateDir, open_private, write_private
from tests.shell import FAST_APP, TASAK, until

# Longer than anything here takes on a busy machine.
PATIENCE = 30.0

# sun_path takes 107 bytes on Linux, 103 on macOS.
LONG_NAME = "a-long-name-" * 10


class Daemon:
    """`python -m tasak.daemon`, started in `home` under a careless umask; killed at the end if it still runs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = StateDir(home / ".tasak")
        self.witness = home / "witness"
        self.state.root.mkdir(parents=True, exist_ok=True)
        app = {**FAST_APP, "env": {"EXEC": str(self.witness)}}
        self.state.config.write_text(yaml.safe_dump({"apps": {"fast": app}}))
        self._threads = ThreadPoolExecutor()

    def __enter__(self) -> Self:
        self.spawned_at = time.monotonic()
        self.process = spawn(self.home, umask=0)
        first = self.process.stderr.readline()
        self.ready_at = time.monotonic()
        if first != launcher.READY:
            self.process.kill()
            pytest.fail(f"it does not start: {first + self.process.stderr.read()!r}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        servers = children_of(self) if self.process.poll() is None else []
        self.process.kill()
        self.wait()
        # An app that was used in this process has made it the one that orphans come to.
        until(lambda: all(is_buried(each) for each in servers))
        self.process.stderr.close()
        self._threads.shutdown()

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def connect(self) -> socket.socket:
        connection = launcher.connect(self.state)
        assert connection is not None, "nobody listens"
        return connection

    def ask(self, method: str, path: str) -> tuple[int, Any]:
        status, content = client.ask(self.connect(), method, path, timeout=PATIENCE)
        return status, json.loads(content)

    def health(self) -> Any:
        return self.ask("GET", "/health")[1]

    def call(self, tool: str, **arguments: Any) -> tuple[int, Any]:
        body = {"tool": tool, "arguments": arguments}
        status, content = client.ask_at_length(
            self.connect(), "/tools/call/fast", body, is_exact=False, watch=Watch(silence=PATIENCE, questions=1)
        )
        return status, json.loads(content)

    def calling(self, tool: str, **arguments: Any) -> "Future[tuple[int, Any]]":
        """The same call, under way: its server has it."""
        before = self.ran()
        call = self._threads.submit(self.call, tool, **arguments)
        until(lambda: [*before, tool] == self.ran())
        return call

    def ran(self) -> list[str]:
        return self.witness.read_text().split() if self.witness.exists() else []

    def log(self) -> list[Any]:
        """Its records; it opens the file soon after it is ready."""
        until(lambda: self.state.log.exists() and b"ready" in self.state.log.read_bytes())
        return [json.loads(line) for line in self.state.log.read_text().splitlines()]


def spawn(home: Path, *, umask: int = -1, **env: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "tasak.daemon"],
        env={"HOME": str(home), "PATH": os.environ["PATH"], **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        umask=umask,
    )


def refused(home: Path, **env: str) -> tuple[int, bytes]:
    """The exit status and the last words of a daemon that does not start."""
    with spawn(home, **env) as process:
        try:
            _, said = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    return process.returncode, said


def is_buried(server: psutil.Process) -> bool:
    with suppress(ChildProcessError):
        os.waitpid(server.pid, os.WNOHANG)
    return not server.is_running()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def children_of(daemon: Daemon) -> list[psutil.Process]:
    return psutil.Process(daemon.process.pid).children(recursive=True)


@pytest.fixture
def home() -> Iterator[Path]:
    # Not pytest's tmp_path: socket paths are short.
    with tempfile.TemporaryDirectory(prefix="tasak", dir="/tmp") as made:
        yield Path(made)


@pytest.fixture(scope="module")
def running() -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="tasak", dir="/tmp") as home, Daemon(Path(home)) as daemon:
        daemon.call("echo", text="warm")
        yield daemon


@pytest.fixture(scope="module", autouse=True)
def rival(running: Daemon) -> Iterator["subprocess.Popen[bytes]"]:
    """A second daemon for the same home. It gives the first 5 s to go: whoever asks for its end asks last."""
    with spawn(running.home) as process:
        yield process
        process.kill()


# While it runs


def test_it_answers_when_it_has_said_that_it_is_ready_and_says_nothing_else_ever(running):
    assert "ok" == running.health()["status"]
    assert select.select([running.process.stderr], [], [], PATIENCE)[0], "it still has its starter's stderr"
    assert b"" == running.process.stderr.read()


def test_its_pid_file_begins_with_its_pid(running):
    first, *_ = running.state.pid_file.read_text().split()

    assert running.process.pid == int(first) == running.health()["pid"]


def test_what_it_makes_is_its_owners_alone_whatever_the_umask_is(running):
    running.call("complain", text="into the log")
    running.log()
    state = running.state

    assert 0o700 == mode_of(state.root)
    assert stat.S_ISSOCK(state.socket.lstat().st_mode)
    made = [state.socket, state.lock, state.pid_file, state.log, state.app_log("fast")]
    assert dict.fromkeys(made, 0o600) == {path: mode_of(path) for path in made}


def test_its_uptime_is_that_of_its_process(running):
    least = time.monotonic() - running.ready_at
    uptime = running.health()["uptime"]
    most = time.monotonic() - running.spawned_at

    # It counts from the interpreter's start, not from when it was ready.
    assert least + (running.ready_at - running.spawned_at) / 2 < uptime < most


def test_its_log_is_lines_of_json(running):
    records = running.log()

    assert "ready" in [record["event"] for record in records]
    assert all({"event", "level", "logger", "timestamp"} <= record.keys() for record in records)


def test_a_record_is_one_line_whatever_is_in_it(tmp_path):
    path = tmp_path / "daemon.log"
    program = """
import logging.handlers, sys
from pathlib import Path
from tasak.daemon_log import write_to
early = logging.handlers.MemoryHandler(100)
logging.basicConfig(level="INFO", handlers=[early])
log = logging.getLogger("tasak.test")
log.info("before the log was open")
write_to(Path(sys.argv[1]), early)
log.info("one\\ntwo\\r\\u2028\\x85\\udcff %s", "\\x1b[31m")
try:
    raise ValueError("a\\nb")
except ValueError:
    log.exception("it broke")
log.debug("not this")
"""

    subprocess.run([sys.executable, "-c", program, path], timeout=PATIENCE, check=True)

    early, said, broke = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
    assert "before the log was open" == early["event"]
    assert "one\ntwo\r\u2028\x85\udcff \x1b[31m" == said["event"]
    assert ("it broke", "error", "tasak.test") == (broke["event"], broke["level"], broke["logger"])
    assert broke["exception"].startswith("Traceback")
    assert broke["exception"].endswith("\nValueError")


def test_the_end_of_the_terminal_is_nothing_to_it(running):
    before = running.health()["instance"]

    running.process.send_signal(signal.SIGHUP)

    assert before == running.health()["instance"]
    assert None is running.process.poll()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGQUIT])
def test_whoever_asks_what_it_does_finds_stacks_and_tasks_in_the_log(running, number):
    running.log()
    before = running.state.log.read_text().count("asked what it does")

    running.process.send_signal(number)

    until(lambda: before + 1 == running.state.log.read_text().count("asked what it does"))
    (dump,) = [record["event"] for record in running.log() if "asked what it does" in record["event"]][before:]
    assert "Current thread" in dump
    assert "cleanup of connections: ConnectionManager._clean_for_ever" in dump
    assert None is running.process.poll()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_a_signal_that_ends_no_daemon_does_not_end_one_that_is_only_starting(home, number):
    state = StateDir(home / ".tasak")
    state.create()
    lock = open_private(state.lock, os.O_RDWR)
    assert launcher.has_locked(lock)
    with spawn(home) as process:
        try:
            until(lambda: str(state.lock) in [each.path for each in psutil.Process(process.pid).open_files()])

            process.send_signal(number)
            os.close(lock)

            assert launcher.READY == process.stderr.readline()
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread waits for each")
def test_no_thread_waits_for_a_servers_end(running):
    running.log()
    running.process.send_signal(signal.SIGUSR1)

    until(lambda: "asked what it does" in running.state.log.read_text())
    assert children_of(running)
    assert "_do_waitpid" not in running.state.log.read_text()


def test_a_caller_that_dies_cancels_its_call(running):
    before = running.ran()
    # Longer than this test waits: what cancels the call is not its time.
    words = [TASAK, "--timeout", "600", "fast", "sleep", "--seconds", "600"]
    caller = subprocess.Popen(words, env={"HOME": str(running.home), "PATH": os.environ["PATH"]})
    until(lambda: [*before, "sleep"] == running.ran())

    caller.kill()
    caller.wait(PATIENCE)

    until(lambda: [*before, "sleep", "cancel"] == running.ran())


# How it ends


@pytest.mark.slow
def test_sigterm_lets_running_calls_end_and_leaves_nothing(home):
    with Daemon(home) as daemon:
        call = daemon.calling("sleep", seconds=2)
        children = children_of(daemon)

        daemon.process.terminate()

        until(lambda: daemon.health()["draining"])
        assert (503, "draining") == refusal_of(daemon.call("echo", text="too late"))
        status, result = call.result(PATIENCE)
        assert (200, "slept") == (status, result["content"][0]["text"])
        assert 0 == daemon.wait()
        assert 1 == len(children)
        assert [] == psutil.wait_procs(children, PATIENCE)[1]
        assert ["daemon.lock", "daemon.log"] == sorted(path.name for path in daemon.state.root.glob("daemon.*"))
        assert "stopped" == daemon.log()[-1]["event"]
        assert ["sleep"] == daemon.ran()


def refusal_of(answer: tuple[int, Any]) -> tuple[int, str]:
    status, told = answer
    return status, told["error"]["code"]


@pytest.mark.slow
def test_sigint_does_not_wait_for_running_calls(home):
    with Daemon(home) as daemon:
        call = daemon.calling("sleep", seconds=3)
        children = children_of(daemon)

        daemon.process.send_signal(signal.SIGINT)

        assert (504, "outcome_unknown") == refusal_of(call.result(PATIENCE))
        assert 0 == daemon.wait()
        assert [] == psutil.wait_procs(children, PATIENCE)[1]
        assert not daemon.state.socket.exists()


@pytest.mark.slow
def test_a_second_sigterm_does_not_wait_any_longer_for_running_calls(home):
    with Daemon(home) as daemon:
        call = daemon.calling("sleep", seconds=3)
        daemon.process.terminate()
        until(lambda: daemon.health()["draining"])

        daemon.process.terminate()

        assert (504, "outcome_unknown") == refusal_of(call.result(PATIENCE))
        assert 0 == daemon.wait()


def test_what_a_dead_daemon_left_is_replaced(home):
    state = StateDir(home / ".tasak")
    state.create()
    state.pid_file.write_text("1\n")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(state.socket))

    with Daemon(home) as daemon:
        assert daemon.process.pid == daemon.health()["pid"]
        assert daemon.process.pid == int(state.pid_file.read_text())
        first = daemon.log()[0]
        assert "the daemon before this one, process 1, did not stop by itself: killed, or crashed" == first["event"]


@pytest.mark.slow
def test_a_daemon_takes_nothing_along_that_is_another_ones(home):
    with Daemon(home) as old:
        for path in old.state.root.glob("daemon.*"):
            path.unlink()
        with Daemon(home) as new:
            old.process.send_signal(signal.SIGINT)

            assert 0 == old.wait()
            assert new.process.pid == new.health()["pid"]
            assert new.process.pid == int(new.state.pid_file.read_text())


def replaced(state: StateDir) -> None:
    state.socket.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(state.socket))


def deleted(state: StateDir) -> None:
    shutil.rmtree(state.root)


@pytest.mark.slow
@pytest.mark.parametrize("lose", [replaced, deleted])
def test_a_daemon_whose_socket_is_not_its_own_any_more_ends_and_takes_nothing_along(home, lose):
    with Daemon(home) as daemon:
        daemon.call("echo", text="warm")
        children = children_of(daemon)

        lose(daemon.state)

        assert 0 == daemon.wait()
        assert 1 == len(children)
        assert [] == psutil.wait_procs(children, PATIENCE)[1]
        assert (lose is replaced) is daemon.state.socket.exists()


# Where it runs


@pytest.mark.slow
def test_a_home_whose_path_is_too_long_for_a_socket_will_do(home):
    with Daemon(home / LONG_NAME) as daemon:
        command = [TASAK, "fast", "echo", "--text", "hi"]
        env = {"HOME": str(daemon.home), "PATH": os.environ["PATH"], "TASAK_NO_DAEMON": "1"}
        called = subprocess.run(command, env=env, cwd=home, capture_output=True, timeout=PATIENCE, check=False)

        assert len(str(daemon.state.socket)) > 107
        assert daemon.process.pid == daemon.health()["pid"]
        assert (0, b"hi\n", b"") == (called.returncode, called.stdout, called.stderr)
        assert 1 == daemon.health()["connections"]

        daemon.process.send_signal(signal.SIGINT)

        assert 0 == daemon.wait()
        assert not daemon.state.socket.exists()


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"HOME": "somewhere"}, b"HOME is 'somewhere', which is no absolute path\nset HOME"),
        (
            {"TASAK_DAEMON_LOG_LEVEL": "loud"},
            b"the environment variable TASAK_DAEMON_LOG_LEVEL is 'loud'\nit takes one of",
        ),
        (
            {"TASAK_DAEMON_HOST": "0.0.0.0"},
            b"the environment variable TASAK_DAEMON_HOST is '0.0.0.0'\nit takes a loopback",
        ),
        ({"TASAK_DAEMON_CONN_TTL": "5m"}, b"the environment variable TASAK_DAEMON_CONN_TTL is '5m'\nit takes seconds"),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused_with_what_it_should_be(home, env, reason):
    status, said = refused(home, **env)

    assert 2 == status
    assert said.startswith(reason)
    assert 2 == len(said.splitlines())


def test_a_state_folder_that_others_can_write_to_is_refused(home):
    (home / ".tasak").mkdir()
    (home / ".tasak").chmod(0o777)

    said = f"others can write to {home}/.tasak (mode 777)\nchmod 700 {home}/.tasak\n"
    assert (2, said.encode()) == refused(home)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["daemon.log", "daemon.log.4"])
def test_a_log_that_cannot_be_written_does_not_keep_it_from_serving_and_is_told(home, name):
    state = StateDir(home / ".tasak")
    state.create()
    (state.root / name).mkdir()
    if name != state.log.name:
        # The next line is one too many, and no file but the oldest goes away.
        write_private(state.log, "x" * FILE_SIZE)
        write_private(state.root / "daemon.log.3", "")

    with Daemon(home) as daemon:
        until(lambda: daemon.health()["notices"])

        (notice,) = daemon.health()["notices"]
        assert notice.startswith(f"the daemon's log is not kept: {state.root / name}")
        assert notice.endswith("; `tasak doctor` names what is in the way")
        assert 200 == daemon.ask("GET", "/apps")[0]


@pytest.mark.parametrize("name", [".tasak", ".tasak/daemon.sock", ".tasak/daemon.lock"])
def test_what_stands_in_its_way_is_named_without_a_traceback(home, name):
    obstacle = home / name
    if name == ".tasak":
        obstacle.write_text("")
    else:
        obstacle.mkdir(parents=True)

    status, said = refused(home)

    assert status in (2, 4)
    assert str(obstacle).encode() in said
    assert b"Traceback" not in said


def test_a_state_folder_that_takes_no_more_is_named(home):
    """As on a disk that is full, writing fails there, and the kernel names no file."""
    words = ["sh", "-c", 'ulimit -f 0; exec "$0" -P -m tasak.daemon', sys.executable]
    env = {"HOME": str(home), "PATH": os.environ["PATH"]}

    done = subprocess.run(words, env=env, capture_output=True, timeout=PATIENCE, check=False)

    assert (4, f"no daemon: {home}/.tasak cannot be used: File too large\n".encode()) == (done.returncode, done.stderr)


@pytest.mark.slow
def test_who_was_killed_after_starting_it_takes_it_not_along(home):
    words = [sys.executable, "-P", "-m", "tasak.daemon"]
    with subprocess.Popen(
        words, env={"HOME": str(home), "PATH": os.environ["PATH"]}, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        process.stderr.close()
        try:
            until(lambda: (home / ".tasak" / "daemon.pid").exists())

            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1.0)
        finally:
            process.kill()


def test_a_second_daemon_is_refused_while_one_runs(running, rival):
    _, said = rival.communicate(timeout=PATIENCE)

    assert (4, b"a daemon runs already\n") == (rival.returncode, said)
    assert running.process.pid == running.health()["pid"]
    assert running.process.pid == int(running.state.pid_file.read_text())
