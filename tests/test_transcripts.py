r"""Sessions at a shell, as text: `tests/transcripts/*.txt` hold commands and all that they print.

A line that begins with `$ ` is a command for `sh`; lines behind it that begin with `> ` go on with it. What follows is
its stdout and stderr, and `[exit N]` where it does not end well. `…` stands for anything. Each story runs through the
daemon and without it, and prints the same; one whose first line is `# needs the daemon` runs through the daemon alone.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shell import PATIENCE, STDIO_SERVER, Shell

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
NEEDS_DAEMON = "# needs the daemon"
WHY_DIRECT = "tasak: the daemon does not run, and TASAK_NO_DAEMON is set: called directly, nothing stays warm\n"

ROADS = {"daemon": {}, "direct": {"TASAK_NO_DAEMON": "1"}}

# Stories of many commands.
LONG = ("arguments", "bad_input", "daemon", "state")


def stories() -> Iterator[object]:
    for path in TRANSCRIPTS:
        roads = ["daemon"] if path.read_text().startswith(NEEDS_DAEMON) else list(ROADS)
        for road in roads:
            # Each command without a daemon imports all that a daemon has imported once.
            marks = [pytest.mark.slow] if road == "direct" or path.stem in LONG else []
            yield pytest.param(path, ROADS[road], id=f"{path.stem}-{road}", marks=marks)


@pytest.mark.parametrize(("path", "road"), list(stories()))
def test_the_shell_prints_what_the_transcript_says(path: Path, road: dict[str, str], shell: Shell) -> None:
    shell.env |= road | {"PYTHON": sys.executable, "SERVER": str(STDIO_SERVER)}

    wrong = []
    for command, expected in steps(path.read_text()):
        printed = run(shell, command)
        if not re.fullmatch(as_pattern(expected), printed):
            wrong.append(f"$ {command}\n{printed}--- instead of\n{expected}")

    assert not wrong, "\n".join(wrong)


def steps(text: str) -> Iterator[tuple[str, str]]:
    for step in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *rest = re.split(r"\n(?!> )", step, maxsplit=1)
        yield command.replace("\n> ", "\n"), "".join(rest)


def run(shell: Shell, command: str) -> str:
    done = subprocess.run(
        ["sh", "-c", command],
        env=shell.env,
        cwd=shell.cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    printed = done.stdout.replace(WHY_DIRECT, "").replace(str(shell.home), "~")
    return printed if done.returncode == 0 else f"{printed}[exit {done.returncode}]\n"


def as_pattern(expected: str) -> str:
    # Blank lines and comments between commands are for the reader.
    lines = [line for line in expected.splitlines(keepends=True) if not line.startswith("# ")]
    text = re.sub(r"\n\n+\Z", "\n", "".join(lines))
    return re.escape("" if text == "\n" else text).replace("…", "(?s:.*?)")
