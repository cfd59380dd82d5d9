"""What is read from the caller's stdin, and what becomes of a call where there is none."""

import pytest

from tests.shell import FAST_APP, Shell


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--no-daemon fast echo --args -", "tasak: fast echo: --args: expected a JSON object"),
        ("auth login far --no-browser", "tasak: http://127.0.0.1:1/mcp, which the sign-in needs, cannot be reached"),
    ],
)
def test_a_stdin_that_is_closed_says_nothing(shell: Shell, words, said):
    shell.configure({"fast": FAST_APP, "far": {"url": "http://127.0.0.1:1/mcp", "auth": "oauth"}})

    done = shell.script(f"tasak {words} <&-")

    assert "" == done.stdout
    assert done.stderr.startswith(said)


@pytest.mark.slow
def test_input_that_does_not_end_is_not_read_to_its_end(shell: Shell):
    shell.configure({"fast": FAST_APP})

    done = shell("--no-daemon", "fast", "echo", "--args", "@/dev/zero")

    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("tasak: --args @/dev/zero is more than the 64 MiB that a call can carry\n")
