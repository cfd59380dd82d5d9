import os
import socket
import sys

import pytest

from tasak.client import native
from tests.client.launchers import TASAK_PY, environment, run


@pytest.mark.parametrize("state", ["idle", "away", "blocked", "stranger", "hung", "gone"])
def test_a_state_alone_is_that_state(state):
    found = native.parsed(state)

    assert (state, None) == (found.state, found.reply)


@pytest.mark.parametrize("state", ["unsent", "sent"])
def test_a_descriptor_is_the_connection_to_read_from_and_nobody_else_gets_it(state):
    ours, theirs = socket.socketpair()
    ours.set_inheritable(True)
    with theirs:
        found = native.parsed(f"{ours.detach()}:{state}")
        theirs.sendall(b"reply")
        came = found.reply.recv(5)
        is_inheritable = os.get_inheritable(found.reply.fileno())
        found.reply.close()

    assert (state, b"reply", False) == (found.state, came, is_inheritable)


@pytest.mark.parametrize(
    "text", ["", "sent", "unsent", "idle:", "3:idle", ":sent", "-1:sent", "²:sent", "more", "0x3:sent"]
)
def test_what_nobody_writes_leaves_open_whether_the_call_was_sent(text):
    found = native.parsed(text)

    assert ("sent", b"") == (found.state, found.reply.recv(1))
    found.reply.close()


@pytest.mark.parametrize("number", ["7777", "9" * 30, "{file}"])
def test_a_descriptor_that_is_no_connection_leaves_it_open_too(number, tmp_path):
    with (tmp_path / "file").open("w") as file:
        found = native.parsed(f"{number.format(file=file.fileno())}:unsent")

        assert ("sent", b"") == (found.state, found.reply.recv(1))
        found.reply.close()


def test_it_is_taken_out_of_the_environment_once():
    environ = {"TASAK_REPLY": "hung", "HOME": "/"}

    found = native.take(environ)

    assert "hung" == found.state
    assert {"HOME": "/"} == environ
    assert None is native.take(environ)


@pytest.mark.parametrize(("reply", "launcher"), [(None, "Python"), ("idle", "native")])
def test_tasak_py_works_by_itself_too(tmp_path, reply, launcher):
    script = tmp_path / "tasak-py"
    script.write_text(TASAK_PY)
    (tmp_path / "click.py").write_text("raise RuntimeError('the folder of a script is no place for modules')")
    more = {} if reply is None else {"TASAK_REPLY": reply}

    ended = run([sys.executable, script, "version"], None, env=environment("/nowhere", **more))

    assert b"" == ended.stderr
    assert f"({launcher} launcher)\n".encode() == ended.stdout.partition(b" ")[2].partition(b" ")[2]


@pytest.mark.parametrize("variable", [{}, {"TASAK_REPLY": "sent"}])
def test_the_launcher_in_python_takes_nothing_over(variable):
    ended = run([sys.executable, "-m", "tasak", "version"], None, env=environment("/nowhere", **variable))

    assert ended.stdout.endswith(b"(Python launcher)\n")
