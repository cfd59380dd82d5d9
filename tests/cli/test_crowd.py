"""Many callers at once, and very long answers."""

import hashlib
import subprocess

import pytest

from tests.shell import FAST_APP, TASAK, Shell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LONGEST = 64 << 20


@pytest.fixture
def fast(shell: Shell) -> Shell:
    shell.configure({"fast": FAST_APP | {"env": {"EXEC": str(shell.home / "exec")}}})
    return shell


@pytest.mark.parametrize("again", range(3))
def test_fifty_first_callers_get_one_daemon_one_server_and_fifty_answers(fast: Shell, again: int) -> None:
    calls = [fast.start("fast", "echo", "--text", str(number)) for number in range(50)]

    ends = [(call.communicate(timeout=120), call.returncode) for call in calls]

    assert [((f"{number}\n".encode(), b""), 0) for number in range(50)] == ends
    assert ["echo"] * 50 == (fast.home / "exec").read_text().split()
    assert 1 == len([each for each in fast.processes() if "tasak.daemon" in each])
    assert 1 == len([each for each in fast.processes() if "stdio_server" in each])


@pytest.mark.parametrize("road", [[], ["--no-daemon"]], ids=["daemon", "direct"])
def test_a_result_of_64_mib_arrives_whole_through_a_pipe(fast: Shell, road: list[str]) -> None:
    fast("fast", "echo", "--text", "warm")

    digest = hashlib.sha256()
    words = [TASAK, *road, "fast", "big", "--size", str(LONGEST)]
    with subprocess.Popen(words, env=fast.env, cwd=fast.cwd, stdout=subprocess.PIPE) as call:
        assert call.stdout is not None
        while piece := call.stdout.read(1 << 16):
            digest.update(piece)

    assert 0 == call.returncode
    assert hashlib.sha256(b"x" * LONGEST + b"\n").hexdigest() == digest.hexdigest()


def test_a_long_argument_arrives_whole(fast: Shell) -> None:
    text = "ü" * 60_000

    done = fast("fast", "echo", "--text", text)

    assert f"{text}\n" == done.stdout


def test_twenty_slow_calls_run_side_by_side(fast: Shell) -> None:
    fast("fast", "echo", "--text", "warm")
    calls = [fast.start("fast", "sleep", "--seconds", "5") for _ in range(20)]

    ends = [call.communicate(timeout=60)[0] for call in calls]

    assert [b"slept\n"] * 20 == ends
    (metrics,) = [
        each["value"]
        for each in fast.json("metrics")["tasak_request_seconds_sum"]
        if each["labels"] == {"app": "fast", "operation": "call"}
    ]
    # One after the other they would have waited for 5, 10, 15 … seconds.
    assert metrics < 20 * 10
