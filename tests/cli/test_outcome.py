"""`--call-id` and `tasak outcome`, with real daemons and commands: a call with an id runs once, whatever dies."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.shell import FAST_APP, PATIENCE, Shell, hear_interrupts, on_a_terminal, until

pytestmark = [pytest.mark.slow, pytest.mark.keeps("some tests share a daemon, whose servers stay warm")]

# Once more than this the answer would have come.
LONG = "60"


class Shop(Shell):
    """A user with a few apps, whose server witnesses each call before it answers."""

    def __init__(self) -> None:
        super().__init__()
        fast = FAST_APP | {"env": {"EXEC": str(self.home / "exec")}}
        starts_later = ["sh", "-c", f'test -e {self.home}/ready && exec "$@"', "sh", *FAST_APP["command"]]
        self.configure({
            "fast": fast,
            "safe": fast | {"tools": {"die": {"retry": "safe"}}},
            "late": fast | {"command": [word.replace("$", "$$") for word in starts_later], "init_attempts": 1},
        })  # fmt: skip

    @property
    def journal(self) -> Path:
        return self.home / ".tasak" / "outcomes.jsonl"

    @property
    def has_daemon(self) -> bool:
        return any("tasak.daemon" in each for each in self.processes())

    def ran(self) -> list[str]:
        witness = self.home / "exec"
        return witness.read_text().split() if witness.exists() else []

    def begin(self, *words: str, call_id: str = "once", **how: Any) -> "subprocess.Popen[bytes]":
        """A long call, which has reached the server."""
        call = self.start(*words, "--call-id", call_id, "fast", "sleep", "--seconds", LONG, **how)
        until(lambda: "sleep" in self.ran())
        return call

    def repeat(self, *words: str, call_id: str = "once") -> "subprocess.CompletedProcess[str]":
        return self(*words, "--call-id", call_id, "fast", "sleep", "--seconds", LONG)

    def kill_daemon(self) -> None:
        os.kill(self.daemon_pid, signal.SIGKILL)
        # Its parent is the command that started it, and after that whoever adopts orphans, which may be us.
        until(lambda: not self.has_daemon)


@pytest.fixture
def shell() -> Iterator[Shop]:
    with Shop() as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Shop]:
    """One with a daemon, for tests that use ids of their own and leave it as it is."""
    with Shop() as made:
        made("fast", "counter")
        yield made


@pytest.fixture
def warm(shared: Shop) -> Shop:
    """The same, with nothing witnessed yet."""
    (shared.home / "exec").unlink(missing_ok=True)
    return shared


HOW_TO_ASK = "`tasak outcome once` tells what is known of it"


@pytest.mark.parametrize("kind", ["warm", pytest.param("cold")])
def test_twenty_commands_with_one_id_make_one_call_and_all_print_its_answer(kind, request):
    shell = request.getfixturevalue("warm" if kind == "warm" else "shell")
    words = ("--call-id", "twenty", "fast", "sleep", "--seconds", "1")

    calls = [shell.start(*words) for _ in range(20)]
    ends = [(call.communicate(timeout=PATIENCE)[0], call.returncode) for call in calls]

    assert [(b"slept\n", 0)] * 20 == ends
    assert ["sleep"] == shell.ran()


@pytest.mark.parametrize(
    "words",
    [("fast", "counter"), ("--json", "fast", "counter"), ("fast", "fail", "--reason", "no luck")],
    ids=lambda words: " ".join(words),
)
def test_a_repeated_call_prints_the_answer_that_the_first_one_had(warm, words):
    call_id = f"repeated-{len(words)}"

    first, second = [warm("--call-id", call_id, *words) for _ in range(2)]

    assert (first.stdout, first.returncode) == (second.stdout, second.returncode)
    assert "" == first.stderr
    assert "is not made again: this was its answer" in second.stderr
    assert 1 == len(warm.ran())


def test_an_id_is_for_one_call(warm):
    warm("--call-id", "one", "fast", "echo", "--text", "one")

    others = [
        warm("--call-id", "one", "fast", "echo", "--text", "two"),
        warm("--call-id", "one", "--json", "fast", "echo", "--text", "one"),
        warm("--call-id", "one", "safe", "echo", "--text", "one"),
    ]

    assert [2] * 3 == [done.returncode for done in others]
    assert "the id one stands for another call, of fast echo\n" in others[0].stderr
    assert ["echo"] == warm.ran()


@pytest.mark.parametrize("call_id", ["a/b", "x" * 129])
def test_what_is_no_id_is_a_mistake(warm, call_id):
    calls = [warm("--call-id", call_id, "fast", "counter"), warm("outcome", call_id)]

    assert [2] * 2 == [done.returncode for done in calls]
    assert {True} == {"is no id of a call" in done.stderr for done in calls}
    assert [] == warm.ran()


def test_arguments_from_a_file_are_compared_by_what_is_in_it(warm):
    file = warm.home / "arguments.json"
    file.write_text('{"text": "hello"}')
    words = ("--call-id", "file", "fast", "echo", "--args", f"@{file}")

    first, second = warm(*words), warm(*words)
    file.write_text('{"text": "another"}')
    third = warm(*words)

    assert [("hello\n", 0)] * 2 == [(each.stdout, each.returncode) for each in (first, second)]
    assert ("", 2) == (third.stdout, third.returncode)
    assert ["echo"] == warm.ran()


def test_the_policys_own_retry_stays_allowed_within_one_id(warm):
    words = ("--call-id", "retried", "safe", "die", "--status", "9")

    first, second = warm(*words), warm(*words)

    assert (6, 6) == (first.returncode, second.returncode)
    assert ["die", "die"] == warm.ran()


def test_a_call_that_could_not_be_made_may_be_made_later_under_the_same_id(warm):
    words = ("--call-id", "later", "late", "echo", "--text", "hello")
    failed = warm(*words)
    known = warm.json("outcome", "later")
    (warm.home / "ready").touch()

    made = warm(*words)

    assert (4, "not_executed", 4) == (failed.returncode, known["outcome"], known["exit"])
    assert ("hello\n", 0) == (made.stdout, made.returncode)


# ── when something dies ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_whose_daemon_was_killed_is_unknown_and_never_made_again(shell):
    call = shell.begin()
    shell.kill_daemon()
    _, said = call.communicate(timeout=PATIENCE)

    without_daemon = shell("outcome", "once")
    assert not shell.has_daemon
    repeated = [shell.repeat(), shell.repeat("--no-daemon")]
    with_daemon = shell("outcome", "once")

    assert 6 == call.returncode
    assert HOW_TO_ASK.encode() in said
    message = "tasak: fast sleep: how call once ended is not known: it was begun by a process that is gone\n"
    for done in (without_daemon, *repeated, with_daemon):
        assert ("", 6) == (done.stdout, done.returncode)
        assert message in done.stderr
    assert {True} == {HOW_TO_ASK in done.stderr for done in repeated}
    assert ["sleep"] == shell.ran()


def test_a_direct_call_that_was_killed_is_unknown_and_never_made_again(shell):
    call = shell.begin("--no-daemon")
    call.kill()
    call.communicate(timeout=PATIENCE)

    repeated = [shell.repeat("--no-daemon"), shell.repeat()]

    assert [6, 6] == [done.returncode for done in repeated]
    assert ["sleep"] == shell.ran()


@pytest.mark.parametrize(
    ("road", "other"),
    [
        pytest.param([], ["--no-daemon"], id="daemon"),
        pytest.param(["--no-daemon"], [], id="direct"),
    ],
)
def test_what_one_process_is_at_no_other_does(warm, road, other):
    call_id = f"alone{len(road)}"
    call = warm.begin(*road, call_id=call_id)

    refused = warm.repeat(*other, call_id=call_id)
    asked = [warm("outcome", call_id), warm("--no-daemon", "outcome", call_id)]
    known = warm.json("outcome", call_id)
    call.terminate()
    call.communicate(timeout=PATIENCE)

    assert 4 == refused.returncode
    assert f"call {call_id} is under way in another process" in refused.stderr
    assert [("", 6)] * 2 == [(done.stdout, done.returncode) for done in asked]
    assert {True} == {f"fast sleep: call {call_id} is under way since " in done.stderr for done in asked}
    assert ("running", None, None) == (known["state"], known["outcome"], known["exit"])
    assert 1 == warm.ran().count("sleep")


def test_a_hung_daemons_call_is_not_made_directly(shell):
    call = shell.begin()
    daemon = psutil.Process(shell.daemon_pid)
    daemon.suspend()

    refused = shell.repeat()
    asked = shell("outcome", "once")
    daemon.resume()
    call.kill()
    call.communicate(timeout=PATIENCE)

    assert (4, 6) == (refused.returncode, asked.returncode)
    assert "is under way in another process" in refused.stderr
    assert "sleep" == shell.ran()[0]
    assert 1 == shell.ran().count("sleep")


def test_what_ran_in_a_daemon_that_is_gone_does_not_run_again(shell):
    words = ("--call-id", "a", "fast", "counter")
    shell(*words)
    shell("daemon", "stop")

    done = [shell(*words), shell("outcome", "a")]
    known = shell.json("outcome", "a")

    gone = "call a has run, with exit status 0, and what it answered is not kept"
    assert [("", 5, True)] * 2 == [(each.stdout, each.returncode, gone in each.stderr) for each in done]
    assert ("executed", 0, None) == (known["outcome"], known["exit"], known["result"])
    assert ["counter"] == shell.ran()


def test_what_ran_directly_does_not_run_in_the_daemon(shell):
    words = ("--call-id", "a", "fast", "counter")

    done = [shell("--no-daemon", *words), shell(*words)]

    assert [("1\n", 0), ("", 5)] == [(each.stdout, each.returncode) for each in done]
    assert ["counter"] == shell.ran()


def test_a_daemon_that_stops_during_a_call_writes_that_down(shell):
    call = shell.begin()

    shell("daemon", "stop", "--drain", "0")
    _, said = call.communicate(timeout=PATIENCE)

    assert 6 == call.returncode
    assert HOW_TO_ASK.encode() in said
    asked = shell("outcome", "once")
    assert 6 == asked.returncode
    assert "call once was cancelled before its answer came" in asked.stderr


def test_one_of_two_commands_may_be_ended_and_the_second_cancels_the_call(warm):
    first = warm.begin(call_id="two", preexec_fn=hear_interrupts)
    words = ("--call-id", "two", "fast", "sleep", "--seconds", LONG)
    second = warm.start(*words, preexec_fn=hear_interrupts)
    daemon = psutil.Process(warm.daemon_pid)
    until(lambda: 2 == callers(daemon))
    # Whoever has an answer now has come after the second, whose call the daemon has then read, too.
    assert 0 == warm("daemon", "status").returncode

    first.send_signal(signal.SIGINT)
    first.communicate(timeout=PATIENCE)
    until(lambda: 1 == callers(daemon))
    assert ["sleep"] == warm.ran()
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=PATIENCE)

    until(lambda: ["sleep", "cancel"] == warm.ran())
    assert 6 == warm.repeat(call_id="two").returncode
    assert ["sleep", "cancel"] == warm.ran()


def callers(daemon: psutil.Process) -> int:
    """How many connections it has on its socket, beside the one that listens."""
    return len([each for each in daemon.net_connections("unix") if each.laddr.endswith("daemon.sock")]) - 1


@pytest.mark.timeout(300)
def test_a_daemon_that_is_killed_at_any_moment_makes_no_call_twice(shell):
    shell("fast", "counter")
    for number in range(20):
        words = ("--call-id", f"{number}", "fast", "echo", "--text", f"{number}")
        call = shell.start(*words)
        time.sleep(number * 0.005)  # the moment is the point
        shell.kill_daemon()
        call.communicate(timeout=PATIENCE)
        before = shell.ran().count("echo")
        shell(*words)
        shell(*words)

        assert shell.ran().count("echo") <= number + 1
        assert shell.ran().count("echo") - before <= 1


# ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "words",
    [
        ("fast", "echo", "--text", "zażółć"),
        ("--json", "fast", "echo", "--text", "hello"),
        ("fast", "fail", "--reason", "no luck"),
        ("fast", "refuse", "--code", "-32603"),
        ("fast", "die", "--status", "9"),
    ],
    ids=lambda words: " ".join(words),
)
def test_asking_prints_what_the_call_printed_and_ends_as_it_did(warm, words):
    call_id = f"asked-{'-'.join(words[1:3])}"
    called = warm("--call-id", call_id, *words)

    asked = warm("outcome", call_id)

    assert (called.stdout, called.returncode) == (asked.stdout, asked.returncode)
    told = [line for line in called.stderr.splitlines() if "tasak outcome" not in line and "fresh session" not in line]
    assert told == asked.stderr.splitlines()


def test_of_arguments_that_the_tool_did_not_take_nothing_is_kept(warm):
    called = warm("--call-id", "mistaken", "fast", "echo", "--txt", "hello")

    asked = warm("outcome", "mistaken")

    assert (2, "") == (called.returncode, called.stdout) == (asked.returncode, asked.stdout)
    assert "unknown flag --txt" in called.stderr
    assert "the tool does not take these arguments" in asked.stderr
    assert "txt" not in asked.stderr


def test_asking_as_json_tells_all(warm):
    warm("--call-id", "json-1", "fast", "fail", "--reason", "no luck")
    warm("--call-id", "json-2", "fast", "die", "--status", "9")

    before, behind = warm("--json", "outcome", "json-1"), warm("outcome", "json-2", "--json")

    first, second = json.loads(before.stdout), json.loads(behind.stdout)
    expected = {
        "call_id": "json-1",
        "app": "fast",
        "tool": "fail",
        "state": "ended",
        "outcome": "executed",
        "exit": 5,
        "error": None,
        "age": first["age"],
        "result": "no luck\n",
    }
    assert expected == first
    assert ("unknown", 6, None) == (second["outcome"], second["exit"], second["result"])
    assert ("session_lost", "unknown") == (second["error"]["code"], second["error"]["outcome"])
    assert [(5, ""), (6, "")] == [(done.returncode, done.stderr) for done in (before, behind)]


def test_asking_for_what_nobody_knows(shell, warm):
    for user in (shell, warm):
        done = user("outcome", "nothing")

        assert ("", 2) == (done.stdout, done.returncode)
        assert done.stderr.startswith("tasak: no call nothing is known\n")
    assert not shell.has_daemon


def test_a_call_without_an_id_says_nothing_of_outcomes_and_leaves_the_journal_alone(warm):
    before = warm.journal.read_bytes() if warm.journal.exists() else None

    done = warm("fast", "die", "--status", "9")

    assert 6 == done.returncode
    assert "tasak outcome" not in done.stderr
    assert before == (warm.journal.read_bytes() if warm.journal.exists() else None)


def test_on_a_terminal_an_answer_that_was_kept_is_inert(warm):
    words = ("--call-id", "terminal", "fast", "echo", "--text", "\x1b[2Jhello")
    warm(*words)

    for printed in (on_a_terminal(warm, *words), on_a_terminal(warm, "outcome", "terminal")):
        assert rb"\x1b[2Jhello" in printed
        assert b"\x1b" not in printed


# ── the journal ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("road", [[], ["--no-daemon"]], ids=["daemon", "direct"])
def test_the_journal_is_private_under_any_umask_and_holds_no_argument(shell, road):
    words = " ".join(["tasak", *road, "--call-id", "a", "fast", "echo", "--text", "secret"])

    subprocess.run(["sh", "-c", f"umask 000; {words}"], env=shell.env, cwd=shell.cwd, check=True, capture_output=True)

    assert 0o600 == stat.S_IMODE(shell.journal.stat().st_mode)
    assert "secret" not in shell.journal.read_text()


def test_where_nothing_can_be_written_a_call_with_an_id_is_refused_and_others_are_made(shell):
    """As root everything can be written: a file in the folder's place does it for everyone."""
    config = shell.home / "project" / "tasak.yaml"
    config.parent.mkdir()
    (shell.home / ".tasak" / "tasak.yaml").rename(config)
    (shell.home / ".tasak").rmdir()
    (shell.home / ".tasak").touch()

    with_id = shell("--call-id", "a", "fast", "counter", cwd=config.parent)
    without = shell("fast", "counter", cwd=config.parent)
    (shell.home / ".tasak").unlink()

    assert ("", 4) == (with_id.stdout, with_id.returncode)
    assert "cannot be written down" in with_id.stderr
    assert ("1\n", 0) == (without.stdout, without.returncode)
    assert ["counter"] == shell.ran()


def test_a_warm_call_without_an_id_loads_nothing_for_it(shell):
    code = (
        "import sys, tasak.core.gateway; print(*[name for name in sys.modules if 'call_' in name or 'outcome' in name])"
    )

    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)

    assert "\n" == done.stdout
