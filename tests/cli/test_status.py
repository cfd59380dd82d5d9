"""`tasak daemon status` where something is wrong: it names the command that mends it."""

import pytest

from tests.shell import Shell


def test_a_daemon_that_does_not_run_is_started_by_the_command_that_stands_there(shell: Shell) -> None:
    before = shell.json("daemon", "status")
    shell(*before["fix"].split()[1:])
    after = shell.json("daemon", "status")

    assert ("the daemon does not run", "tasak daemon start") == (before["problem"], before["fix"])
    assert (True, False, False) == (after["running"], "problem" in after, "fix" in after)


def test_a_state_folder_that_others_can_write_to_is_told_with_its_chmod(shell: Shell) -> None:
    state = shell.home / ".tasak"
    state.mkdir()
    state.chmod(0o777)

    found = shell.json("daemon", "status")

    assert f"no daemon: others can write to {state} (mode 777)" == found["problem"]
    assert f"chmod 700 {state}" == found["fix"]
    state.chmod(0o700)


@pytest.mark.slow
def test_a_start_that_failed_is_told_with_its_reason(shell: Shell) -> None:
    shell("daemon", "start", TASAK_DAEMON_PORT="http")

    found = shell.json("daemon", "status")

    assert "the environment variable TASAK_DAEMON_PORT is 'http'" in found["failed_start"]
    assert "tasak daemon start" == found["fix"]


def test_what_a_daemon_that_is_gone_has_left_is_no_daemon(shell: Shell) -> None:
    state = shell.home / ".tasak"
    state.mkdir(mode=0o700)
    for name in ("daemon.pid", "daemon.sock", "daemon.lock"):
        (state / name).touch(mode=0o600)
    (state / "daemon.pid").write_text("1\n")

    found = shell.json("daemon", "status")

    assert (False, "tasak daemon start") == (found["running"], found["fix"])
    assert "the last one, process 1, did not stop by itself: killed, or crashed" == found["ended"]


@pytest.mark.slow
def test_a_daemon_that_was_stopped_has_ended_as_it_should(shell: Shell) -> None:
    shell("daemon", "start")
    shell("daemon", "stop")

    assert "ended" not in shell.json("daemon", "status")


@pytest.mark.parametrize("text", ["", "x\n", "-1\n", "9" * 5000])
def test_a_pid_file_that_names_no_process_says_nothing(shell: Shell, text: str) -> None:
    state = shell.home / ".tasak"
    state.mkdir(mode=0o700)
    (state / "daemon.pid").touch(mode=0o600)
    (state / "daemon.pid").write_text(text)

    assert "ended" not in shell.json("daemon", "status")
