"""What may go wrong between the command and its daemon, and how a call ends all the same: once, and honestly."""

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.shell import FAST_APP, PATIENCE, Shell, hear_interrupts, until

pytestmark = pytest.mark.slow


class Witness:
    """The file in which the server says what it has run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def says(self) -> list[str]:
        return self.path.read_text().split() if self.path.exists() else []

    def wait_for(self, *words: str) -> None:
        until(lambda: list(words) == self.says()[-len(words) :])


@pytest.fixture
def witness(shell: Shell) -> Witness:
    path = shell.home / "exec"
    shell.configure({"fast": FAST_APP | {"env": {"EXEC": str(path)}}})
    return Witness(path)


@pytest.fixture
def hung(shell: Shell, witness: Witness) -> Iterator[psutil.Process]:
    """A daemon that takes connections and does nothing with them."""
    shell("fast", "echo", "--text", "warm")
    daemon = psutil.Process(shell.daemon_pid)
    daemon.suspend()
    yield daemon
    if daemon.is_running():
        daemon.resume()


def test_a_hung_daemon_costs_two_seconds_and_the_call_runs_once(
    shell: Shell, witness: Witness, hung: psutil.Process
) -> None:
    done = shell("fast", "counter")
    hung.resume()
    until(lambda: "daemon" in shell("daemon", "status").stdout)

    assert (0, "1\n") == (done.returncode, done.stdout)
    assert "tasak: the daemon does not answer: called directly, nothing stays warm\n" == done.stderr
    assert ["echo", "counter"] == witness.says()


def test_a_hung_daemon_costs_a_list_of_tools_no_more_than_a_call(shell: Shell, hung: psutil.Process) -> None:
    done = shell("fast")

    assert 0 == done.returncode
    assert "counter(" in done.stdout
    assert "tasak: the daemon did not answer within 2 s: called directly, nothing stays warm\n" == done.stderr


def test_a_hung_daemon_costs_the_list_of_apps_no_more_than_a_call(shell: Shell, hung: psutil.Process) -> None:
    done = shell()

    assert 0 == done.returncode
    assert ["demo", "fast"] == [line.split()[0] for line in done.stdout.splitlines()]
    assert "tasak: the daemon did not answer within 2 s: called directly, nothing stays warm\n" == done.stderr


@pytest.mark.parametrize("option", ["--deep", "--start"])
def test_a_hung_daemon_is_told_by_ping_before_a_server_would_be(
    shell: Shell, hung: psutil.Process, option: str
) -> None:
    done = shell("ping", option, "fast")

    assert (4, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("tasak: the daemon did not answer within 5 s\n")


def test_a_hung_daemon_is_told_by_status_and_ended_by_stop(shell: Shell, hung: psutil.Process) -> None:
    told = shell("daemon", "status")
    stopped = shell("daemon", "stop")

    assert 4 == told.returncode
    assert "problem      the daemon does not answer" in told.stdout
    assert "fix          tasak daemon restart\n" in told.stdout
    assert f"pid          {hung.pid}\n" in told.stdout
    assert 0 == stopped.returncode
    assert not is_alive(hung)


@pytest.mark.parametrize("asked", [["-v"], ["--log-level", "warning"], []])
def test_a_daemon_that_runs_is_not_made_to_log_more_by_a_start_and_that_is_said(shell: Shell, asked: list[str]) -> None:
    first = shell("daemon", "start", "--log-level", "ERROR")
    again = shell("daemon", "start", *asked)

    said = "tasak: it ran already, and logs what it did: `tasak daemon restart` takes --log-level, too\n"
    assert (0, first.stdout, said if asked else "") == (again.returncode, again.stdout, again.stderr)
    assert "" == first.stderr


def test_a_hung_daemon_is_none_that_was_started(shell: Shell, hung: psutil.Process) -> None:
    done = shell("daemon", "start")

    assert (4, "") == (done.returncode, done.stdout)
    assert "tasak: the daemon did not answer within 5 s\n  tasak daemon restart\n" == done.stderr


def test_a_hung_daemon_is_told_by_doctor_and_not_as_another_that_has_its_port(
    shell: Shell, hung: psutil.Process
) -> None:
    found = shell.json("doctor")["findings"]

    (about,) = [each for each in found if each["check"] in ("daemon", "port")]
    assert about["what"].startswith(f"the daemon that runs, process {hung.pid}, does not answer: ")
    assert "tasak daemon restart" == about["fix"]


def test_a_daemon_that_is_killed_in_a_call_leaves_its_outcome_unknown(shell: Shell, witness: Witness) -> None:
    call = shell.start("fast", "sleep", "--seconds", "60")
    witness.wait_for("sleep")

    os.kill(shell.daemon_pid, signal.SIGKILL)
    _, said = call.communicate(timeout=PATIENCE)

    assert 6 == call.returncode
    assert b"tasak: the daemon broke off its answer\n  the call may have run: look before you repeat it\n" == said
    assert ["sleep"] == witness.says()


def test_after_a_kill_the_next_call_starts_another(shell: Shell, witness: Witness) -> None:
    shell("fast", "counter")
    killed = psutil.Process(shell.daemon_pid)
    killed.kill()
    killed.wait(PATIENCE)

    done = shell("fast", "counter")

    assert (0, "1\n") == (done.returncode, done.stdout)
    assert killed.pid != shell.daemon_pid


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_ended_cancels_its_call_and_keeps_the_session(
    number: signal.Signals, shell: Shell, witness: Witness
) -> None:
    shell("fast", "counter")
    call = shell.start("fast", "sleep", "--seconds", "60", preexec_fn=hear_interrupts)
    witness.wait_for("sleep")

    call.send_signal(number)
    call.communicate(timeout=PATIENCE)

    witness.wait_for("sleep", "cancel")
    assert "2\n" == shell("fast", "counter").stdout


def test_ctrl_c_ends_a_first_call_too(shell: Shell, witness: Witness) -> None:
    call = shell.start("fast", "sleep", "--seconds", "60", preexec_fn=hear_interrupts)
    witness.wait_for("sleep")

    call.send_signal(signal.SIGINT)
    _, said = call.communicate(timeout=PATIENCE)

    witness.wait_for("sleep", "cancel")
    assert 130 == call.returncode
    assert said.endswith(b"tasak: cancelled\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_direct_call_that_is_ended_cancels_and_ends_its_server(
    number: signal.Signals, shell: Shell, witness: Witness
) -> None:
    call = shell.start("--no-daemon", "fast", "sleep", "--seconds", "60", preexec_fn=hear_interrupts)
    witness.wait_for("sleep")

    call.send_signal(number)
    call.communicate(timeout=PATIENCE)

    witness.wait_for("sleep", "cancel")
    assert 130 == call.returncode
    until(lambda: not shell.processes())


def test_whoever_captures_the_output_does_not_wait_for_the_daemon(shell: Shell, witness: Witness) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)

    call = shell.start("fast", "echo", "--text", "hello", close_fds=False)
    os.close(writing)
    out, _ = call.communicate(timeout=PATIENCE)

    assert b"hello\n" == out
    assert [reading] == select.select([reading], [], [], PATIENCE)[0]
    assert b"" == os.read(reading, 1)
    os.close(reading)


def test_a_reader_that_has_seen_enough_ends_the_command(shell: Shell, witness: Witness) -> None:
    for words in (["fast"], ["--no-daemon", "fast"]):
        call = shell.start(*words, "big", "--size", "4000000")
        assert call.stdout is not None
        assert b"xxx" == call.stdout.read(3)
        call.stdout.close()
        _, said = call.communicate(timeout=PATIENCE)

        assert call.returncode in (-signal.SIGPIPE, 141)
        assert b"" == said


def test_a_working_directory_that_is_gone_is_no_obstacle(shell: Shell, witness: Witness) -> None:
    gone = shell.home / "gone"
    gone.mkdir()

    done = subprocess.run(
        ["sh", "-c", f"rmdir {gone}; tasak fast echo --text hello"],
        cwd=gone,
        env=shell.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert (0, "hello\n") == (done.returncode, done.stdout)


@pytest.mark.parametrize("command", ["", " ping fast", " daemon status"])
def test_without_a_working_directory_a_relative_config_is_told_and_no_bug(shell: Shell, command: str) -> None:
    gone = shell.home / "gone"
    gone.mkdir()
    shell("daemon", "start")

    done = shell.script(f"cd {gone}; rmdir {gone}; tasak{command}", TASAK_CONFIG="mine.yaml")

    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("tasak: TASAK_CONFIG is 'mine.yaml', and there is no working directory\n")


def test_a_folder_whose_name_is_not_utf_8_is_one_as_any(shell: Shell) -> None:
    folder = shell.home / os.fsdecode(b"\xff")
    folder.mkdir()
    shell.configure({"odd": FAST_APP}, folder)
    shell("odd", "echo", "--text", "hello", cwd=folder)

    assert ["demo", "odd"] == [line.split()[0] for line in shell(cwd=folder).stdout.splitlines()]
    assert 0 == shell("ping", "odd", cwd=folder).returncode
    assert 0 == shell("daemon", "status", cwd=folder).returncode


def test_a_state_folder_that_cannot_be_written_means_direct_calls(shell: Shell, witness: Witness) -> None:
    """As root everything can be written: a file in the folder's place does it for everyone."""
    (shell.home / ".tasak" / "tasak.yaml").rename(shell.home / "tasak.yaml")
    (shell.home / ".tasak").rmdir()
    (shell.home / ".tasak").touch()

    done = shell("fast", "echo", "--text", "hello")
    (shell.home / ".tasak").unlink()

    assert (0, "hello\n") == (done.returncode, done.stdout)
    assert "called directly, nothing stays warm" in done.stderr


def test_debug_goes_direct_and_tells_how_long_each_step_took(shell: Shell, witness: Witness) -> None:
    by_flag = shell("--debug", "fast", "echo", "--text", "hello")
    by_variable = shell("fast", "echo", "--text", "hello", TASAK_DEBUG="1")

    for done in (by_flag, by_variable):
        assert (0, "hello\n") == (done.returncode, done.stdout)
        assert " ms\n" in done.stderr
    assert not (shell.home / ".tasak" / "daemon.pid").exists()


def test_stopping_follows_no_link(shell: Shell) -> None:
    state = shell.home / ".tasak"
    state.mkdir(mode=0o700)
    (state / "daemon.disabled").symlink_to(shell.home / "victim")

    done = shell("daemon", "stop")

    assert 0 == done.returncode
    assert not (shell.home / "victim").exists()


@pytest.mark.parametrize("command", ["start", "stop", "restart", "run"])
def test_a_state_folder_that_cannot_be_made_is_named(shell: Shell, command: str) -> None:
    home = shell.home / "file"
    home.touch()

    done = shell("daemon", command, HOME=str(home))

    said = f"tasak: no daemon: {home}/.tasak cannot be used: Not a directory\n"
    assert (4, "", said) == (done.returncode, done.stdout, done.stderr)


def test_the_log_can_be_followed_also_when_it_is_rotated(shell: Shell) -> None:
    log = shell.home / ".tasak" / "daemon.log"
    log.parent.mkdir(mode=0o700)
    log.write_text("one\n")
    following = shell.start("daemon", "logs", "-f")
    assert following.stdout is not None

    first = following.stdout.readline()
    with log.open("a") as file:
        file.write("two\n")
    second = following.stdout.readline()
    log.rename(log.with_name("daemon.log.1"))
    log.write_text("three\n")
    third = following.stdout.readline()
    following.kill()
    following.communicate(timeout=PATIENCE)

    assert (b"one\n", b"two\n", b"three\n") == (first, second, third)


def test_no_traceback_without_debug(shell: Shell, witness: Witness) -> None:
    plain = shell("nowhere", "to", "--go")
    with_debug = shell("--debug", "nowhere", "to", "--go")

    assert "Traceback" not in plain.stderr
    assert "Traceback" in with_debug.stderr


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_restart_that_cannot_end_well_ends_no_session(shell: Shell, witness: Witness) -> None:
    shell("fast", "counter")

    misled = shell("daemon", "restart", TASAK_DAEMON_PORT="http")
    (shell.home / ".tasak" / "daemon.disabled").mkdir()
    hindered = shell("daemon", "restart")
    (shell.home / ".tasak" / "daemon.disabled").rmdir()

    assert (2, 2) == (misled.returncode, hindered.returncode)
    assert "the environment variable TASAK_DAEMON_PORT is 'http'" in misled.stderr
    assert "daemon.disabled is not a file of yours alone" in hindered.stderr
    assert "2\n" == shell("fast", "counter").stdout
