"""The launchers, that in Python and that in C: what holds for one holds for the other, case by case."""

import ctypes
import hashlib
import http.client
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tasak
from tasak import errors
from tasak.client import fast
from tasak.paths import StateDir
from tests.client.daemon_stub import GO_AHEAD, PATIENCE, Caller, DaemonStub, Script, answer, listen_as, plain
from tests.client.launchers import (
    SANITIZERS,
    Launcher,
    compile_library,
    environment,
    handover,
    in_c,
    in_python,
    run,
    state,
    words_of_bytes,
    write_script,
)

NOBODY = 65534

Reading: TypeAlias = Callable[[bytes], tuple[int, int, int] | None]


@pytest.fixture(autouse=True, scope="module")
def interruptible() -> Iterator[None]:
    """Whoever runs the tests in the background has SIGINT ignored, and what is started here would inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> Launcher:
    return in_c(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Launcher:
    return in_c(tmp_path_factory.mktemp("sanitized"), *SANITIZERS)


@pytest.fixture(
    scope="module",
    params=[
        "python",
        pytest.param("native", marks=pytest.mark.compiler),
        pytest.param("sanitized", marks=[pytest.mark.compiler, pytest.mark.slow]),
    ],
)
def launcher(request: pytest.FixtureRequest) -> Launcher:
    return in_python() if request.param == "python" else request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def native_reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    """`plain_answer` of the launcher in C."""
    library = ctypes.CDLL(str(compile_library(tmp_path_factory.mktemp("library"))))

    def reading(seen: bytes) -> tuple[int, int, int] | None:
        told = (ctypes.c_longlong * 3)()
        return tuple(told) if library.reads_as_plain(seen, told) else None

    return reading


def copy_with(launcher: Launcher, folder: Path, successor: str) -> None:
    """The launcher in C, beside a tasak-py that is this line of shell."""
    shutil.copy(launcher.telling[0], folder / "tasak")
    write_script(folder / "tasak-py", f"#!/bin/sh\n{successor}\n")


@pytest.fixture
def home() -> Iterator[Path]:
    """A home where no daemon is; short, because socket paths are."""
    with tempfile.TemporaryDirectory(prefix="tasak", dir="/tmp") as made:
        yield Path(made)


# A plain answer


@pytest.mark.parametrize("status", [0, errors.TOOL_ERROR_EXIT])
def test_a_plain_answer_goes_to_stdout_byte_for_byte(launcher, status):
    body = bytes(range(256)) + b"\r\n\r\nno newline at the end"
    with DaemonStub(answer(plain(body, status=status))) as daemon:
        ended = launcher.call(daemon.home, "app", "tool")

    assert (status, body, b"") == (ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize("status", [1, 2, 6, 255])
def test_what_a_failure_says_goes_to_stderr(launcher, status):
    with DaemonStub(answer(plain(b"tasak: no such tool\n", status=status))) as daemon:
        ended = launcher.call(daemon.home, "app", "tool")

    assert (status, b"", b"tasak: no such tool\n") == (ended.returncode, ended.stdout, ended.stderr)


def test_json_goes_to_stdout_whatever_the_exit_status_is(launcher):
    with DaemonStub(answer(plain(b"{}\n", status=4))) as daemon:
        ended = launcher.call(daemon.home, "--json", "app", "tool")

    assert (4, b"{}\n", b"") == (ended.returncode, ended.stdout, ended.stderr)
    assert "application/json" == daemon.caller.header("Accept")


def test_an_empty_answer_is_an_answer(launcher):
    with DaemonStub(answer(plain(b""))) as daemon:
        ended = launcher.call(daemon.home, "app", "tool")

    assert (0, b"", b"") == (ended.returncode, ended.stdout, ended.stderr)


def test_the_go_ahead_and_the_answer_may_come_in_one_piece(launcher):
    def eager(caller: Caller) -> None:
        caller.read_head()
        caller.send(GO_AHEAD + plain(b"early"))
        caller.read_body()

    with DaemonStub(eager) as daemon:
        ended = launcher.call(daemon.home, "app", "tool")

    assert (0, b"early") == (ended.returncode, ended.stdout)


def test_the_go_ahead_may_come_in_crumbs_and_with_headers(launcher):
    def slow(caller: Caller) -> None:
        caller.read_head()
        for byte in b"HTTP/1.1 100 Go on\r\nDate: today\r\n\r\n":
            caller.send(bytes([byte]))
        caller.read_body()
        caller.send(plain(b"late"))

    with DaemonStub(slow) as daemon:
        ended = launcher.call(daemon.home, "app", "tool")

    assert (0, b"late") == (ended.returncode, ended.stdout)


def test_64_mib_go_through_a_pipe_unchanged(launcher):
    body = os.urandom(1 << 20) * 64
    with DaemonStub(answer(plain(body))) as daemon:
        process = subprocess.Popen(
            launcher.command("app", "tool"), stdout=subprocess.PIPE, env=environment(daemon.home)
        )
        with process, process.stdout:
            came = hashlib.file_digest(process.stdout, "sha256").hexdigest()

    assert (0, hashlib.sha256(body).hexdigest()) == (process.returncode, came)


# The request


def test_the_request_has_the_headers_and_members_that_the_daemon_expects(launcher, home):
    with DaemonStub(answer(plain(b""))) as daemon:
        env = environment(daemon.home, FOO="bär")
        launcher.call(daemon.home, "app", "tool", "--flag", "--json", "-", cwd=home, env=env)

    assert daemon.caller.head.startswith(b"POST /tools/call/app HTTP/1.1\r\nHost: ")
    assert "text/plain" == daemon.caller.header("Accept")
    assert "application/json" == daemon.caller.header("Content-Type")
    assert tasak.__version__ == daemon.caller.header("Tasak-Version")
    assert "100-continue" == daemon.caller.header("Expect")
    assert "close" == daemon.caller.header("Connection")  # there will be no other call
    sent = json.loads(daemon.caller.body)
    assert env.items() <= sent.pop("env").items()
    assert {"tool": "tool", "argv": ["--flag", "--json", "-"], "cwd": os.path.realpath(home)} == sent


@pytest.mark.parametrize(
    "leading",
    [
        "--json --timeout 1.5 --session a --call-id b",
        "--call-id b --session a --timeout 1.5 --json",
        "--session=a --json --call-id=b --timeout=01.5",
        "--timeout 9 --timeout 1.5 --session c=d --session=a --call-id b --json",
    ],
)
def test_leading_options_come_in_any_order_and_either_form(launcher, leading):
    with DaemonStub(answer(plain(b""))) as daemon:
        ended = launcher.call(daemon.home, *leading.split(), "app", "tool", "--timeout", "x")

    sent = json.loads(daemon.caller.body)
    assert 0 == ended.returncode
    assert (1.5, "a", "b", ["--timeout", "x"]) == (sent["timeout"], sent["session"], sent["call_id"], sent["argv"])


def test_bytes_that_are_not_utf8_arrive_as_lone_surrogates(launcher):
    odd = b"\xff\xfe \xc3\xa9 \xed\xb2\x80 \x80"
    with DaemonStub(answer(plain(b""))) as daemon:
        environ = {os.fsencode(name): os.fsencode(value) for name, value in environment(daemon.home).items()}
        ended = launcher.call(None, "app", odd, odd, env=environ | {odd: odd})

    sent = json.loads(daemon.caller.body)
    assert 0 == ended.returncode
    assert "\udcff\udcfe é \udced\udcb2\udc80 \udc80" == sent["tool"]
    assert [odd] * 3 == [
        os.fsencode(sent["tool"]),
        os.fsencode(sent["argv"][0]),
        os.fsencode(sent["env"][sent["tool"]]),
    ]


def test_an_argv_near_the_limit_goes_through(launcher):
    words = ["ä" * 60_000] * (os.sysconf("SC_ARG_MAX") * 8 // 10 // 120_000)
    with DaemonStub(answer(plain(b"ok"))) as daemon:
        ended = launcher.call(daemon.home, "app", "tool", *words)

    assert (0, b"ok") == (ended.returncode, ended.stdout)
    assert words == json.loads(daemon.caller.body)["argv"]


def test_a_terminal_on_stdout_is_told(launcher):
    master, slave = os.openpty()
    with DaemonStub(answer(plain(b"ok"))) as daemon:
        ended = launcher.call(daemon.home, "app", "tool", stdout=slave)
        os.close(slave)
        os.close(master)

    assert 0 == ended.returncode
    assert True is json.loads(daemon.caller.body)["tty"]


def test_a_locale_that_is_not_utf8_changes_nothing(launcher):
    with DaemonStub(answer(plain(b""))) as daemon:
        env = environment(daemon.home, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", WORD=b"\xc3\xa9\xff")
        ended = launcher.call(None, "app", b"\xc3\xa9", env=env)

    sent = json.loads(daemon.caller.body)
    assert (0, "é", "é\udcff") == (ended.returncode, sent["tool"], sent["env"]["WORD"])


# What is not a plain call


@pytest.mark.parametrize(
    "line",
    [
        "",
        "app",
        "list",
        "--help",
        "app ''",
        "'' tool",
        "app --help",
        "-x app tool",
        "-- app tool",
        "--json",
        "--json=1 app tool",
        "--no-daemon app tool",
        "--debug app tool",
        "--session",
        "--session= app tool",
        "--session '' app tool",
        "--session --json app tool",
        "--timeout x --timeout 1 app tool",
        ".app tool",
        "_app tool",
        "äpp tool",
        "a/b tool",
        "'app\n' tool",
        f"{'a' * 65} tool",
        *(
            f"--timeout '{odd}' app tool"
            for odd in ["1s", ".5", "5.", "1.2.3", "1e3", "+1", "-1", "1_0", " 1", "inf", "٣", "²", "1.٣"]
        ),
    ],
)
def test_anything_but_a_plain_call_is_left_alone(launcher, home, line):
    assert "idle" == state(launcher.call(home, *shlex.split(line)))


@pytest.mark.parametrize("app", ["a", "0", "app", "a.b_c-d", "A" * 64])
def test_a_name_is_a_name(launcher, home, app):
    assert "away" == state(launcher.call(home, app, "tool"))


@pytest.mark.parametrize(("debug", "expected"), [("1", "idle"), ("x", "idle"), ("", "away"), ("0", "away")])
def test_debugging_is_left_to_the_full_cli(launcher, home, debug, expected):
    ended = launcher.call(home, "app", "tool", env=environment(home, TASAK_DEBUG=debug))

    assert expected == state(ended)


def test_a_vanished_working_directory_is_left_to_the_full_cli(launcher, home):
    with DaemonStub(answer(plain(b""))) as daemon:
        vanish = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
        ended = run(["/bin/sh", "-c", vanish, "sh", *launcher.command("app", "tool")], daemon.home, cwd=home)

    assert ("idle", []) == (state(ended), daemon.callers)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_standard_stream_is_left_to_the_full_cli(launcher, closed):
    with DaemonStub(answer(plain(b""))) as daemon:
        ended = run(["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *launcher.command("app", "tool")], daemon.home)
        came = [caller.wait_for_hang_up() or caller.body for caller in daemon.callers]

    assert [] == came
    assert closed == "2>&-" or "idle" == state(ended)


# No daemon to be had


def test_the_socket_is_where_the_state_folder_has_it(launcher, monkeypatch):
    with DaemonStub(answer(plain(b""))) as daemon:
        monkeypatch.setenv("HOME", str(daemon.home))

        assert StateDir.of_user().socket == daemon.path
        assert 0 == launcher.call(daemon.home, "app", "tool").returncode


def test_without_a_home_nobody_is_looked_for(launcher):
    assert ["away"] * 3 == [state(launcher.call(home, "app", "tool")) for home in (None, "", "relative")]


def test_without_a_daemon_it_is_away(launcher, home):
    told = handover(launcher.call(home, "app", "tool"))

    assert {"state": "away", "reply": None, "sigint": True, "sigpipe": True} == told


@pytest.mark.parametrize("leftover", ["socket", "file", "folder"])
def test_whatever_else_stands_in_the_place_of_the_socket_is_no_daemon(launcher, home, leftover):
    path = home / ".tasak" / "daemon.sock"
    path.parent.mkdir()
    if leftover == "socket":
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
    elif leftover == "file":
        path.touch()
    else:
        path.mkdir()

    assert "away" == state(launcher.call(home, "app", "tool"))


@pytest.mark.parametrize(("beyond", "expected"), [(0, "gone"), (1, "away")])
def test_a_path_too_long_for_a_socket_is_left_to_the_full_cli(launcher, home, beyond, expected):
    short, long = home / "x", home / ("x" * (fast.LONGEST_PATH - len(f"{home}//.tasak/daemon.sock") + beyond))
    (short / ".tasak").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor() as pool:
        listener.bind(str(short / ".tasak" / "daemon.sock"))
        listener.listen()
        short.rename(long)
        ended = pool.submit(launcher.call, long, "app", "tool")
        while not ended.done():
            if select.select([listener], [], [], 0.05)[0]:
                listener.accept()[0].close()

    assert expected == state(ended.result())


def test_a_folder_that_may_not_be_entered_is_a_sandbox():
    # `_socket` is loaded first, because nobody may not read root's library.
    driver = """
import _socket, os, sys
from tasak.client import fast
if not os.geteuid():
    os.seteuid(65534)
print(fast.run(sys.argv[1:]).state)
"""
    with DaemonStub(answer(plain(b""))) as daemon:
        daemon.path.parent.chmod(0)
        ended = run([sys.executable, "-c", driver, "app", "tool"], daemon.home)
        daemon.path.parent.chmod(0o700)

    assert (b"blocked\n", []) == (ended.stdout, daemon.callers)


@pytest.mark.compiler
def test_a_folder_that_may_not_be_entered_is_a_sandbox_natively(native, home):
    copy_with(native, home, 'echo "$TASAK_REPLY"')
    home.chmod(0o755)
    with DaemonStub(answer(plain(b""))) as daemon:
        daemon.path.parent.chmod(0)
        ended = run([home / "tasak", "app", "tool"], daemon.home, user=None if os.geteuid() else NOBODY)
        daemon.path.parent.chmod(0o700)

    assert (b"blocked\n", []) == (ended.stdout, daemon.callers)


def test_the_daemon_of_another_user_is_told_nothing(launcher, home, capsys):
    if os.geteuid() != 0:
        with capsys.disabled():
            sys.stdout.write("\nonly root can listen as another user: not tested here\n")
        pytest.skip("only root can listen as another user")
    (home / ".tasak").mkdir()
    with listen_as(NOBODY, home / ".tasak" / "daemon.sock") as listener:
        ended = launcher.call(home, "app", "tool")
        connection, _ = listener.accept()
        with connection:
            told = connection.recv(1)

    assert ("stranger", b"") == (state(ended), told)


# A daemon that does not say 100


def says_nothing(caller: Caller) -> None:
    caller.wait_for_hang_up()


def says_half(caller: Caller) -> None:
    caller.read_head()
    caller.send(GO_AHEAD[:15])
    caller.wait_for_hang_up()


def says_a_crumb(caller: Caller) -> None:
    caller.read_head()
    caller.send(GO_AHEAD[:5])
    caller.wait_for_hang_up()


def give_up(launcher: Launcher, script: Script) -> tuple[str, bytes]:
    with DaemonStub(script) as daemon:
        ended = launcher.call(daemon.home, "app", "tool", timeout=fast.STALLED - 1)
        assert daemon.caller.has_hung_up.wait(PATIENCE)
    return state(ended), (daemon.caller.head + daemon.caller.body).partition(b"\r\n\r\n")[2]


@pytest.mark.slow
def test_the_wait_for_100_ends_with_nothing_sent_while_the_wait_for_the_answer_goes_on(launcher):
    is_waiting, has_others_given_up = threading.Event(), threading.Event()

    def take_long(caller: Caller) -> None:
        caller.read_head()
        caller.send(GO_AHEAD)
        caller.read_body()
        is_waiting.set()
        assert has_others_given_up.wait(PATIENCE)
        caller.send(plain(b"at last"))

    with DaemonStub(take_long) as daemon, ThreadPoolExecutor() as pool:
        long = pool.submit(launcher.call, daemon.home, "app", "tool")
        assert is_waiting.wait(PATIENCE)
        given_up = list(pool.map(partial(give_up, launcher), [says_nothing, says_half, says_a_crumb]))
        has_others_given_up.set()

    assert [("hung", b"")] * 3 == given_up
    assert (0, b"at last") == (long.result().returncode, long.result().stdout)


def test_a_daemon_whose_queue_is_full_is_hung(launcher, home):
    (home / ".tasak").mkdir()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(home / ".tasak" / "daemon.sock"))
        listener.listen(0)
        first.connect(listener.getsockname())
        ended = launcher.call(home, "app", "tool")

    # macOS refuses where Linux lets wait.
    assert ("away" if sys.platform == "darwin" else "hung") == state(ended)


LISTEN = """
import socket, sys
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    print(flush=True)
    sys.stdout.buffer.write(listener.accept()[0].makefile("rb").read())
"""


@pytest.mark.slow
def test_a_stopped_daemon_wakes_to_the_head_of_a_request_and_no_call(launcher, home):
    (home / ".tasak").mkdir()
    command = [sys.executable, "-c", LISTEN, home / ".tasak" / "daemon.sock"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as daemon:
        assert b"\n" == daemon.stdout.readline()
        daemon.send_signal(signal.SIGSTOP)
        ended = launcher.call(home, "app", "tool")
        daemon.send_signal(signal.SIGCONT)
        head, _, body = daemon.stdout.read().partition(b"\r\n\r\n")

    assert "hung" == state(ended)
    assert head.startswith(b"POST /tools/call/app ")
    assert b"" == body


@pytest.mark.parametrize("refusal", [b"503 Service Unavailable", b"404 Not Found", b"200 OK"])
def test_a_final_answer_in_place_of_100_is_handed_over_unread(launcher, refusal):
    def refuse(caller: Caller) -> None:
        caller.read_head()
        caller.send(b"HTTP/1.1 %s\r\nContent-Length: 8\r\nTasak-Exit: 0\r\n\r\ndraining" % refusal)
        caller.wait_for_hang_up()

    with DaemonStub(refuse) as daemon:
        told = handover(launcher.call(daemon.home, "app", "tool"))

    assert b"" == daemon.caller.body
    assert {
        "state": "unsent",
        "reply": [int(refusal[:3]), "draining"],
        "blocking": True,
        "sigint": True,
        "sigpipe": True,
    } == told


# A daemon that breaks off

CALLED_BACK = GO_AHEAD + plain(b"ok\n")


def cut_at(launcher: Launcher, place: int) -> tuple[int, int, subprocess.CompletedProcess[bytes], int]:
    def cut(caller: Caller) -> None:
        caller.read_head()
        caller.send(CALLED_BACK[:place])
        if place >= len(GO_AHEAD):
            caller.read_body()

    with DaemonStub(cut) as daemon:
        ended = launcher.call(daemon.home, "app", "tool")
    return place, len(daemon.callers), ended, len(daemon.caller.body)


EVERY_PLACE = range(len(CALLED_BACK) + 1)
BEGINNING_OF_BODY = len(CALLED_BACK) - len(b"ok\n")
NEAR = 2
TURNS = [
    place
    for place in EVERY_PLACE
    if min(abs(place - turn) for turn in (0, len(GO_AHEAD), BEGINNING_OF_BODY, len(CALLED_BACK))) <= NEAR
]


@pytest.fixture(
    scope="module",
    params=[pytest.param(TURNS, id="turns"), pytest.param(EVERY_PLACE, id="everywhere", marks=pytest.mark.slow)],
)
def cuts(
    request: pytest.FixtureRequest, launcher: Launcher
) -> list[tuple[int, int, subprocess.CompletedProcess[bytes], int]]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(partial(cut_at, launcher), request.param))


def test_a_cut_before_the_whole_100_sends_nothing(cuts):
    before = [(ended, body) for place, _, ended, body in cuts if place < len(GO_AHEAD)]

    assert {0} == {body for _, body in before}
    assert {"gone"} == {state(ended) for ended, _ in before}
    assert {None} == {handover(ended)["reply"] for ended, _ in before}


def test_a_cut_in_the_head_of_the_answer_is_handed_over_as_sent(cuts):
    handed_over = [handover(ended) for place, _, ended, _ in cuts if len(GO_AHEAD) <= place < BEGINNING_OF_BODY]

    assert {"sent"} == {told["state"] for told in handed_over}
    assert all(told["reply"] is not None for told in handed_over)


def test_a_cut_in_the_body_is_outcome_unknown(cuts):
    in_body = [ended for place, _, ended, _ in cuts if BEGINNING_OF_BODY <= place < len(CALLED_BACK)]

    assert [b"", b"o", b"ok"] == [ended.stdout for ended in in_body]
    assert {errors.OutcomeUnknown.exit_status} == {ended.returncode for ended in in_body}
    assert {b"tasak: the daemon broke off its answer; the call may have run\n"} == {ended.stderr for ended in in_body}


def test_no_cut_makes_a_second_connection_and_none_looks_like_success(cuts):
    assert {1} == {connections for _, connections, _, _ in cuts}
    assert [(0, b"ok\n")] == [
        (e.returncode, e.stdout) for _, _, e, _ in cuts if not e.returncode and b"handover" not in e.stderr
    ]


def test_a_refusal_in_the_middle_of_the_body_is_still_read(launcher):
    def refuse(caller: Caller) -> None:
        caller.read_head()
        caller.send(GO_AHEAD)
        caller.connection.recv(1)
        caller.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")

    with DaemonStub(refuse) as daemon:
        told = handover(launcher.call(daemon.home, "app", "tool", *["x" * 100_000] * 6))

    assert ("sent", [413, "big"]) == (told["state"], told["reply"])


def test_a_daemon_reset_in_the_middle_of_its_answer_is_outcome_unknown(launcher):
    def die(caller: Caller) -> None:
        caller.read_head()
        caller.send(GO_AHEAD)
        caller.connection.recv(1)
        caller.send(plain(b"ok\n")[:-1])

    with DaemonStub(die) as daemon:
        ended = launcher.call(daemon.home, "app", "tool")

    assert (errors.OutcomeUnknown.exit_status, b"ok") == (ended.returncode, ended.stdout)
    assert b"tasak: the daemon broke off its answer; the call may have run\n" == ended.stderr


# An answer that is not plain


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        (plain(b"ok", more="Tasak-Notice: warm%20state%20lost\r\n"), [200, "ok"]),
        (b"HTTP/1.1 200 OK\r\nTasak-Exit: 0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", [200, "ok"]),
        (plain(b"ok", more="Transfer-Encoding: identity\r\n"), [200, "ok"]),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nTasak-Exit: 2\r\n\r\nok", [404, "ok"]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", [200, "ok"]),
        (b"HTTP/1.1 200 OK\r\nTasak-Exit: 0\r\n\r\nok", [200, "ok"]),
        (plain(b"ok", status=256), [200, "ok"]),
        (plain(b"ok", status=-1), [200, "ok"]),
        (plain(b"ok", more="X-Long: " + "x" * fast.LONGEST_HEAD + "\r\n"), "LineTooLong"),
        (b"", "RemoteDisconnected"),
        (b"\0\r\n\r\n", "BadStatusLine"),
    ],
    ids=lambda given: None,
)
def test_an_answer_that_is_not_plain_is_handed_over_unread(launcher, reply, read):
    with DaemonStub(answer(reply)) as daemon:
        ended = launcher.call(daemon.home, "app", "tool")

    assert {"state": "sent", "reply": read, "blocking": True, "sigint": True, "sigpipe": True} == handover(ended)
    assert (0, b"") == (ended.returncode, ended.stdout)


odd_values = ["256", "-1", "+1", "1_0", "\u00b2", "", "1, 1", "5\r", "9" * 5000]
numbers = st.sampled_from(["0", "5", "255", " 7 ", "\t007", *odd_values])
odd_lines = [
    "tasak-notice: x",
    "Transfer-Encoding: chunked",
    "Content-Length: 1",
    "TASAK-EXIT:1",
    " folded",
    ": x",
    "X",
    "\r",
]
more_lines = st.lists(st.one_of(st.sampled_from(["Date: today", *odd_lines]), st.text(max_size=4)), max_size=2)
status_lines = st.sampled_from(
    ["HTTP/1.1 200 OK"] * 5 + ["HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.0 200 OK", "HTTP/1.1 500 Oops", ""]
)
lines = st.tuples(numbers.map("content-length:{}".format), numbers.map("Tasak-Exit: {}".format), more_lines).flatmap(
    lambda made: st.permutations([*made[:2], *made[2]])
)


@pytest.fixture(params=["python", pytest.param("native", marks=pytest.mark.compiler)], scope="module")
def reading(request: pytest.FixtureRequest) -> Reading:
    """What a launcher makes of an answer, or of its beginning."""
    return fast.plain_answer if request.param == "python" else request.getfixturevalue("native_reading")


@settings(max_examples=300, deadline=None)
@given(status_lines, lines, st.sampled_from(["\r\n\r\n", "\r\n\r\nok", "\r\n", ""]))
def test_what_is_called_plain_is_what_http_client_reads(reading, status_line, lines, end):
    seen = "\r\n".join([status_line, *lines]).encode() + end.encode()

    found = reading(seen)

    if found is not None:
        read = as_http_client_reads(seen)
        assert (seen.index(b"\r\n\r\n") + 4, 200) == (found[0], read.status)
        assert found[1:] == (read.length, int(read.headers["Tasak-Exit"]))
        assert [None, None] == [read.headers["Tasak-Notice"], read.headers["Transfer-Encoding"]]


@pytest.mark.compiler
@settings(max_examples=500, deadline=None)
@given(status_lines, lines, st.sampled_from(["\r\n\r\n", "\r\n\r\nok", "\r\n", ""]))
def test_both_launchers_call_the_same_plain(native_reading, status_line, lines, end):
    seen = "\r\n".join([status_line, *lines]).encode() + end.encode()

    assert fast.plain_answer(seen) == native_reading(seen)


def as_http_client_reads(head: bytes) -> http.client.HTTPResponse:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(head)
        theirs.close()
        response = http.client.HTTPResponse(ours, method="POST")
        response.begin()
        return response


def test_a_plain_head_is_found_plain(reading):
    head = b"HTTP/1.1 200 OK\r\ncontent-length:3\r\nTASAK-EXIT: \t5 \r\n\r\n"

    assert (len(head), 3, 5) == reading(head + b"abc")


@pytest.mark.parametrize(
    "odd", ["X", " folded", "X Y: 1", ": 1", "", "tasak-exit: 5", "Content-Length: 3", "\r", "X: \0"]
)
def test_a_head_with_an_odd_line_is_not_plain(reading, odd):
    head = f"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n{odd}\r\nTasak-Exit: 5\r\n\r\nabc"

    assert None is reading(head.encode())


# Signals


def begin(launcher: Launcher, home: Path) -> "subprocess.Popen[bytes]":
    command = launcher.command("app", "tool")
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(home))


@pytest.mark.parametrize("is_sent", [False, True])
def test_an_interrupted_call_dies_of_the_signal_and_hangs_up(launcher, is_sent):
    is_waiting = threading.Event()

    def wait(caller: Caller) -> None:
        caller.read_head()
        if is_sent:
            caller.send(GO_AHEAD)
            caller.read_body()
        is_waiting.set()
        caller.wait_for_hang_up()

    with DaemonStub(wait) as daemon:
        process = begin(launcher, daemon.home)
        assert is_waiting.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert daemon.caller.has_hung_up.wait(PATIENCE)

    assert (-signal.SIGINT, b"", b"") == (process.returncode, out, err)


def test_an_inherited_ignored_sigint_stays_ignored(launcher):
    is_waiting, is_interrupted = threading.Event(), threading.Event()

    def wait(caller: Caller) -> None:
        caller.read_head()
        caller.send(GO_AHEAD)
        caller.read_body()
        is_waiting.set()
        assert is_interrupted.wait(PATIENCE)
        caller.send(plain(b"done"))

    with DaemonStub(wait) as daemon:
        ignoring = ["/bin/sh", "-c", "trap '' INT; exec \"$@\"", "sh", *launcher.command("app", "tool")]
        process = subprocess.Popen(ignoring, stdout=subprocess.PIPE, env=environment(daemon.home))
        assert is_waiting.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        is_interrupted.set()
        out, _ = process.communicate(timeout=PATIENCE)

    assert (0, b"done") == (process.returncode, out)


def test_a_reader_who_has_enough_ends_us_by_sigpipe(launcher):
    with DaemonStub(broken_by_the_reader) as daemon:
        process = begin(launcher, daemon.home)
        first = process.stdout.read(1)
        process.stdout.close()
        process.wait(PATIENCE)
        err = process.stderr.read()
        process.stderr.close()

    assert (b"x", -signal.SIGPIPE, b"") == (first, process.returncode, err)


def broken_by_the_reader(caller: Caller) -> None:
    caller.read_head()
    caller.send(GO_AHEAD)
    caller.read_body()
    try:
        caller.send(plain(b"x" * (8 << 20)))
    except BrokenPipeError:
        caller.has_hung_up.set()


# Odd outputs


@pytest.mark.parametrize(
    ("path", "mode"), [("/dev/null", "rb"), *([("/dev/full", "wb")] if os.path.exists("/dev/full") else [])]
)
def test_an_output_that_cannot_be_written_is_said(launcher, path, mode):
    with DaemonStub(answer(plain(b"ok"))) as daemon, open(path, mode) as output:
        ended = launcher.call(daemon.home, "app", "tool", stdout=output)

    assert errors.InternalError.exit_status == ended.returncode
    assert re.fullmatch(rb"tasak: cannot write the result: [A-Z][a-z ]+\n", ended.stderr)


def test_a_slow_reader_of_a_non_blocking_pipe_gets_it_all(launcher):
    body = os.urandom(1 << 20)
    with DaemonStub(answer(plain(body))) as daemon:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        process = subprocess.Popen(launcher.command("app", "tool"), stdout=writing, env=environment(daemon.home))
        os.close(writing)
        with open(reading, "rb", buffering=0) as pipe:
            came = b"".join(iter(lambda: pipe.read(1000), b""))
        process.wait(PATIENCE)

    assert (0, True) == (process.returncode, body == came)


# After a hand-over


def test_an_interrupt_after_the_hand_over_is_told_and_hangs_up(launcher):
    """The answer is a stream of progress: the full CLI reads it, in the same process."""

    def stream(caller: Caller) -> None:
        caller.read_head()
        caller.send(GO_AHEAD)
        caller.read_body()
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        line = '{"progress": {"progress": 1, "total": 2}}\n'
        caller.send(f"{head}{len(line):x}\r\n{line}\r\n".encode())
        caller.wait_for_hang_up()

    with DaemonStub(stream) as daemon:
        command = [*launcher.whole, "app", "tool"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(daemon.home)
        ) as process:
            assert b"tasak: 1/2\n" == process.stderr.readline()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
        assert daemon.caller.has_hung_up.wait(PATIENCE)

    assert (errors.Cancelled.exit_status, b"") == (process.returncode, out)
    assert err.endswith(b"tasak: cancelled\n")
    assert 1 == len(daemon.callers)


def test_the_full_cli_knows_which_launcher_has_started_it(launcher, home):
    env = environment(home)

    plainly = run([*launcher.whole, "version"], home, env=env)
    as_json = run([*launcher.whole, "--json", "version"], home, env=env)

    name = "Python" if launcher.name == "python" else launcher.name
    assert f"tasak {tasak.__version__} ({name} launcher)\n" == plainly.stdout.decode()
    assert launcher.name == json.loads(as_json.stdout)["launcher"]


@pytest.mark.parametrize("words", [["help", "--json"], ["--json", "help"]], ids=["behind", "before"])
def test_the_summary_as_json_is_one_document(launcher, home, words):
    plainly = run([*launcher.whole, "help"], home, env=environment(home))
    as_json = run([*launcher.whole, *words], home, env=environment(home))

    assert {"help": plainly.stdout.decode().removesuffix("\n")} == json.loads(as_json.stdout)


@pytest.mark.compiler
@pytest.mark.parametrize("is_sent", [False, True])
def test_without_the_full_cli_beside_it_the_native_launcher_says_what_is_known(native, home, is_sent):
    shutil.copy(native.telling[0], home / "tasak")
    with DaemonStub(answer(b"")) as daemon:
        ended = run([home / "tasak", *(["app", "tool"] if is_sent else ["list"])], daemon.home)

    known = b"may have run" if is_sent else b"has not run"
    assert (errors.OutcomeUnknown.exit_status if is_sent else errors.InternalError.exit_status) == ended.returncode
    assert (
        b"tasak: cannot run tasak-py: No such file or directory\ntasak: the call %s; install tasak again\n" % known
        == ended.stderr
    )


@pytest.mark.compiler
def test_the_full_cli_is_the_one_beside_the_program_whatever_link_leads_there(native, home):
    place, elsewhere = home / "bin", home / "elsewhere"
    place.mkdir()
    elsewhere.mkdir()
    copy_with(native, place, "echo beside")
    write_script(elsewhere / "tasak-py", "#!/bin/sh\necho elsewhere\n")
    (elsewhere / "tasak").symlink_to(place / "tasak")

    ended = run(["tasak", "list"], home, env={"PATH": f"{elsewhere}:{os.defpath}"}, cwd=elsewhere)

    assert b"beside\n" == ended.stdout


# What both write

PREPARED = """
import json, os, sys
from tasak.client import fast
for line in sys.stdin:
    job = json.loads(line)
    if not (child := os.fork()):
        os.environ.clear()
        os.environ.update(job["env"])
        os.chdir(job["cwd"])
        fast.run(job["words"])
        os._exit(0)
    os.waitpid(child, 0)
    print(flush=True)
"""


InPython: TypeAlias = Callable[[Sequence[bytes], Mapping[bytes, bytes], bytes], None]


@pytest.fixture(scope="module")
def in_prepared_python() -> Iterator[InPython]:
    """The launcher in Python, forked from a process that has imported it: a few milliseconds instead of many."""
    command = [sys.executable, "-X", "utf8", "-c", PREPARED]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(None)
    ) as process:

        def call(words: Sequence[bytes], env: Mapping[bytes, bytes], cwd: bytes) -> None:
            names = {os.fsdecode(name): os.fsdecode(value) for name, value in env.items()}
            job = {"words": list(map(os.fsdecode, words)), "env": names, "cwd": os.fsdecode(cwd)}
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            assert "\n" == process.stdout.readline()

        yield call
        process.stdin.close()


leading_options = st.lists(
    st.one_of(
        st.sampled_from([[b"--json"], [b"--timeout", b"1.50"], [b"--timeout=007"], [b"--timeout", b"x"], [b"--odd"]]),
        st.tuples(st.sampled_from([b"--session", b"--call-id"]), words_of_bytes).map(list),
        st.tuples(st.sampled_from([b"--session=", b"--call-id="]), words_of_bytes).map(lambda pair: [b"".join(pair)]),
    ),
    max_size=4,
).map(lambda options: [word for option in options for word in option])
tools = st.one_of(st.just(b"tool"), words_of_bytes)
folders = words_of_bytes.map(lambda name: b"cwd" + name.replace(b"/", b""))
variables = st.dictionaries(words_of_bytes.map(lambda name: b"X" + name.replace(b"=", b"")), words_of_bytes, max_size=5)


@pytest.fixture(scope="module", params=["native", pytest.param("sanitized", marks=pytest.mark.slow)])
def listening(request: pytest.FixtureRequest) -> Iterator[DaemonStub]:
    """In whose home is the launcher in C, which leaves to nobody what it does not do."""
    with DaemonStub(answer(plain(b""))) as daemon:
        copy_with(request.getfixturevalue(request.param), daemon.home, ":")
        yield daemon


@pytest.mark.slow
@pytest.mark.compiler
@pytest.mark.keeps("one daemon and one interpreter answer for all examples")
@settings(max_examples=200, deadline=None)
@given(leading_options, tools, st.lists(words_of_bytes, max_size=5), variables, folders)
def test_both_launchers_write_the_same_request_or_none(
    listening, in_prepared_python, leading, tool, argv, more, folder
):
    home = os.fsencode(listening.home)
    cwd = os.path.join(home, folder)
    os.makedirs(cwd, exist_ok=True)
    words, env = [*leading, b"app", tool, *argv], {b"HOME": home, **more}

    run([os.path.join(home, b"tasak"), *words], None, env=env, cwd=cwd)
    natively = taken_from(listening)
    in_prepared_python(words, env, cwd)

    assert taken_from(listening) == natively
    for _, body in natively:
        sent = json.loads(body)
        assert (argv, cwd) == ([os.fsencode(word) for word in sent["argv"]], os.fsencode(sent["cwd"]))
        assert env == {os.fsencode(name): os.fsencode(value) for name, value in sent["env"].items()}


def taken_from(daemon: DaemonStub) -> list[tuple[bytes, bytes]]:
    requests = [(caller.head, caller.body) for caller in daemon.callers]
    daemon.callers.clear()
    return requests


# As no shell and no Python would start a program: `env` may be anything.
EXECVE = """
import ctypes, os, sys
def array(items):
    return (ctypes.c_char_p * (len(items) + 1))(*items, None)
command = list(map(os.fsencode, sys.argv[1:]))
home = os.environb[b"HOME"]
path = os.environb[b"PYTHONPATH"]
env = [b"TWICE=first", b"HOME=" + home, b"TWICE=second", b"none", b"=odd", b"TWIC=e", b"LC_ALL=C.UTF-8"]
env.append(b"PYTHONPATH=" + path)
ctypes.CDLL(None).execve(command[0], array(command), array(env))
"""


def test_a_variable_that_is_there_twice_has_its_first_value(launcher):
    with DaemonStub(answer(plain(b""))) as daemon:
        ended = run([sys.executable, "-c", EXECVE, *launcher.command("app", "tool")], daemon.home)

    sent = json.loads(daemon.caller.body, object_pairs_hook=list)
    assert 0 == ended.returncode
    assert ["TWICE", "HOME", "", "TWIC", "LC_ALL", "PYTHONPATH"] == [name for name, _ in dict(sent)["env"]]
    assert ("TWICE", "first") in dict(sent)["env"]
