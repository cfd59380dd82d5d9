"""The command itself, as a user runs it, without a daemon."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


class Shell:
    """Runs `tasak …` in a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tasak", *words],
            env={"HOME": str(self.home), "PATH": os.environ["PATH"]},
            cwd=Path(__file__).parents[2],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_a_call_prints_its_result_and_nothing_else(shell: Shell) -> None:
    done = shell("demo", "add", "--a", "2", "--b", "3")

    assert (0, "5\n", "") == (done.returncode, done.stdout, done.stderr)


def test_a_tool_that_fails_exits_5(shell: Shell) -> None:
    done = shell("demo", "fail", "--reason", "no luck")

    assert 5 == done.returncode
    assert done.stdout.endswith("no luck\n")


def test_json_on_stdout_is_one_document_errors_included(shell: Shell) -> None:
    done = shell("--json", "demo", "add", "--a", "x")

    assert 2 == done.returncode
    assert "bad_arguments" == json.loads(done.stdout)["error"]["code"]


def test_args_come_from_stdin_when_asked(shell: Shell) -> None:
    done = shell("demo", "echo", "--args", "-", stdin='{"text": "zażółć"}')

    assert "zażółć\n" == done.stdout


def test_an_unknown_app_names_the_nearest(shell: Shell) -> None:
    done = shell("dmeo", "add")

    assert 2 == done.returncode
    assert "tasak: there is no app 'dmeo'\n  did you mean 'demo'?\n" == done.stderr


def test_an_app_without_a_tool_lists_its_tools(shell: Shell) -> None:
    done = shell("demo")

    assert "add(a: integer, b: integer) - Add two numbers" == done.stdout.splitlines()[0]
