"""A stdout that takes nothing: one line says so, whatever was to be written, and nothing is done again for it."""

import os
import shlex

import pytest

from tests.shell import FAST_APP, PATIENCE, Done, Shell, on_a_terminal

pytestmark = pytest.mark.slow

EXECUTED = "; the call was executed"
CALL = ["fast", "counter"]

full_or_closed = pytest.mark.parametrize(
    ("to", "reason"),
    [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")],
    ids=["full", "closed"],
)


@pytest.fixture
def home(shell: Shell) -> Shell:
    shell.configure({"fast": FAST_APP | {"env": {"EXEC": str(shell.home / "exec")}}})
    return shell


def executions(home: Shell) -> list[str]:
    witness = home.home / "exec"
    return witness.read_text().split() if witness.exists() else []


def run(home: Shell, words: list[str], to: str, **env: str) -> Done:
    return home.script(f"tasak {shlex.join(words)} {to}", **env)


@full_or_closed
@pytest.mark.parametrize(
    ("words", "env"),
    [
        (["--no-daemon", *CALL], {}),
        (["--no-daemon", "--json", *CALL], {}),
        (CALL, {"TASAK_NO_DAEMON": "1"}),
        (CALL, {}),
        (["--json", *CALL], {}),
    ],
    ids=["direct", "direct-json", "no-daemon-there", "cold", "cold-json"],
)
def test_a_call_was_executed_once_and_that_is_said(home, words, env, to, reason):
    done = run(home, words, to, **env)

    assert 1 == done.returncode
    assert f"tasak: cannot write the result: {reason}{EXECUTED}" == done.stderr.splitlines()[-1]
    assert ["counter"] == executions(home)


@full_or_closed
@pytest.mark.parametrize(
    "words",
    ["", "--json", "fast", "--no-daemon fast counter --help", "version", "--version", "--help", "help", "daemon --help",
     "daemon status", "daemon stop --json", "plugins", "--debug version"],
)  # fmt: skip
def test_our_own_commands_say_it_in_one_line(home, words, to, reason):
    done = run(home, words.split(), to)

    assert (1, f"tasak: cannot write the result: {reason}") == (done.returncode, done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
    assert [] == executions(home)


@full_or_closed
def test_an_error_s_document_is_told_in_words_instead_and_its_status_stays(home, to, reason):
    done = run(home, ["--no-daemon", "--json", "nobody", "there"], to)

    assert 2 == done.returncode
    first, second, *_ = done.stderr.splitlines()
    assert f"tasak: cannot write the result: {reason}" == first
    assert "tasak: there is no app 'nobody'" == second


def test_a_reader_who_has_gone_hears_nothing_of_an_error_s_document_either(home):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        left = home.start("--no-daemon", "--json", "nobody", "there", stdout=writing)
    finally:
        os.close(writing)
    _, said = left.communicate(timeout=PATIENCE)

    assert (141, b"") == (left.returncode, said)


@pytest.mark.parametrize("to", [">&- 2>&-", ">/dev/full 2>/dev/full", "<&- >&- 2>&-"])
def test_with_nobody_to_tell_the_status_alone_says_it(home, to):
    done = run(home, ["--no-daemon", *CALL], to)

    assert (1, "", "") == (done.returncode, done.stdout, done.stderr)
    assert ["counter"] == executions(home)


def test_on_a_narrow_terminal_no_character_of_a_table_is_lost(home):
    project = home.home / ("a-folder-of-a-long-name-" * 4)
    home.configure({"local": FAST_APP}, project)
    home("trust", str(project))
    home.env |= {"COLUMNS": "60", "TERM": "xterm"}

    printed = "".join(on_a_terminal(home, "trust").decode().split())

    assert f"{project}/tasak.yaml" in printed.replace("trusted", "")
